"""Write the inputs of the commands in README.md: ``make_readme_inputs.py FOLDER``.

FOLDER/data is a data set of five clips of `fe50`, 10 s each, of which two are test clips.
FOLDER/videos holds two videos: the skating example twice over, with drums.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from imageio_ffmpeg import get_ffmpeg_exe

from loris_cli.array_types import Array, Samples
from loris_cli.baselines.drum_kit import DrumHit, render_drum_hits
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.build_manifest import build_manifest
from loris_cli.dataset.clip_cutting import PrepSettings, Segment
from loris_cli.dataset.clip_media import ClipMedia
from loris_cli.dataset.records import new_record, write_record
from loris_cli.dataset.source_names import SourceInfo
from loris_cli.dataset.write_clip import write_clip
from loris_cli.synthetic.dancer import simulate_dance

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "skate.mp4"
CLIP_S, VIDEO_S = 10.0, 36.0
PARTITIONS = ("train", "train", "val", "test", "test")


def draw_times(duration_s: float, seed: int) -> Array:
    """Draw random drum times in seconds."""
    gaps_s = np.random.default_rng(seed).uniform(0.3, 0.9, round(duration_s))
    times_s = np.cumsum(gaps_s)
    return times_s[times_s < duration_s - 0.2]


def render_drums(duration_s: float, seed: int) -> Samples:
    """Render kick drums at random times, ``(samples,)`` at 22,050 Hz."""
    hits: list[DrumHit] = [(t, "kick", 1.0) for t in draw_times(duration_s, seed)]
    return render_drum_hits(hits, round(duration_s * SAMPLE_RATE_HZ), seed=seed)


def write_dataset(data_dir: Path) -> None:
    """Write clips of dances to drums, a source each, and their manifest."""
    for k, partition in enumerate(PARTITIONS):
        settings = PrepSettings(
            activity="floor",
            separator="none",
            pose_estimator="none",
            reject_unfit=False,
            partition=partition,
        )
        source = data_dir / f"drums-{k}.mp4"
        audio, accents_s = render_drums(CLIP_S, seed=k), draw_times(CLIP_S, seed=k)
        energy = np.full(round(CLIP_S * POSE_FPS), 0.5)
        dance = simulate_dance(
            k, accents_s, np.ones(len(accents_s)), duration_s=CLIP_S, energy=energy
        )
        row = write_clip(
            ClipMedia(mix=audio, accompaniment=audio, poses=dance.poses),
            clip_id=f"drums-{k}",
            segment=Segment(subset="fe50", index=0, start_s=0.0, duration_s=CLIP_S),
            source_name=source.name,
            source=SourceInfo(activity="floor", genre="floor", groups=(source.stem,)),
            data_dir=data_dir,
            settings=settings,
        )
        sha256 = hashlib.sha256(source.name.encode()).hexdigest()
        write_record(data_dir, new_record(source, settings, sha256=sha256) | {"clips": [row]})
    build_manifest(data_dir)


def write_videos(folder: Path) -> None:
    """Write videos that are long enough for a clip of 25 s after trimming."""
    folder.mkdir()
    for k in range(2):
        audio = folder / "drums.wav"
        soundfile.write(audio, render_drums(VIDEO_S, seed=10 + k), SAMPLE_RATE_HZ)
        options = ["-v", "error", "-stream_loop", "1", "-i", EXAMPLE, "-i", audio, "-shortest"]
        options += ["-map", "0:v", "-map", "1:a", "-c:v", "copy", folder / f"skate-{k}.mp4"]
        subprocess.run([get_ffmpeg_exe(), *map(str, options)], check=True)
        audio.unlink()


if __name__ == "__main__":
    write_dataset(Path(sys.argv[1], "data"))
    write_videos(Path(sys.argv[1], "videos"))

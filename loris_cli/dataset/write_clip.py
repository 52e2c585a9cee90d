"""One clip's files, what was measured of it, and its row of the manifest.

music -> accents, beats, energy; poses -> the rhythm they show -> FLAC, npz -> row
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.audio.accents import listen
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import Segment, Settings
from loris_cli.dataset.extract_poses import Seen
from loris_cli.dataset.filters import measure, reasons
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.records import Record, fingerprint
from loris_cli.errors import OutputError
from loris_cli.pose.keypoints import Poses, write_poses
from loris_cli.rhythm.pose_rhythm import motion_energy, rhythm_from_poses
from loris_cli.soundtrack.conditioning import accents_of
from loris_cli.synthetic.dancer import LOOSEST_S
from loris_cli.system.atomic_files import printable, replacing

Array = NDArray[np.float64]

MET_S = 0.1
"""A peak of the body answers for an accent no further away."""
FEW_MEETINGS = 4


def write_clip(
    clip: Clip,
    segment: Segment,
    data: Path,
    *,
    mix: NDArray[np.float32],
    music: NDArray[np.float32],
    seen: Seen | None,
    visual: Mapping[str, NDArray[np.float32]],
    size: tuple[int, int],
    gaps_s: Sequence[tuple[float, float]],
    settings: Settings,
) -> Record:
    """Write one clip's files and give its row, as far as the video knows it.

    Args:
        clip: what it is called and where its files belong; the poses' place is filled in.
        segment: which part of the source it is.
        data: the data set's folder.
        mix: its own sound, mono at 22,050 Hz.
        music: what is kept of it, as long.
        seen: its body; None where nobody looked.
        visual: features of its picture, by who made them.
        size: width and height of the source's picture, in px; zeros where unknown.
        gaps_s: where the source's frames are missing, from and to.
        settings: how it was made.
    """
    heard = listen(music, settings.onsets)
    arrays: dict[str, Any] = {
        "accents_s": heard.accents_s,
        "strengths": heard.strengths,
        "energy": heard.energy,
        "beats_s": heard.beats_s,
    }
    written: dict[str, Callable[[Path], None]] = {}
    if seen is not None and seen.poses.seen_share:
        poses = seen.poses
        clip = replace(clip, poses=f"poses/{clip.id}.npz")
        written[clip.poses] = lambda path: write_poses(path, poses)
        arrays |= _shown(poses, heard.accents_s)
    clip = replace(clip, visual={by: f"visual/{clip.id}.{by}.npz" for by in visual})
    written |= {clip.visual[by]: _features(rows) for by, rows in visual.items()}
    written[clip.rhythm] = lambda path: np.savez(path, **arrays)
    written[clip.audio] = lambda path: _write_sound(path, music)
    files = {name: write_file(data / name, write) for name, write in written.items()}
    measures = measure(
        mix=mix,
        music=music,
        separated=settings.separator != "none",
        n_bodies=None if seen is None else seen.n_bodies,
        seen=None if seen is None else round(seen.poses.seen_share, 4),
        gaps_s=gaps_s,
        span_s=(segment.start_s, segment.stop_s),
    )
    return asdict(clip) | {
        "start_s": segment.start_s,
        "files": files,
        "size": list(size),
        "poses_from": settings.poses,
        "separator": settings.separator,
        "visual_sha256": settings.visual_sha256,
        "made_up": settings.made_up,
        "measures": asdict(measures),
        "rejected": reasons(measures) if settings.filters else [],
    }


def _features(rows: NDArray[np.float32]) -> Callable[[Path], None]:
    return lambda path: np.savez(path, features=rows)


def write_file(place: Path, write: Callable[[Path], None]) -> dict[str, Any]:
    """Write a file, whole or not at all, and give what is told of it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place, overwrite=True) as hidden:
        write(hidden)
    sha256, n_bytes = fingerprint(place)
    return {"sha256": sha256, "bytes": n_bytes}


def _shown(poses: Poses, accents_s: Array) -> dict[str, Array]:
    """The rhythm that a body shows, and how near it keeps to the music."""
    rhythm = rhythm_from_poses(
        poses.keypoints, fps=poses.fps, interval_s=poses.interval_s, cuts=poses.cuts
    )
    peaks_s, strengths = accents_of(rhythm.times_s, rhythm.strengths)
    return {
        "seen_peaks_s": peaks_s,
        "seen_strengths": strengths,
        "seen_energy": motion_energy(poses.keypoints, poses.fps, cuts=poses.cuts),
        "looseness": np.array(looseness(peaks_s, accents_s)),
    }


def looseness(peaks_s: Array, accents_s: Array) -> float:
    """How far a body's peaks stray from the accents they meet.

    Args:
        peaks_s: of the body, ``(peaks,)``.
        accents_s: of the music, ``(accents,)``.

    Returns:
        standard deviation of their distances, of 40 ms, 0..1; 1 where few meet.
    """
    if not len(peaks_s) or not len(accents_s):
        return 1.0
    distance_s = accents_s[None, :] - peaks_s[:, None]
    nearest_s = distance_s[np.arange(len(peaks_s)), np.abs(distance_s).argmin(axis=1)]
    met_s = nearest_s[np.abs(nearest_s) <= MET_S]
    if len(met_s) < FEW_MEETINGS:
        return 1.0
    return float(min(met_s.std() / LOOSEST_S, 1.0))


def _write_sound(path: Path, samples: NDArray[np.float32]) -> None:
    """FLAC of 16 bits; what is beyond full scale is brought down, not cut."""
    peak = float(np.abs(samples).max(initial=0.0))
    try:
        soundfile.write(path, samples / max(peak, 1.0), SAMPLE_RATE_HZ, format="FLAC")
    except soundfile.LibsndfileError as error:  # it does not say that the disk is full
        raise OutputError(
            f"{printable(path)} cannot be written: {error}",
            hint="free some space, or make the data set on another disk with --data",
        ) from error

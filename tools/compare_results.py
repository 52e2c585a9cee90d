"""Compare the results of two commits bit by bit: ``compare_results.py [--media DIR]``.

    worktrees of BASE and HEAD -> results on the same inputs -> arrays -> comparison

Each commit runs in separate processes, with its worktree first on the import path and an empty
cache. The script compares the decoded soundtracks, poses and visual rhythms of the example
video and of the clips in DIR, the official and strict scores of 20 random pairs, the losses of
a short training run of ``mini``, and the training and sampling of a small paper network. The
tables below map names at HEAD to names at BASE. Takes about 15 minutes on two cores.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BASE = "e6c27e8"
Arrays = dict[str, np.ndarray[Any, Any]]

# Classes and functions used by the probe: name at HEAD -> name at BASE.
SYMBOLS = {
    "loris_cli.dataset.manifest:Clip": "loris_cli.dataset.manifest:Clip",
    "loris_cli.dataset.manifest:write_manifest": "loris_cli.dataset.manifest:write_manifest",
    "loris_cli.pose.keypoints:Poses": "loris_cli.pose.keypoints:Poses",
    "loris_cli.pose.keypoints:read_poses": "loris_cli.pose.keypoints:read_poses",
    "loris_cli.pose.keypoints:write_poses": "loris_cli.pose.keypoints:write_poses",
    "loris_cli.audio.onsets:detect_onsets": "loris_cli.evaluation.onsets:detect_onsets",
    "loris_cli.audio.beat_tracking:track_beats": "loris_cli.evaluation.trackers:beats",
    "loris_cli.evaluation.metrics.loris_scores:detect_protocol_onsets":
        "loris_cli.evaluation.beats:onset_times",
    "loris_cli.evaluation.metrics.loris_scores:flag_onset_seconds":
        "loris_cli.evaluation.beats:flags",
    "loris_cli.evaluation.metrics.loris_scores:score_clip": "loris_cli.evaluation.beats:score",
    "loris_cli.evaluation.metrics.loris_scores:summarize_scores":
        "loris_cli.evaluation.beats:summary",
    "loris_cli.evaluation.metrics.sync:AudioEvents": "loris_cli.evaluation.strict:Events",
    "loris_cli.evaluation.metrics.sync:score_against_reference":
        "loris_cli.evaluation.strict:against_truth",
    "loris_cli.evaluation.metrics.sync:score_against_motion":
        "loris_cli.evaluation.strict:against_motion",
    "loris_cli.models.generator_interface:VideoFeatures":
        "loris_cli.conditioning:ClipFeatures",
    "loris_cli.models.load_model:PaperCheckpoint": "loris_cli.networks.library:NamedPaper",
    "loris_cli.models.paper_config:PaperConfig": "loris_cli.networks.paper_config:PaperConfig",
    "loris_cli.models.paper_unet:PaperModel": "loris_cli.networks.paper:PaperModel",
    "loris_cli.soundtrack.waveform_generator:WaveformGenerator":
        "loris_cli.waveform_model:WaveformGenerator",
}  # fmt: skip
# Fields, settings, file keys and file names: name at HEAD -> name at BASE.
FIELDS = {
    "partition": "split", "sha256_prefix": "fingerprint", "frame_interval_s": "interval_s",
    "pose_peaks_s": "seen_peaks_s", "pose_peak_strengths": "seen_strengths",
    "motion_energy": "seen_energy", "timing_jitter": "looseness",
    "context_features": "features", "n_visual_frames": "video_length",
    "n_pose_frames": "pose_length", "visual_projection": "visual", "motion_encoder": "motion",
    "batch_size": "batch", "validation_clips": "validate_clips",
    "validation_samples": "sounds", "metrics.jsonl": "log.jsonl", "val_loss": "held_out",
}  # fmt: skip


class Names:
    """Translation of names at HEAD to names of one commit."""

    def __init__(self, side: str) -> None:
        """Create the translation for ``base`` or ``head``."""
        self.is_base = side == "base"

    def symbol(self, name: str) -> Any:
        """Import a class or function."""
        module, attribute = (SYMBOLS[name] if self.is_base else name).split(":")
        return getattr(importlib.import_module(module), attribute)

    def field(self, name: str) -> str:
        """Translate the name of a field, a setting or a file."""
        return FIELDS.get(name, name) if self.is_base else name

    def fields(self, **values: Any) -> dict[str, Any]:
        """Translate the names of keyword arguments."""
        return {self.field(name): value for name, value in values.items()}


def make_sound(seed: int, duration_s: float) -> tuple[np.ndarray[Any, Any], Any]:
    """Return clicks in noise at 22,050 Hz, ``(samples,)``, and the times of the clicks (s)."""
    rng = np.random.default_rng(seed)
    times_s = np.sort(rng.uniform(0.2, duration_s - 0.3, int(2 * duration_s)))
    sound = 0.01 * rng.normal(size=round(duration_s * 22_050))
    for time_s in times_s:
        start = round(time_s * 22_050)
        sound[start : start + 400] += np.hanning(800)[400:] * rng.normal(size=400)
    return (0.9 * sound / np.abs(sound).max()).astype(np.float32), times_s


def probe_scores(names: Names) -> Arrays:
    """Compute official and strict scores of 20 random pairs."""
    sync = "loris_cli.evaluation.metrics.sync"
    official = SimpleNamespace(
        **{
            name: names.symbol(f"loris_cli.evaluation.metrics.loris_scores:{name}")
            for name in (
                "detect_protocol_onsets", "flag_onset_seconds", "score_clip",
                "summarize_scores",
            )
        }
    )  # fmt: skip
    found: Arrays = {}
    pairs = []
    for k in range(20):
        flags, events = [], []
        for seed in (2 * k, 2 * k + 1):
            sound, times_s = make_sound(seed, 6.0 + 0.3 * (seed % 2 == 0))
            onsets_s = official.detect_protocol_onsets(sound)
            flags.append(official.flag_onset_seconds(onsets_s, len(sound)))
            events.append(
                names.symbol(f"{sync}:AudioEvents")(
                    onsets_s=names.symbol("loris_cli.audio.onsets:detect_onsets")(sound),
                    beats_s=names.symbol("loris_cli.audio.beat_tracking:track_beats")(sound),
                )
            )
        pairs.append(official.score_clip(*flags))
        strict = names.symbol(f"{sync}:score_against_reference")(*events)
        motion = names.symbol(f"{sync}:score_against_motion")(times_s, events[1].onsets_s)
        found[f"official {k}"] = np.array(list(asdict(pairs[-1]).values()))
        found[f"strict {k}"] = np.array([*strict.values(), *motion.values()])
    summary = official.summarize_scores(pairs)
    found["official summary"] = np.array(list(asdict(summary).values()))
    return found


def write_data_set(names: Names, folder: Path) -> None:
    """Write a data set of two training clips, one of them with poses, and a validation clip."""
    clips = []
    for name in ("audio", "rhythm", "poses"):
        (folder / name).mkdir(parents=True)
    import soundfile

    for k, partition in enumerate(("train", "train", "val")):
        sound, times_s = make_sound(100 + k, 24.0)
        paths = {name: f"{name}/clip{k}" for name in ("audio", "rhythm", "poses")}
        soundfile.write(folder / f"{paths['audio']}.flac", sound, 22_050)
        arrays = {
            "accents_s": times_s, "strengths": np.ones(len(times_s)),
            "energy": np.full(384, 0.5), "beats_s": np.empty(0),
        }  # fmt: skip
        if k == 0:
            arrays |= names.fields(
                pose_peaks_s=times_s + 0.02,
                pose_peak_strengths=arrays["strengths"],
                motion_energy=arrays["energy"],
                timing_jitter=np.array(0.5),
            )
            keypoints = np.random.default_rng(0).uniform(0, 100, (384, 17, 3))
            keypoints[..., 2] = 0.9
            poses = names.symbol("loris_cli.pose.keypoints:Poses")(
                keypoints=keypoints.astype(np.float32),
                times_s=np.arange(384) / 16,
                fps=16.0,
                size=(100, 100),
                interpolated=np.zeros(384, dtype=bool),
                cuts=np.zeros(0, dtype=np.int64),
            )
            write_poses = names.symbol("loris_cli.pose.keypoints:write_poses")
            write_poses(folder / f"{paths['poses']}.npz", poses)
        np.savez(folder / f"{paths['rhythm']}.npz", **arrays)
        clips.append(
            names.symbol("loris_cli.dataset.manifest:Clip")(
                id=f"clip{k}",
                subset="clicks",
                duration_s=24.0,
                genre="pop",
                source="clicks",
                audio=f"{paths['audio']}.flac",
                rhythm=f"{paths['rhythm']}.npz",
                poses=f"{paths['poses']}.npz" if k == 0 else "",
                **names.fields(partition=partition),
            )
        )
    names.symbol("loris_cli.dataset.manifest:write_manifest")(folder, clips)


def probe_training(names: Names, folder: Path) -> Arrays:
    """Train both stages of ``mini`` for 5 steps, a small paper network for 3; return losses."""
    data = folder / "data"
    write_data_set(names, data)
    common = {"batch_size": 2, "validation_clips": 1, "validation_samples": 0, "log_every": 1}
    small = {"channels": 64, "context_features": 16, "motion_encoder": "true"}
    runs: dict[str, tuple[list[str], dict[str, Any]]] = {
        "mini": ([], {"steps": 5, **common}),
        "paper": (["--preset", "paper"], {"steps": 3, **common, "batch_size": 1, **small}),
    }
    found: Arrays = {}
    for run, (options, settings) in runs.items():
        values = [f"{names.field(key)}={value}" for key, value in settings.items()]
        given = [word for value in values for word in ("--set", value)]
        out = folder / run
        command = ["train", "--data", str(data), "--split", "clicks", "-o", str(out)]
        run_loris([*command, "--device", "cpu", *options, *given])
        for log in sorted(out.rglob(names.field("metrics.jsonl"))):
            rows = [json.loads(line) for line in log.read_text().splitlines()]
            for key in ("loss", "val_loss"):
                losses = [row[names.field(key)] for row in rows if names.field(key) in row]
                found[f"{run} {log.parent.name} {key}"] = np.array(losses, dtype=float)
    return found


def probe_paper_model(names: Names) -> Arrays:
    """Generate audio with a small paper network, 3 sampling steps."""
    import torch

    torch.manual_seed(0)
    config = names.symbol("loris_cli.models.paper_config:PaperConfig")(
        channels=64, multipliers=(1, 1), factors=(2,), num_blocks=(1,), attentions=(True,),
        heads=1, head_features=16, n_genres=12,
        **names.fields(
            context_features=16, n_visual_frames=4, n_pose_frames=32, visual_projection="none",
            motion_encoder=True,
        ),
    )  # fmt: skip
    network = names.symbol("loris_cli.models.paper_unet:PaperModel")(config).eval()
    model = names.symbol("loris_cli.models.load_model:PaperCheckpoint")(
        network=network, name="small", **names.fields(sha256_prefix="0" * 12)
    )
    features = names.symbol("loris_cli.models.generator_interface:VideoFeatures")(
        duration_s=3.0,
        peaks_s=np.arange(0.5, 3, 0.5),
        strengths=np.ones(5),
        energy=np.full(48, 0.5),
        genre="pop",
        keypoints=np.random.default_rng(1).uniform(0, 100, (48, 17, 3)),
    )
    generator = names.symbol("loris_cli.soundtrack.waveform_generator:WaveformGenerator")(
        model=model, device=torch.device("cpu"), steps=3
    )
    blocks = generator.generate(features, seed=7, progress=lambda done, total: None)
    return {"paper model, 3 steps": np.concatenate(list(blocks), axis=1)}


def run_loris(words: list[str]) -> None:
    """Run loris from the worktree that is first on the import path."""
    subprocess.run([sys.executable, "-m", "loris_cli", *words, "--quiet"], check=True)


def decode_audio(path: Path) -> np.ndarray[Any, Any]:
    """Decode the audio track of a file, ``(channels, samples)``."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate([frame.reshape(len(frame), -1) for frame in frames], axis=1)


def probe_clip(names: Names, clip: Path, folder: Path) -> Arrays:
    """Compute soundtracks of two seeds, poses, and rhythms from poses and from optical flow."""
    found: Arrays = {}
    for seed in (0, 7):
        out = folder / f"{clip.stem}-{seed}.mp4"
        run_loris(
            ["soundtrack", str(clip), "-o", str(out), "--seed", str(seed), "--steps", "6"]
        )
        found[f"{clip.name} soundtrack, seed {seed}"] = decode_audio(out)
    out = folder / f"{clip.stem}.npz"
    try:
        run_loris(["pose", str(clip), "-o", str(out)])
    except subprocess.CalledProcessError:  # no person in the video
        found[f"{clip.name} poses"] = np.zeros(0)
    else:
        poses = names.symbol("loris_cli.pose.keypoints:read_poses")(out)
        for name in ("keypoints", "times_s", "interpolated", "cuts"):
            found[f"{clip.name} poses {name}"] = getattr(poses, name)
    for method in ("directogram", "flow"):
        out = folder / f"{clip.stem}-{method}.json"
        run_loris(["rhythm", str(clip), "-o", str(out), "--rhythm", method])
        content = json.loads(out.read_text())
        for name in ("times_s", "strengths", "envelope"):
            found[f"{clip.name} {method} {name}"] = np.array(content[name])
    return found


def probe(side: str, clips: list[Path], output: Path) -> None:
    """Write all results of the worktree that is first on the import path."""
    names = Names(side)
    folder = output.parent / f"{side}-files"
    folder.mkdir()
    found = probe_scores(names) | probe_paper_model(names)
    for clip in clips:
        found |= probe_clip(names, clip, folder)
    found |= probe_training(names, folder)
    with output.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **found)


def check_out(commit: str, folder: Path) -> None:
    """Create a worktree in which ``loris_cli.commands`` is importable without installation."""
    command = ["git", "worktree", "add", "--quiet", "--detach", str(folder), commit]
    subprocess.run(command, cwd=ROOT, check=True)
    (folder / "loris_cli" / "commands").symlink_to(folder / "commands")


def run_probe(side: str, tree: Path, clips: list[Path], output: Path) -> None:
    """Run this script as the probe of one worktree."""
    command = [sys.executable, str(Path(__file__).resolve()), "--probe", side]
    environment = os.environ | {
        "PYTHONPATH": str(tree), "LORIS_CACHE": str(output.parent / f"cache-{side}"),
    }  # fmt: skip
    subprocess.run(
        [*command, "--output", str(output), *map(str, clips)],
        cwd=output.parent,
        env=environment,
        check=True,
    )


def compare(base: Arrays, head: Arrays) -> int:
    """Print a row per result; return the number of results that differ."""
    n_different = 0
    for name in sorted(base.keys() | head.keys()):
        one, other = base.get(name), head.get(name)
        if one is None or other is None:
            verdict = "missing at " + ("BASE" if one is None else "HEAD")
        elif one.shape != other.shape:
            verdict = f"shapes differ: {one.shape} and {other.shape}"
        elif one.dtype == other.dtype and one.tobytes() == other.tobytes():
            verdict = "equal"
        else:
            verdict = f"maximum difference {np.abs(one.astype(float) - other).max():g}"
        n_different += verdict != "equal"
        shape = "" if one is None else "x".join(map(str, one.shape)) or "1"
        print(f"{name:<52} {shape:>14}  {verdict}")
    print(f"{len(base.keys() | head.keys())} results, {n_different} differ")
    return n_different


def main() -> None:
    """Check out both commits, run the probe in each, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--media", type=Path, help="Folder of additional MP4 clips.")
    parser.add_argument("--probe", choices=["base", "head"], help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("clips", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        probe(options.probe, options.clips, options.output)
        return
    clips = [ROOT / "examples" / "skate.mp4"]
    clips += sorted(options.media.resolve().glob("*.mp4")) if options.media else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {}
        try:
            for side, commit in (("base", options.base), ("head", "HEAD")):
                check_out(commit, folder / side)
                run_probe(side, folder / side, clips, folder / f"{side}.npz")
                with np.load(folder / f"{side}.npz") as arrays:
                    results[side] = dict(arrays)
        finally:
            for side in ("base", "head"):
                remove = ["git", "worktree", "remove", "--force", str(folder / side)]
                subprocess.run(remove, cwd=ROOT, check=False, stderr=subprocess.DEVNULL)
    sys.exit(bool(compare(results["base"], results["head"])))


if __name__ == "__main__":
    main()

"""Speed and exactness of `loris eval`: ``python benchmarks/eval.py``.

Scores 189 random pairs of 25 s, the number and duration of the test clips of ``da25``, with
the official protocol: by a plain script that reads the files sequentially like the authors'
script, and by `loris eval`, first with an empty cache and then with the reference audio already
analysed. Each run is a separate process; its time includes imports. Prints wall times, their
ratios, CPU times (less sensitive to other processes), and the largest difference of any score.
Exits with an error unless that difference is 0.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import librosa
import numpy as np
import soundfile

RATE_HZ = 22_050
METRICS = ("BCS", "CSD", "BHS", "HSD", "F1")


def write_random_audio(path: Path, seed: int, seconds: float) -> None:
    """Write a WAV file of decaying tones and noise bursts at random times, over low noise."""
    rng = np.random.default_rng(seed)
    audio = rng.normal(0, 10 ** rng.uniform(-4, -2), round(seconds * RATE_HZ))
    times_s = np.arange(round(0.4 * RATE_HZ)) / RATE_HZ
    for _ in range(rng.integers(2, round(4 * seconds))):
        start = int(rng.integers(len(audio)))
        decay = np.exp(-times_s / rng.uniform(0.01, 0.2))
        tone = np.sin(2 * np.pi * rng.uniform(60, 3000) * times_s)
        hit = (
            rng.uniform(0.05, 0.5) * decay * (tone if rng.random() < 0.7 else rng.normal(0, 1))
        )
        audio[start : start + len(hit)] += hit[: len(audio) - start]
    soundfile.write(path, audio / max(np.abs(audio).max(), 1), RATE_HZ)


def flag_onsets_plainly(path: Path) -> list[int]:
    """Return 1 for each second of a file that contains an onset, else 0; without loris."""
    samples, rate_hz = librosa.load(path)
    onsets_s = librosa.onset.onset_detect(
        y=samples, sr=rate_hz, wait=1, delta=0.2, pre_avg=3, post_avg=3, pre_max=3,
        post_max=3, units="time",
    )  # fmt: skip
    seconds = [0] * int(np.ceil(len(samples) / rate_hz))
    for time_s in onsets_s:
        seconds[int(np.trunc(time_s))] = 1
    return seconds


def score_plainly(generated_dir: Path, reference_dir: Path) -> list[float]:
    """Return `METRICS` of two folders of audio with the same file names, without loris."""
    coverages, hits = [], []
    for path in sorted(generated_dir.iterdir()):
        generated = flag_onsets_plainly(path)
        reference = flag_onsets_plainly(reference_dir / path.name)[: len(generated)]
        n_hits = sum(1 for a, b in zip(reference, generated, strict=True) if a == b == 1)
        coverages.append(n_hits / sum(generated) if sum(generated) else 0)
        hits.append(n_hits / sum(reference) if sum(reference) else 0)
    # The script is older than Python 3.12, whose sum compensates for rounding errors.
    coverage, hit = reduce(add, coverages) / len(coverages), reduce(add, hits) / len(hits)
    f1 = 2 * coverage * hit / (coverage + hit)
    return [coverage, float(np.std(coverages, ddof=1)), hit, float(np.std(hits, ddof=1)), f1]


@dataclass(frozen=True)
class Timing:
    """Wall and CPU time of a process."""

    wall_s: float
    cpu_s: float
    """Includes child processes."""

    def format_row(self, name: str, baseline: "Timing | None" = None) -> str:
        """Format the times and the speed-up over a baseline as one line."""
        line = f"{name:22} {self.wall_s:7.2f} s, {self.cpu_s:7.2f} s CPU"
        if baseline is None:
            return line
        return f"{line}, {baseline.wall_s / self.wall_s:5.2f} times as fast"


def run_timed(arguments: list[str | Path], cache_dir: Path) -> tuple[str, Timing]:
    """Run Python with arguments; return its standard output and its times."""
    start_s, before = time.perf_counter(), os.times()
    completed = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], stdout=subprocess.PIPE, text=True,
        check=True, env={**os.environ, "LORIS_CACHE": str(cache_dir)},
    )  # fmt: skip
    after = os.times()
    cpu_s = after.children_user - before.children_user
    cpu_s += after.children_system - before.children_system
    return completed.stdout, Timing(time.perf_counter() - start_s, cpu_s)


def score_with_loris(
    generated_dir: Path, reference_dir: Path, jobs: int, cache: Path
) -> tuple[list[float], Timing]:
    """Return `METRICS` computed by `loris eval`, and its times."""
    output, timing = run_timed(
        ["-m", "loris_cli", "eval", "--generated", generated_dir, "--reference", reference_dir,
         "--no-strict", "--bound", "none", "--jobs", str(jobs), "--format", "json"],
        cache,
    )  # fmt: skip
    [row] = json.loads(output)["systems"]
    return [row["official"][name] for name in METRICS], timing


def main() -> None:
    """Write random audio, score it with both programs, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=189)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--plain", type=Path, help="Score only this folder, with the plain script."
    )
    args = parser.parse_args()
    if args.plain is not None:
        print(json.dumps(score_plainly(args.plain / "generated", args.plain / "reference")))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generated, reference = folder / "generated", folder / "reference"
        for audio_dir in (generated, reference):
            audio_dir.mkdir()
        for k in range(args.clips):
            for side, audio_dir in enumerate((reference, generated)):
                write_random_audio(audio_dir / f"{k:04}.wav", 2 * k + side, args.seconds)
        # Warm up compiler and file system caches before the first timed run.
        warm_dirs = [folder / "warm" / audio_dir.name for audio_dir in (generated, reference)]
        for warm_dir in warm_dirs:
            shutil.copytree(generated, warm_dir, ignore=lambda _, names: sorted(names)[2:])
        score_with_loris(warm_dirs[0], warm_dirs[1], 1, folder / "cache-warm")
        run_timed([__file__, "--plain", folder / "warm"], folder)

        output, plain = run_timed([__file__, "--plain", folder], folder)
        cold_scores, cold = score_with_loris(generated, reference, args.jobs, folder / "cache")
        score_with_loris(reference, reference, args.jobs, folder / "cached")
        cached_scores, cached = score_with_loris(
            generated, reference, args.jobs, folder / "cached"
        )
    print(f"{args.clips} pairs of {args.seconds:g} s, {args.jobs} processes")
    print(plain.format_row("plain script"))
    print(cold.format_row("loris eval", plain))
    print(cached.format_row("loris eval, cached", plain))
    expected = json.loads(output)
    difference = max(
        abs(a - b)
        for scores in (cold_scores, cached_scores)
        for a, b in zip(scores, expected, strict=True)
    )
    print(f"largest difference    {difference:g}")
    if difference:
        sys.exit("error: the scores of loris eval differ from those of the plain script")


if __name__ == "__main__":
    main()

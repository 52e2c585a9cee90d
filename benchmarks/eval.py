"""How long scoring takes, and whether it is exact: ``python benchmarks/eval.py``.

189 random pairs of 25 s, as many and as long as the test clips of ``da25``, are scored by the
official protocol: by a plain script, one file after the other as the authors' does it, and by
`loris eval`, first with nothing known and then with the truth heard before. Each is a process
of its own, timed from its start to its end, imports included. Prints the seconds, their ratios
and the largest difference of any figure, which has to be 0; and beside the seconds those of
processors, which say more where other programs run too.
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
from pathlib import Path

import librosa
import numpy as np
import soundfile

RATE_HZ = 22_050
METRICS = ("BCS", "CSD", "BHS", "HSD", "F1")


def write_random_audio(path: Path, seed: int, seconds: float) -> None:
    """Fading tones and bursts of noise at random moments, over a little noise."""
    rng = np.random.default_rng(seed)
    sound = rng.normal(0, 10 ** rng.uniform(-4, -2), round(seconds * RATE_HZ))
    since_s = np.arange(round(0.4 * RATE_HZ)) / RATE_HZ
    for _ in range(rng.integers(2, round(4 * seconds))):
        start = int(rng.integers(len(sound)))
        fall = np.exp(-since_s / rng.uniform(0.01, 0.2))
        tone = np.sin(2 * np.pi * rng.uniform(60, 3000) * since_s)
        hit = rng.uniform(0.05, 0.5) * fall * (tone if rng.random() < 0.7 else rng.normal(0, 1))
        sound[start : start + len(hit)] += hit[: len(sound) - start]
    soundfile.write(path, sound / max(np.abs(sound).max(), 1), RATE_HZ)


def plain_onset_flags(path: Path) -> list[int]:
    """Seconds of a file with an onset, as a script with no library of ours would have them."""
    samples, rate_hz = librosa.load(path)
    found = librosa.onset.onset_detect(
        y=samples, sr=rate_hz, wait=1, delta=0.2, pre_avg=3, post_avg=3, pre_max=3,
        post_max=3, units="time",
    )  # fmt: skip
    seconds = [0] * int(np.ceil(len(samples) / rate_hz))
    for time_s in found:
        seconds[int(np.trunc(time_s))] = 1
    return seconds


def score_plainly(generated_dir: Path, reference_dir: Path) -> list[float]:
    """The five scores of two folders, likewise."""
    covers, hits = [], []
    for path in sorted(generated_dir.iterdir()):
        ours = plain_onset_flags(path)
        theirs = plain_onset_flags(reference_dir / path.name)[: len(ours)]
        n_hits = sum(1 for a, b in zip(theirs, ours, strict=True) if a == b == 1)
        covers.append(n_hits / sum(ours) if sum(ours) else 0)
        hits.append(n_hits / sum(theirs) if sum(theirs) else 0)
    cover, hit = sum(covers) / len(covers), sum(hits) / len(hits)
    f1 = 2 * cover * hit / (cover + hit)
    return [cover, float(np.std(covers, ddof=1)), hit, float(np.std(hits, ddof=1)), f1]


@dataclass(frozen=True)
class Timing:
    """How long a program took from its start to its end."""

    wall_s: float
    cpu_s: float
    """Of it and of its children."""

    def format_row(self, name: str, baseline: "Timing | None" = None) -> str:
        """A line, with how many times as fast as another this is."""
        line = f"{name:22} {self.wall_s:7.2f} s, {self.cpu_s:7.2f} s of processors"
        if baseline is None:
            return line
        return f"{line}, {baseline.wall_s / self.wall_s:5.2f} times as fast"


def run_timed(arguments: list[str | Path], cache_dir: Path) -> tuple[str, Timing]:
    """What a program says, and how long it took."""
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], stdout=subprocess.PIPE, text=True,
        check=True, env={**os.environ, "LORIS_CACHE": str(cache_dir)},
    )  # fmt: skip
    after = os.times()
    processor_s = after.children_user - before.children_user
    processor_s += after.children_system - before.children_system
    return done.stdout, Timing(time.perf_counter() - started, processor_s)


def score_with_loris(
    generated_dir: Path, reference_dir: Path, jobs: int, cache: Path
) -> tuple[list[float], Timing]:
    """The five scores by `loris eval`, and how long it took."""
    said, took = run_timed(
        ["-m", "loris_cli", "eval", "--generated", generated_dir, "--reference", reference_dir,
         "--no-strict", "--bound", "none", "--jobs", str(jobs), "--format", "json"],
        cache,
    )  # fmt: skip
    [row] = json.loads(said)["systems"]
    return [row["official"][name] for name in METRICS], took


def main() -> None:
    """Make the sounds, score them both ways, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=189)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--plain", type=Path, help="only score this folder, by the plain script"
    )
    given = parser.parse_args()
    if given.plain is not None:
        print(json.dumps(score_plainly(given.plain / "made", given.plain / "true")))
        return
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        made, true = room / "made", room / "true"
        for folder in (made, true):
            folder.mkdir()
        for k in range(given.clips):
            for side, folder in enumerate((true, made)):
                write_random_audio(folder / f"{k:04}.wav", 2 * k + side, given.seconds)
        # Compilers have nothing left to do, and files are in memory, for whoever comes first.
        for folder in ("warm/made", "warm/true"):
            shutil.copytree(made, room / folder, ignore=lambda _, names: sorted(names)[2:])
        score_with_loris(room / "warm/made", room / "warm/true", 1, room / "cache-warm")
        run_timed([__file__, "--plain", room / "warm"], room)

        said, plainly = run_timed([__file__, "--plain", room], room)
        found, cold = score_with_loris(made, true, given.jobs, room / "cache")
        score_with_loris(true, true, given.jobs, room / "known")
        again, known = score_with_loris(made, true, given.jobs, room / "known")
    print(f"{given.clips} pairs of {given.seconds:g} s, {given.jobs} processes")
    print(plainly.format_row("plain script"))
    print(cold.format_row("loris eval", plainly))
    print(known.format_row("loris eval, truth known", plainly))
    expected = json.loads(said)
    apart = max(
        abs(a - b) for figures in (found, again) for a, b in zip(figures, expected, strict=True)
    )
    print(f"largest difference    {apart:g}")
    if apart:
        sys.exit("the scores differ")


if __name__ == "__main__":
    main()

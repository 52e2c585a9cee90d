"""How long scoring takes, and whether it is exact: ``python benchmarks/eval.py --clips 189``.

Random pairs of sounds are scored by the official protocol: by a plain script, one file after
the other as the authors' does it, and by `loris eval`'s own way, first with nothing known and
then with the truth heard before. Prints the times, their ratios and the largest difference of
any figure, which is to be 0.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import librosa
import numpy as np
import soundfile

from loris_cli.benchmark.heard import Ears, Heard, listen_to_all
from loris_cli.benchmark.sounds import Recorded
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.evaluation.beats import OFFICIAL, score, summary

Value = TypeVar("Value")


def random_sound(path: Path, seed: int, seconds: float) -> None:
    """Fading tones and bursts of noise at random moments, over a little noise."""
    rng = np.random.default_rng(seed)
    sound = rng.normal(0, 10 ** rng.uniform(-4, -2), round(seconds * SAMPLE_RATE_HZ))
    since_s = np.arange(round(0.4 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    for _ in range(rng.integers(2, round(4 * seconds))):
        start = int(rng.integers(len(sound)))
        fall = np.exp(-since_s / rng.uniform(0.01, 0.2))
        tone = np.sin(2 * np.pi * rng.uniform(60, 3000) * since_s)
        hit = rng.uniform(0.05, 0.5) * fall * (tone if rng.random() < 0.7 else rng.normal(0, 1))
        sound[start : start + len(hit)] += hit[: len(sound) - start]
    soundfile.write(path, sound / max(np.abs(sound).max(), 1), SAMPLE_RATE_HZ)


def plain(pairs: list[tuple[Path, Path]]) -> list[float]:
    """The five scores, as a script with no library of ours would have them."""
    covers, hits = [], []
    for true_path, made_path in pairs:
        both = []
        for path in (true_path, made_path):
            samples, rate_hz = librosa.load(path)
            found = librosa.onset.onset_detect(
                y=samples, sr=rate_hz, wait=1, delta=0.2, pre_avg=3, post_avg=3, pre_max=3,
                post_max=3, units="time",
            )  # fmt: skip
            seconds = [0] * int(np.ceil(len(samples) / rate_hz))
            for time_s in found:
                seconds[int(np.trunc(time_s))] = 1
            both.append(seconds)
        true, made = both
        true = true[: len(made)]
        n_hits = sum(1 for a, b in zip(true, made, strict=True) if a == b == 1)
        covers.append(n_hits / sum(made) if sum(made) else 0)
        hits.append(n_hits / sum(true) if sum(true) else 0)
    cover, hit = sum(covers) / len(covers), sum(hits) / len(hits)
    f1 = 2 * cover * hit / (cover + hit)
    return [cover, float(np.std(covers, ddof=1)), hit, float(np.std(hits, ddof=1)), f1]


def ours(pairs: list[tuple[Path, Path]], jobs: int, cache: Path) -> list[float | None]:
    """The same as `loris eval` makes them."""
    sounds = [Recorded(path=path) for pair in pairs for path in pair]
    heard = listen_to_all(sounds, ears=Ears(strict=False), cache=cache, jobs=jobs)
    flags = [found.flags for found in heard if isinstance(found, Heard)]
    scored = [score(true, made) for true, made in zip(flags[::2], flags[1::2], strict=True)]
    all_scores = summary(scored, OFFICIAL)
    return [all_scores.bcs, all_scores.csd, all_scores.bhs, all_scores.hsd, all_scores.f1]


def timed(work: Callable[[], Value]) -> tuple[Value, float]:
    """A result, and the seconds it took."""
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def main() -> None:
    """Make the sounds, score them both ways, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=189)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with tempfile.TemporaryDirectory() as room:
        pairs = [(Path(room, f"{k}t.wav"), Path(room, f"{k}m.wav")) for k in range(given.clips)]
        for k, pair in enumerate(pairs):
            for side, path in enumerate(pair):
                random_sound(path, 2 * k + side, given.seconds)
        warm = plain(pairs[:2])  # compiles what librosa compiles
        assert len(warm) == 5
        expected, plain_s = timed(lambda: plain(pairs))
        cache = Path(room, "cache")
        found, cold_s = timed(lambda: ours(pairs, given.jobs, cache))
        truths = [Recorded(path=true) for true, _ in pairs]
        known = Path(room, "known")
        listen_to_all(truths, ears=Ears(strict=False), cache=known, jobs=given.jobs)
        again, warm_s = timed(lambda: ours(pairs, given.jobs, known))
    print(f"{given.clips} pairs of {given.seconds:g} s, {given.jobs} processes")
    print(f"plain script          {plain_s:7.2f} s")
    print(f"ours                  {cold_s:7.2f} s  {plain_s / cold_s:5.2f} times as fast")
    print(f"ours, truth known     {warm_s:7.2f} s  {plain_s / warm_s:5.2f} times as fast")
    apart = max(
        abs(a - b)
        for figures in (found, again)
        for a, b in zip(figures, expected, strict=True)
        if a is not None
    )
    print(f"largest difference    {apart:g}")
    if apart:
        sys.exit("the scores differ")


if __name__ == "__main__":
    main()

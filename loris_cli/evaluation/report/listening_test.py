"""A listening test: sounds that do not tell whose they are, as loud as each other, and a page.

    rows of a run -> sounds of the same clips, levelled, in random order -> kit/, key.json
    answers of listeners (CSV), key.json -> mean ratings, shares of preference

The folder ``kit`` goes to the listeners; ``key.json`` beside it, which tells whose each sound
is, stays. The page needs no network: it writes the answers to a CSV file on the listener's
disk.
"""

import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.stats import binomtest

from loris_cli.audio.loudness import normalise
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError, OutputError
from loris_cli.evaluation.metrics.significance import Resampler
from loris_cli.evaluation.runner.audio_sources import samples_of
from loris_cli.evaluation.runner.run import Result
from loris_cli.system.atomic_files import printable
from loris_cli.system.progress import Reporter
from loris_cli.video.mux import mux

LOUDNESS_LUFS = -23.0
"""Of all sounds, after EBU R128; low enough that few peaks meet the limiter."""
CEILING_DBTP = -1.0
PAGE = "listening.html"
MARK = "__ITEMS__"
"""Where the page takes the list of its sounds."""
ANSWERS = ("kind", "first", "second", "answer")
MOST_ANSWERS = 100_000


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What listeners think of one row, or of one row beside another."""

    row: str
    other: str
    """Empty for a rating."""
    medium: str
    """``audio`` or ``video``."""
    n: int
    mean: float
    """Rating from 1 to 5, or share from 0 to 1 that prefers the row; a draw is half."""
    low: float | None
    high: float | None
    """95 %: of a rating over resampled clips, of a preference the binomial one."""


def make_kit(
    result: Result, folder: Path, *, n_clips: int, seed: int, reporter: Reporter
) -> int:
    """Make the kit of a run's models and methods and of the truth.

    Args:
        result: of the run.
        folder: new; takes ``kit/`` and ``key.json``.
        n_clips: how many clips, the first that all rows have.
        seed: of the order.
        reporter: whom to tell.

    Returns:
        how many sounds there are.

    Raises:
        InputError: there are not two rows to compare, or they share no clip.
        OutputError: the folder cannot be made.
    """
    rows = [
        row
        for row in result.rows
        if row.kind in ("model", "method") or row.id == "ground_truth"
    ]
    shared = [clip for clip in rows[0].clips if all(clip in row.clips for row in rows)]
    clips = shared[:n_clips]
    if len(rows) < 2 or not clips:
        raise InputError(
            "a listening test needs two rows of the same clips",
            hint="name a model and --row ground_truth, or two models",
        )
    rng = np.random.default_rng(seed)
    wanted = [(clip, row) for clip in clips for row in rows]
    numbers = (rng.permutation(len(wanted)) + 1).tolist()
    video_of = {case.id: case.video for case in result.cases}
    sounds = folder / "kit" / "sounds"
    try:
        sounds.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"the folder {printable(folder)} cannot be made: {error.strerror}",
            hint="name a new one",
        ) from error
    key = {}
    with reporter.stage("listening kit", len(wanted)) as advance:
        for number, (clip, row) in zip(numbers, wanted, strict=True):
            samples, _ = samples_of(result.sounds[row.id][clip, row.seeds[0]])
            video = video_of[clip]
            _write_sound(samples, sounds / f"{number}.flac", video)
            key[number] = {"row": row.id, "clip": clip, "video": video is not None}
            advance(1)
    page = _page(_items(key, rng))
    (folder / "kit" / "index.html").write_text(page, encoding="utf-8")
    (folder / "key.json").write_text(json.dumps({"schema": 1, "sounds": key}), encoding="utf-8")
    return len(key)


def read_results(answers: Sequence[Path], key_path: Path) -> list[Opinion]:
    """What the listeners think.

    Args:
        answers: CSV files that the page wrote, one a listener.
        key_path: the ``key.json`` of the kit.

    Returns:
        ratings of each row, then preferences of each two, by medium.

    Raises:
        InputError: a file is not what the page writes, or of another kit.
    """
    key = _read_key(key_path)
    ratings: dict[tuple[str, str], list[tuple[float, str]]] = {}
    preferences: dict[tuple[str, str, str], list[float]] = {}
    for path in answers:
        for kind, first, second, answer in _read_answers(path):
            subject, _, medium = kind.partition("-")
            ours = _sound(key, first, path)
            if subject == "rating" and answer in {"1", "2", "3", "4", "5"}:
                ratings.setdefault((ours["row"], medium), []).append(
                    (float(answer), ours["clip"])
                )
            elif subject == "preference" and answer in {"first", "second", "equal"}:
                theirs = _sound(key, second, path)
                share = {"first": 1.0, "second": 0.0, "equal": 0.5}[answer]
                pair = sorted((ours["row"], theirs["row"]))
                turned = share if pair[0] == ours["row"] else 1 - share
                preferences.setdefault((pair[0], pair[1], medium), []).append(turned)
            else:
                raise InputError(
                    f"{printable(path)}: {kind!r} with {answer!r} is no answer",
                    hint="give the files that the kit's page wrote",
                )
    rated = [_rating(row, medium, given) for (row, medium), given in sorted(ratings.items())]
    preferred = [
        _preference(row, other, medium, shares)
        for (row, other, medium), shares in sorted(preferences.items())
    ]
    return [*rated, *preferred]


def _write_sound(samples: np.ndarray, place: Path, video: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as room:
        raw, levelled = Path(room, "raw.wav"), Path(room, "levelled.wav")
        soundfile.write(raw, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        normalise(raw, levelled, target_lufs=LOUDNESS_LUFS, ceiling_dbtp=CEILING_DBTP)
        loud, rate_hz = soundfile.read(levelled, dtype="float32")
        soundfile.write(place, loud, rate_hz, subtype="PCM_16")
        if video is not None:
            mux(video, levelled, place.with_suffix(".mp4"), mix_db=None, tags={})


def _items(key: Mapping[int, Mapping[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """What the page asks: to rate each sound, and to compare each two of one clip."""
    order = rng.permutation(sorted(key)).tolist()
    pairs = [
        (a, b) if rng.random() < 0.5 else (b, a)
        for a, b in combinations(sorted(key), 2)
        if key[a]["clip"] == key[b]["clip"]
    ]
    filmed = [number for number in order if key[number]["video"]]
    return {
        "sounds": order,
        "videos": filmed,
        "pairs": [list(pairs[k]) for k in rng.permutation(len(pairs))],
    }


def _page(items: dict[str, Any]) -> str:
    text = files("loris_cli.evaluation.report").joinpath(PAGE).read_text(encoding="utf-8")
    return text.replace(MARK, json.dumps(items))


def _rating(row: str, medium: str, given: list[tuple[float, str]]) -> Opinion:
    values = np.array([value for value, _ in given])
    resampler = Resampler([clip for _, clip in given])
    interval = resampler.interval(resampler.means(values))
    low, high = interval or (None, None)
    mean = float(values.mean())
    return Opinion(
        row=row, other="", medium=medium, n=len(values), mean=mean, low=low, high=high
    )


def _preference(row: str, other: str, medium: str, shares: list[float]) -> Opinion:
    decided = [share for share in shares if share != 0.5]
    low = high = None
    if decided:
        found = binomtest(int(sum(decided)), len(decided)).proportion_ci()
        low, high = float(found.low), float(found.high)
    mean = float(np.mean(shares))
    return Opinion(
        row=row, other=other, medium=medium, n=len(shares), mean=mean, low=low, high=high
    )


def _read_key(path: Path) -> dict[str, dict[str, Any]]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        sounds = {
            str(number): {"row": str(one["row"]), "clip": str(one["clip"])}
            for number, one in told["sounds"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{printable(path)} is no key of a listening test", hint="give the kit's key.json"
        ) from error
    return sounds


def _read_answers(path: Path) -> list[tuple[str, str, str, str]]:
    hint = "give the files that the kit's page wrote"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = list(islice(reader, MOST_ANSWERS))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{printable(path)} cannot be read as CSV", hint=hint) from error
    if columns != ANSWERS:
        raise InputError(f"{printable(path)} has other columns than {ANSWERS}", hint=hint)
    return [
        (row["kind"] or "", row["first"] or "", row["second"] or "", row["answer"] or "")
        for row in rows
    ]


def _sound(key: Mapping[str, dict[str, Any]], number: str, path: Path) -> dict[str, Any]:
    if number not in key:
        raise InputError(
            f"{printable(path)}: the key has no sound {number!r}",
            hint="give answers and key of one kit",
        )
    return key[number]

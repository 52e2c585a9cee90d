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

from loris_cli.audio.loudness import normalize_loudness
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError, OutputError
from loris_cli.evaluation.metrics.significance import ClusterBootstrap
from loris_cli.evaluation.runner.audio_sources import load_samples
from loris_cli.evaluation.runner.run import EvaluationResult
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.progress import Reporter
from loris_cli.video.mux import mux_audio

TARGET_LUFS = -23.0
"""Of all sounds, after EBU R128; low enough that few peaks meet the limiter."""
PEAK_CEILING_DBTP = -1.0
PAGE_TEMPLATE = "listening.html"
ITEMS_PLACEHOLDER = "__ITEMS__"
"""Where the page takes the list of its sounds."""
ANSWER_COLUMNS = ("kind", "first", "second", "answer")
MAX_ANSWERS = 100_000


@dataclass(frozen=True, kw_only=True)
class ListenerScore:
    """What listeners think of one row, or of one row beside another."""

    system_id: str
    other_system_id: str
    """Empty for a rating."""
    medium: str
    """``audio`` or ``video``."""
    n_answers: int
    mean: float
    """Rating from 1 to 5, or share from 0 to 1 that prefers the row; a draw is half."""
    ci_low: float | None
    ci_high: float | None
    """95 %: of a rating over resampled clips, of a preference the binomial one."""


def make_listening_kit(
    result: EvaluationResult, folder: Path, *, n_clips: int, seed: int, reporter: Reporter
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
        for row in result.systems
        if row.category in ("model", "method") or row.id == "ground_truth"
    ]
    shared = [clip for clip in rows[0].clip_ids if all(clip in row.clip_ids for row in rows)]
    clips = shared[:n_clips]
    if len(rows) < 2 or not clips:
        raise InputError(
            "a listening test needs two rows of the same clips",
            hint="name a model and --row ground_truth, or two models",
        )
    rng = np.random.default_rng(seed)
    wanted = [(clip, row) for clip in clips for row in rows]
    numbers = (rng.permutation(len(wanted)) + 1).tolist()
    video_of = {case.id: case.video for case in result.clips}
    sounds = folder / "kit" / "sounds"
    try:
        sounds.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"the folder {printable_path(folder)} cannot be made: {error.strerror}",
            hint="name a new one",
        ) from error
    key = {}
    with reporter.stage("listening kit", len(wanted)) as advance:
        for number, (clip, row) in zip(numbers, wanted, strict=True):
            samples, _ = load_samples(result.take_sources[row.id][clip, row.seeds[0]])
            video = video_of[clip]
            _write_kit_audio(samples, sounds / f"{number}.flac", video)
            key[number] = {"row": row.id, "clip": clip, "video": video is not None}
            advance(1)
    page = _render_page(_build_questions(key, rng))
    (folder / "kit" / "index.html").write_text(page, encoding="utf-8")
    (folder / "key.json").write_text(json.dumps({"schema": 1, "sounds": key}), encoding="utf-8")
    return len(key)


def score_answers(answer_paths: Sequence[Path], key_path: Path) -> list[ListenerScore]:
    """What the listeners think.

    Args:
        answer_paths: CSV files that the page wrote, one a listener.
        key_path: the ``key.json`` of the kit.

    Returns:
        ratings of each row, then preferences of each two, by medium.

    Raises:
        InputError: a file is not what the page writes, or of another kit.
    """
    key = _read_kit_key(key_path)
    ratings: dict[tuple[str, str], list[tuple[float, str]]] = {}
    preferences: dict[tuple[str, str, str], list[float]] = {}
    for path in answer_paths:
        for kind, first, second, answer in _read_answers(path):
            subject, _, medium = kind.partition("-")
            ours = _get_key_entry(key, first, path)
            if subject == "rating" and answer in {"1", "2", "3", "4", "5"}:
                ratings.setdefault((ours["row"], medium), []).append(
                    (float(answer), ours["clip"])
                )
            elif subject == "preference" and answer in {"first", "second", "equal"}:
                theirs = _get_key_entry(key, second, path)
                share = {"first": 1.0, "second": 0.0, "equal": 0.5}[answer]
                pair = sorted((ours["row"], theirs["row"]))
                turned = share if pair[0] == ours["row"] else 1 - share
                preferences.setdefault((pair[0], pair[1], medium), []).append(turned)
            else:
                raise InputError(
                    f"{printable_path(path)}: {kind!r} with {answer!r} is no answer",
                    hint="give the files that the kit's page wrote",
                )
    rated = [
        _average_ratings(row, medium, given) for (row, medium), given in sorted(ratings.items())
    ]
    preferred = [
        _average_preferences(row, other, medium, shares)
        for (row, other, medium), shares in sorted(preferences.items())
    ]
    return [*rated, *preferred]


def _write_kit_audio(samples: np.ndarray, audio_path: Path, video_path: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=audio_path.parent, prefix=".") as room:
        raw, levelled = Path(room, "raw.wav"), Path(room, "levelled.wav")
        soundfile.write(raw, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        normalize_loudness(
            raw, levelled, target_lufs=TARGET_LUFS, ceiling_dbtp=PEAK_CEILING_DBTP
        )
        loud, rate_hz = soundfile.read(levelled, dtype="float32")
        soundfile.write(audio_path, loud, rate_hz, subtype="PCM_16")
        if video_path is not None:
            mux_audio(
                video_path,
                levelled,
                audio_path.with_suffix(".mp4"),
                original_gain_db=None,
                tags={},
            )


def _build_questions(
    kit_key: Mapping[int, Mapping[str, Any]], rng: np.random.Generator
) -> dict[str, Any]:
    """What the page asks: to rate each sound, and to compare each two of one clip."""
    order = rng.permutation(sorted(kit_key)).tolist()
    pairs = [
        (a, b) if rng.random() < 0.5 else (b, a)
        for a, b in combinations(sorted(kit_key), 2)
        if kit_key[a]["clip"] == kit_key[b]["clip"]
    ]
    filmed = [number for number in order if kit_key[number]["video"]]
    return {
        "sounds": order,
        "videos": filmed,
        "pairs": [list(pairs[k]) for k in rng.permutation(len(pairs))],
    }


def _render_page(items: dict[str, Any]) -> str:
    text = (
        files("loris_cli.evaluation.report").joinpath(PAGE_TEMPLATE).read_text(encoding="utf-8")
    )
    return text.replace(ITEMS_PLACEHOLDER, json.dumps(items))


def _average_ratings(
    system_id: str, medium: str, ratings: list[tuple[float, str]]
) -> ListenerScore:
    values = np.array([value for value, _ in ratings])
    resampler = ClusterBootstrap([clip for _, clip in ratings])
    interval = resampler.confidence_interval(resampler.resample_means(values))
    low, high = interval or (None, None)
    mean = float(values.mean())
    return ListenerScore(
        system_id=system_id,
        other_system_id="",
        medium=medium,
        n_answers=len(values),
        mean=mean,
        ci_low=low,
        ci_high=high,
    )


def _average_preferences(
    system_id: str, other_system_id: str, medium: str, preferences: list[float]
) -> ListenerScore:
    decided = [share for share in preferences if share != 0.5]
    low = high = None
    if decided:
        found = binomtest(int(sum(decided)), len(decided)).proportion_ci()
        low, high = float(found.low), float(found.high)
    mean = float(np.mean(preferences))
    return ListenerScore(
        system_id=system_id,
        other_system_id=other_system_id,
        medium=medium,
        n_answers=len(preferences),
        mean=mean,
        ci_low=low,
        ci_high=high,
    )


def _read_kit_key(path: Path) -> dict[str, dict[str, Any]]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        sounds = {
            str(number): {"row": str(one["row"]), "clip": str(one["clip"])}
            for number, one in told["sounds"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{printable_path(path)} is no key of a listening test",
            hint="give the kit's key.json",
        ) from error
    return sounds


def _read_answers(path: Path) -> list[tuple[str, str, str, str]]:
    hint = "give the files that the kit's page wrote"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = list(islice(reader, MAX_ANSWERS))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{printable_path(path)} cannot be read as CSV", hint=hint) from error
    if columns != ANSWER_COLUMNS:
        raise InputError(
            f"{printable_path(path)} has other columns than {ANSWER_COLUMNS}", hint=hint
        )
    return [
        (row["kind"] or "", row["first"] or "", row["second"] or "", row["answer"] or "")
        for row in rows
    ]


def _get_key_entry(
    kit_key: Mapping[str, dict[str, Any]], sound_number: str, answers_path: Path
) -> dict[str, Any]:
    if sound_number not in kit_key:
        raise InputError(
            f"{printable_path(answers_path)}: the key has no sound {sound_number!r}",
            hint="give answers and key of one kit",
        )
    return kit_key[sound_number]

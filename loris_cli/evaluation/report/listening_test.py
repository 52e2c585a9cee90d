"""Blind listening test: loudness-normalized takes in random order, and a rating page.

    takes of a run -> normalized audio in random order -> kit/, key.json
    answers of listeners (CSV), key.json -> mean ratings, preference rates

The folder ``kit`` is sent to the listeners. ``key.json`` maps each take to its system and is
not sent. The page works offline and saves the answers as a CSV file on the listener's computer.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.stats import binomtest

from loris_cli.array_types import Samples
from loris_cli.audio.loudness import normalize_loudness
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError, OutputError
from loris_cli.evaluation.metrics.significance import ClusterBootstrap
from loris_cli.evaluation.report.html import render_template
from loris_cli.evaluation.runner.audio_sources import load_samples
from loris_cli.evaluation.runner.run import EvaluationResult
from loris_cli.system.atomic_files import temporary_folder
from loris_cli.system.progress import Reporter
from loris_cli.video.mux import mux_audio

TARGET_LUFS = -23.0
"""Target loudness of all takes (EBU R128), low enough that few peaks reach the limiter."""
CEILING_DBTP = -1.0
ANSWER_COLUMNS = ("question", "first", "second", "answer")
ANSWER_HINT = "pass the CSV files saved by the page of the listening test"
MAX_ANSWERS = 100_000
KIT_SCHEMA = 2
RATINGS = ("1", "2", "3", "4", "5")
PREFERENCES = {"first": 1.0, "second": 0.0, "equal": 0.5}
AnswerKey = tuple[str, str, str]
"""System id, id of the other system of a preference (empty for a rating), and medium."""


@dataclass(frozen=True, kw_only=True)
class ListenerScore:
    """Mean opinion score of one system, or preference between two systems."""

    system_id: str
    other_system_id: str
    """Empty for a rating."""
    medium: str
    """``audio`` or ``video``."""
    n_answers: int
    mean: float
    """Mean rating, 1..5, or fraction of answers that prefer the system, 0..1; "no difference"
    counts as 0.5."""
    ci_low: float | None
    ci_high: float | None
    """Bounds of the 95 % confidence interval: bootstrap over sources for a rating, binomial for
    a preference."""


def write_listening_kit(
    result: EvaluationResult, folder: Path, *, n_clips: int, seed: int, reporter: Reporter
) -> int:
    """Create a listening test with the models and methods of a run and the reference.

    Args:
        result: result of the evaluation run.
        folder: new folder for ``kit/`` and ``key.json``.
        n_clips: maximum number of clips, taken from the start of those that all systems have.
        seed: random seed of the order.
        reporter: receives the progress.

    Returns:
        number of takes.

    Raises:
        InputError: there are fewer than two systems, or they have no clip in common.
        OutputError: the folder cannot be created.
    """
    systems = [
        system
        for system in result.systems
        if system.category in ("model", "method") or system.id == "ground_truth"
    ]
    shared = set.intersection(*(set(system.clip_ids) for system in systems)) if systems else ()
    if len(systems) < 2 or not shared:
        hint = "select a model and --bound ground_truth, or two models"
        raise InputError(
            "a listening test needs at least 2 systems with common clips", hint=hint
        )
    clip_ids = [clip_id for clip_id in systems[0].clip_ids if clip_id in shared][:n_clips]
    rng = np.random.default_rng(seed)
    takes = [(clip_id, system) for clip_id in clip_ids for system in systems]
    numbers = (rng.permutation(len(takes)) + 1).tolist()
    videos = {clip.id: clip.video for clip in result.clips}
    audio_folder = folder / "kit" / "audio"
    try:
        audio_folder.mkdir(parents=True)
    except OSError as error:
        reason = f"cannot create {folder}: {error.strerror}"
        raise OutputError(reason, hint="choose a new folder") from error
    key = {}
    with reporter.stage("listening test", len(takes)) as advance:
        for number, (clip_id, system) in zip(numbers, takes, strict=True):
            samples, _ = load_samples(result.take_sources[system.id][clip_id, system.seeds[0]])
            video = videos[clip_id]
            _write_kit_audio(samples, audio_folder / f"{number}.flac", video)
            key[number] = {"system": system.id, "clip": clip_id, "has_video": video is not None}
            key[number]["source"] = system.source_groups[system.clip_ids.index(clip_id)]
            advance(1)
    page = render_template("listening.html", items=_make_questions(key, rng))
    (folder / "kit" / "index.html").write_text(page, encoding="utf-8")
    text = json.dumps({"schema": KIT_SCHEMA, "takes": key})
    (folder / "key.json").write_text(text, encoding="utf-8")
    return len(key)


def score_answers(answer_paths: Sequence[Path], key_path: Path) -> list[ListenerScore]:
    """Compute mean ratings and preferences from the answers of the listeners.

    Args:
        answer_paths: CSV files saved by the page, one per listener.
        key_path: ``key.json`` of the kit.

    Returns:
        ratings of each system and medium, then preferences of each pair and medium.

    Raises:
        InputError: a file has an unexpected format, or belongs to another kit.
    """
    key = _read_kit_key(key_path)
    answers: dict[AnswerKey, list[tuple[float, str]]] = defaultdict(list)
    for path in answer_paths:
        for question, first, second, answer in _read_answers(path):
            subject, _, medium = question.partition("-")
            system, source = _get_take(key, first, path)
            if subject == "rating" and answer in RATINGS:
                answers[system, "", medium].append((float(answer), source))
            elif subject == "preference" and answer in PREFERENCES:
                other, _ = _get_take(key, second, path)
                preference = PREFERENCES[answer]
                if other < system:
                    system, other, preference = other, system, 1 - preference
                answers[system, other, medium].append((preference, source))
            else:
                raise InputError(
                    f"{path}: invalid answer to {question!r}: {answer!r}", hint=ANSWER_HINT
                )
    ratings_first = sorted(answers, key=lambda key: (key[1] != "", key))
    return [_average_answers(key, answers[key]) for key in ratings_first]


def _average_answers(key: AnswerKey, answers: list[tuple[float, str]]) -> ListenerScore:
    """Average ratings, or preferences if the key has a second system."""
    values = np.array([value for value, _ in answers])
    decided = values[values != 0.5]
    system_id, other_id, medium = key
    interval: tuple[float, float] | None = None
    if not other_id:
        bootstrap = ClusterBootstrap([source for _, source in answers])
        interval = bootstrap.confidence_interval(bootstrap.resample_means(values))
    elif len(decided):
        binomial = binomtest(int(decided.sum()), len(decided)).proportion_ci()
        interval = (float(binomial.low), float(binomial.high))
    low, high = interval or (None, None)
    return ListenerScore(
        system_id=system_id,
        other_system_id=other_id,
        medium=medium,
        n_answers=len(values),
        mean=float(values.mean()),
        ci_low=low,
        ci_high=high,
    )


def _write_kit_audio(samples: Samples, audio_path: Path, video_path: Path | None) -> None:
    with temporary_folder(audio_path.parent) as folder:
        raw, normalized = folder / "raw.wav", folder / "normalized.wav"
        soundfile.write(raw, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        normalize_loudness(raw, normalized, target_lufs=TARGET_LUFS, ceiling_dbtp=CEILING_DBTP)
        loud, rate_hz = soundfile.read(normalized, dtype="float32")
        soundfile.write(audio_path, loud, rate_hz, subtype="PCM_16")
        if video_path is not None:
            out = audio_path.with_suffix(".mp4")
            mux_audio(video_path, normalized, out, tags={})


def _make_questions(key: dict[int, dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Build the questions of the page: rate each take, compare each pair of takes of a clip."""
    order = rng.permutation(sorted(key)).tolist()
    pairs = [
        (a, b) if rng.random() < 0.5 else (b, a)
        for a, b in combinations(sorted(key), 2)
        if key[a]["clip"] == key[b]["clip"]
    ]
    return {
        "takes": order,
        "videos": [number for number in order if key[number]["has_video"]],
        "pairs": [list(pairs[k]) for k in rng.permutation(len(pairs))],
    }


def _read_kit_key(path: Path) -> dict[str, tuple[str, str]]:
    """Read the system and the source of the clip of each take, by take number."""
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        takes = {
            str(number): (str(take["system"]), str(take.get("source", take["clip"])))
            for number, take in key["takes"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is not the key of a listening test",
            hint="pass key.json of the kit; rebuild kits of older versions with --mos-kit",
        ) from error
    return takes


def _read_answers(path: Path) -> list[tuple[str, ...]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = list(islice(reader, MAX_ANSWERS))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {path} as CSV", hint=ANSWER_HINT) from error
    if columns != ANSWER_COLUMNS:
        raise InputError(f"{path}: expected the columns {ANSWER_COLUMNS}", hint=ANSWER_HINT)
    return [tuple(row[name] or "" for name in ANSWER_COLUMNS) for row in rows]


def _get_take(key: dict[str, tuple[str, str]], number: str, path: Path) -> tuple[str, str]:
    if number not in key:
        raise InputError(
            f"{path}: unknown take {number!r}", hint="pass key.json of the same kit"
        )
    return key[number]

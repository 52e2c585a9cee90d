"""A rhythm, and the JSON file that holds it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.errors import InputError, OutputError
from loris_cli.system.atomic_files import printable

Array = NDArray[np.float64]

SCHEMA = 1

MAX_BYTES = 64 << 20
"""A day of rhythm is under 30 MB; what is larger is not a rhythm."""

_HINT = "make it with `loris rhythm`"


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """The moments that a soundtrack should meet, and the curve they were picked from.

    Attributes:
        times_s: ``(peaks,)``, strictly increasing, from 0 to ``duration_s``.
        strengths: ``(peaks,)``, 0 to 1: how hard the movement stops, beside the hardest ones of
            the same video.
        envelope: ``(frames,)``, 0 to 1, how much motion begins at each frame.
        envelope_rate_hz: frames a second.
        method: ``"directogram"`` or ``"stft"`` of poses, or ``"flow"`` of the picture.
        compat: ``"paper"`` or ``"official"``.
        duration_s: length of the video.
    """

    times_s: Array
    strengths: Array
    envelope: Array
    envelope_rate_hz: float
    method: str
    compat: str
    duration_s: float


def write_rhythm(path: Path, rhythm: Rhythm) -> None:
    """Write a rhythm as JSON: microseconds for times, five digits for the rest.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {
        "schema": SCHEMA,
        "method": rhythm.method,
        "compat": rhythm.compat,
        "duration_s": rhythm.duration_s,
        "envelope_rate_hz": rhythm.envelope_rate_hz,
        "times_s": rhythm.times_s.round(6).tolist(),
        "strengths": rhythm.strengths.round(5).tolist(),
        "envelope": rhythm.envelope.round(5).tolist(),
    }
    try:
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write {printable(path)}: {error.strerror or error}",
            hint="choose another place with -o",
        ) from error


def read_rhythm(path: Path) -> Rhythm:
    """Read what ``write_rhythm`` wrote.

    Raises:
        InputError: the file is missing, is not JSON, or breaks a promise of ``Rhythm``.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{printable(path)} is too large to be a rhythm", hint=_HINT)
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {printable(path)}: {error.strerror or error}", hint=_HINT
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or brackets too deep
        raise InputError(f"{printable(path)} is not JSON", hint=_HINT) from error
    if not isinstance(content, dict):
        raise InputError(f"{printable(path)} holds no JSON object", hint=_HINT)
    if content.get("schema") != SCHEMA or isinstance(content["schema"], bool):
        raise InputError(
            f"{printable(path)} is not a rhythm of schema {SCHEMA}",
            hint=f"{_HINT} of this version",
        )
    rhythm = Rhythm(
        times_s=_numbers(path, content, "times_s"),
        strengths=_numbers(path, content, "strengths"),
        envelope=_numbers(path, content, "envelope"),
        envelope_rate_hz=_number(path, content, "envelope_rate_hz"),
        method=_word(path, content, "method", ("directogram", "flow", "stft")),
        compat=_word(path, content, "compat", ("paper", "official")),
        duration_s=_number(path, content, "duration_s"),
    )
    for promise, holds in (
        ("as many strengths as times", len(rhythm.times_s) == len(rhythm.strengths)),
        ("times that increase", bool((np.diff(rhythm.times_s) > 0).all())),
        ("times within the video", _within(rhythm.times_s, rhythm.duration_s)),
        ("strengths from 0 to 1", _within(rhythm.strengths, 1.0)),
        ("an envelope from 0 to 1", _within(rhythm.envelope, 1.0)),
        ("a rate above 0", 0 < rhythm.envelope_rate_hz <= 1e5),
    ):
        if not holds:
            raise InputError(f"{printable(path)} lacks {promise}", hint=_HINT)
    return rhythm


def _within(values: Array, greatest: float) -> bool:
    return bool((values >= 0).all() and (values <= greatest + 1e-6).all())


def _number(path: Path, content: dict[str, Any], name: str) -> float:
    value = _numbers(path, {name: [content.get(name)]}, name)
    return float(value[0])


def _numbers(path: Path, content: dict[str, Any], name: str) -> Array:
    """One flat list of finite numbers: JSON also has true, null, NaN and 1e999."""
    values = content.get(name)
    if isinstance(values, list) and all(type(value) in (int, float) for value in values):
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:
            array = np.array([np.inf])
        if np.isfinite(array).all():
            return array
    raise InputError(f"{name} in {printable(path)} is not made of finite numbers", hint=_HINT)


def _word(path: Path, content: dict[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = content.get(name)
    if not isinstance(value, str) or value not in known:
        raise InputError(
            f"{name} in {printable(path)} is not one of {', '.join(known)}", hint=_HINT
        )
    return value

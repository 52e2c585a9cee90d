"""A rhythm, and the JSON file that holds it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.errors import InputError, OutputError
from loris_cli.system.atomic_files import printable_path

Array = NDArray[np.float64]

RHYTHM_SCHEMA = 1

MAX_RHYTHM_BYTES = 64 << 20
"""A day of rhythm is under 30 MB; what is larger is not a rhythm."""

_REMAKE_HINT = "make it with `loris rhythm`"


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
        "schema": RHYTHM_SCHEMA,
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
            f"cannot write {printable_path(path)}: {error.strerror or error}",
            hint="choose another place with -o",
        ) from error


def read_rhythm(path: Path) -> Rhythm:
    """Read what ``write_rhythm`` wrote.

    Raises:
        InputError: the file is missing, is not JSON, or breaks a promise of ``Rhythm``.
    """
    try:
        if path.stat().st_size > MAX_RHYTHM_BYTES:
            raise InputError(
                f"{printable_path(path)} is too large to be a rhythm", hint=_REMAKE_HINT
            )
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {printable_path(path)}: {error.strerror or error}", hint=_REMAKE_HINT
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or brackets too deep
        raise InputError(f"{printable_path(path)} is not JSON", hint=_REMAKE_HINT) from error
    if not isinstance(content, dict):
        raise InputError(f"{printable_path(path)} holds no JSON object", hint=_REMAKE_HINT)
    if content.get("schema") != RHYTHM_SCHEMA or isinstance(content["schema"], bool):
        raise InputError(
            f"{printable_path(path)} is not a rhythm of schema {RHYTHM_SCHEMA}",
            hint=f"{_REMAKE_HINT} of this version",
        )
    rhythm = Rhythm(
        times_s=_read_numbers(path, content, "times_s"),
        strengths=_read_numbers(path, content, "strengths"),
        envelope=_read_numbers(path, content, "envelope"),
        envelope_rate_hz=_read_number(path, content, "envelope_rate_hz"),
        method=_read_choice(path, content, "method", ("directogram", "flow", "stft")),
        compat=_read_choice(path, content, "compat", ("paper", "official")),
        duration_s=_read_number(path, content, "duration_s"),
    )
    for promise, holds in (
        ("as many strengths as times", len(rhythm.times_s) == len(rhythm.strengths)),
        ("times that increase", bool((np.diff(rhythm.times_s) > 0).all())),
        ("times within the video", _all_in_range(rhythm.times_s, rhythm.duration_s)),
        ("strengths from 0 to 1", _all_in_range(rhythm.strengths, 1.0)),
        ("an envelope from 0 to 1", _all_in_range(rhythm.envelope, 1.0)),
        ("a rate above 0", 0 < rhythm.envelope_rate_hz <= 1e5),
    ):
        if not holds:
            raise InputError(f"{printable_path(path)} lacks {promise}", hint=_REMAKE_HINT)
    return rhythm


def _all_in_range(values: Array, maximum: float) -> bool:
    return bool((values >= 0).all() and (values <= maximum + 1e-6).all())


def _read_number(path: Path, content: dict[str, Any], name: str) -> float:
    value = _read_numbers(path, {name: [content.get(name)]}, name)
    return float(value[0])


def _read_numbers(path: Path, content: dict[str, Any], name: str) -> Array:
    """One flat list of finite numbers: JSON also has true, null, NaN and 1e999."""
    values = content.get(name)
    if isinstance(values, list) and all(type(value) in (int, float) for value in values):
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:
            array = np.array([np.inf])
        if np.isfinite(array).all():
            return array
    raise InputError(
        f"{name} in {printable_path(path)} is not made of finite numbers", hint=_REMAKE_HINT
    )


def _read_choice(
    path: Path, content: dict[str, Any], name: str, choices: tuple[str, ...]
) -> str:
    value = content.get(name)
    if not isinstance(value, str) or value not in choices:
        raise InputError(
            f"{name} in {printable_path(path)} is not one of {', '.join(choices)}",
            hint=_REMAKE_HINT,
        )
    return value

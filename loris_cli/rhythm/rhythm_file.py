"""Visual rhythm, and its JSON file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loris_cli.array_types import Array
from loris_cli.errors import InputError
from loris_cli.system.atomic_files import output_errors

RHYTHM_SCHEMA = 1

MAX_RHYTHM_BYTES = 64 << 20
"""A day of rhythm is under 30 MB; a larger file is no rhythm."""
ARRAY_DECIMALS = {"times_s": 6, "strengths": 5, "envelope": 5}
CHOICES = {"method": ("directogram", "flow", "stft"), "compat": ("paper", "official")}

HINT = "make it with `loris rhythm`"


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """Peaks of motion for a soundtrack to match, and the envelope they were picked from.

    Attributes:
        method: ``"directogram"`` or ``"stft"`` of poses, or ``"flow"`` of the video.
        compat: ``"paper"`` or ``"official"``.
        duration_s: length of the video.
        envelope_rate_hz: frames a second.
        times_s: ``(peaks,)``, strictly increasing, from 0 to ``duration_s``.
        strengths: ``(peaks,)``, 0 to 1: how hard the movement stops, relative to the hardest
            stops of the same video.
        envelope: onset envelope, ``(frames,)``, 0 to 1.
    """

    method: str
    compat: str
    duration_s: float
    envelope_rate_hz: float
    times_s: Array
    strengths: Array
    envelope: Array


def write_rhythm(path: Path, rhythm: Rhythm) -> None:
    """Write a rhythm as JSON: microseconds for times, five digits for the rest.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {"schema": RHYTHM_SCHEMA, **asdict(rhythm)}
    for name, decimals in ARRAY_DECIMALS.items():
        content[name] = content[name].round(decimals).tolist()
    with output_errors(path):
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_rhythm(path: Path) -> Rhythm:
    """Read a file of ``write_rhythm``.

    Raises:
        InputError: the file is missing, is not JSON, or breaks a promise of ``Rhythm``.
    """
    try:
        if path.stat().st_size > MAX_RHYTHM_BYTES:
            raise InputError("is too large to be a rhythm")
        return _parse_rhythm(json.loads(path.read_text(encoding="utf-8")))
    except InputError as error:
        raise InputError(f"{path} {error}", hint=HINT) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", hint=HINT) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or brackets too deep
        raise InputError(f"{path} is not JSON", hint=HINT) from error


def _parse_rhythm(content: Any) -> Rhythm:
    """Validate the content of a file; an error's text goes on after the file's name."""
    if not isinstance(content, dict):
        raise InputError("holds no JSON object")
    if content.get("schema") != RHYTHM_SCHEMA or isinstance(content["schema"], bool):
        raise InputError(f"is not a rhythm of schema {RHYTHM_SCHEMA}")
    for name, choices in CHOICES.items():
        if content.get(name) not in choices:
            raise InputError(f"has a {name} that is not one of {', '.join(choices)}")
    values: dict[str, Any] = {name: content[name] for name in CHOICES}
    for name in ("duration_s", "envelope_rate_hz"):
        values[name] = float(_parse_numbers(name, [content.get(name)])[0])
    for name in ARRAY_DECIMALS:
        values[name] = _parse_numbers(name, content.get(name))
    rhythm = Rhythm(**values)
    for promise, holds in {
        "as many strengths as times": len(rhythm.times_s) == len(rhythm.strengths),
        "times that increase": (np.diff(rhythm.times_s) > 0).all(),
        "times within the video": _all_in_range(rhythm.times_s, rhythm.duration_s),
        "strengths from 0 to 1": _all_in_range(rhythm.strengths, 1.0),
        "an envelope from 0 to 1": _all_in_range(rhythm.envelope, 1.0),
        "a rate above 0": 0 < rhythm.envelope_rate_hz <= 1e5,
    }.items():
        if not holds:
            raise InputError(f"lacks {promise}")
    return rhythm


def _all_in_range(values: Array, maximum: float) -> bool:
    return bool((values >= 0).all() and (values <= maximum + 1e-6).all())


def _parse_numbers(name: str, values: Any) -> Array:
    """Convert a flat list of finite numbers: JSON also has true, null, NaN and 1e999."""
    if isinstance(values, list) and all(type(value) in (int, float) for value in values):
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:
            array = np.array([np.inf])
        if np.isfinite(array).all():
            return array
    raise InputError(f"has {name} that are not finite numbers")

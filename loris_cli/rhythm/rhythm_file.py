"""Visual rhythm and its JSON file format."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from loris_cli.array_types import Array
from loris_cli.errors import InputError
from loris_cli.rhythm.directogram import Compat
from loris_cli.system.atomic_files import output_errors

RHYTHM_SCHEMA = 1

MAX_RHYTHM_BYTES = 64 << 20
"""Maximum file size; the rhythm of a 24-hour video is under 30 MB."""
ARRAY_DECIMALS = {"times_s": 6, "strengths": 5, "envelope": 5}
CHOICES = {"method": ("directogram", "flow", "stft"), "compat": get_args(Compat)}

HINT = "regenerate it with `loris rhythm`"


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """Visual peaks, and the onset envelope from which they were picked.

    Attributes:
        method: ``"directogram"`` or ``"stft"`` (from poses), or ``"flow"`` (from the frames).
        compat: ``"paper"``, ``"official"`` or ``"strict"``.
        duration_s: duration of the video.
        envelope_rate_hz: rate of the envelope.
        times_s: peak times, ``(peaks,)``, strictly increasing, from 0 to ``duration_s``.
        strengths: peak strengths, ``(peaks,)``, 0 to 1: speed drop at the peak, relative to the
            largest drops in the same video.
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
    """Write a rhythm as JSON, with six decimals for times and five for other values.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {"schema": RHYTHM_SCHEMA, **asdict(rhythm)}
    for name, decimals in ARRAY_DECIMALS.items():
        content[name] = content[name].round(decimals).tolist()
    with output_errors(path):
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_rhythm(path: Path) -> Rhythm:
    """Read a rhythm file written by ``write_rhythm``.

    Raises:
        InputError: the file is missing, is not JSON, or does not contain a valid ``Rhythm``.
    """
    try:
        if path.stat().st_size > MAX_RHYTHM_BYTES:
            raise InputError("is too large for a rhythm file (maximum 64 MiB)")
        return _parse_rhythm(json.loads(path.read_text(encoding="utf-8")))
    except InputError as error:
        raise InputError(f"{path} {error}", hint=HINT) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", hint=HINT) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise InputError(f"{path} is not valid JSON", hint=HINT) from error


def _parse_rhythm(content: Any) -> Rhythm:
    """Validate the content of a file; the caller prefixes error messages with the file name."""
    if not isinstance(content, dict):
        raise InputError("does not contain a JSON object")
    if content.get("schema") != RHYTHM_SCHEMA or isinstance(content["schema"], bool):
        raise InputError(f"is not a rhythm file with schema {RHYTHM_SCHEMA}")
    for name, choices in CHOICES.items():
        if content.get(name) not in choices:
            raise InputError(f"has an invalid {name}, expected one of {', '.join(choices)}")
    values: dict[str, Any] = {name: content[name] for name in CHOICES}
    for name in ("duration_s", "envelope_rate_hz"):
        values[name] = float(_parse_numbers(name, [content.get(name)])[0])
    for name in ARRAY_DECIMALS:
        values[name] = _parse_numbers(name, content.get(name))
    rhythm = Rhythm(**values)
    for requirement, is_met in {
        "times_s and strengths must have equal lengths": len(rhythm.times_s)
        == len(rhythm.strengths),
        "times_s must increase": (np.diff(rhythm.times_s) > 0).all(),
        "times_s must be in 0..duration_s": _all_in_range(rhythm.times_s, rhythm.duration_s),
        "strengths must be in 0..1": _all_in_range(rhythm.strengths, 1.0),
        "envelope must be in 0..1": _all_in_range(rhythm.envelope, 1.0),
        "envelope_rate_hz must be above 0, at most 1e5": 0 < rhythm.envelope_rate_hz <= 1e5,
    }.items():
        if not is_met:
            raise InputError(f"is not a valid rhythm file: {requirement}")
    return rhythm


def _all_in_range(values: Array, maximum: float) -> bool:
    return bool((values >= 0).all() and (values <= maximum + 1e-6).all())


def _parse_numbers(name: str, values: Any) -> Array:
    """Convert a flat list of finite numbers; reject true, null, NaN and 1e999."""
    if isinstance(values, list) and all(type(value) in (int, float) for value in values):
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:
            array = np.array([np.inf])
        if np.isfinite(array).all():
            return array
    raise InputError(f"has non-finite or non-numeric values in {name}")

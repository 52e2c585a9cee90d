"""The list of a data set's clips: ``manifest.jsonl``, one row a clip."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from loris_cli.errors import InputError

NAME = "manifest.jsonl"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip; paths are relative to the data set's folder and stay inside it."""

    id: str
    subset: str
    split: str
    """``train``, ``val`` or ``test``."""
    duration_s: float
    genre: str
    source: str
    """Where it comes from: a video's name, or ``synthesised``."""
    audio: str
    """FLAC, mono, 22,050 Hz."""
    rhythm: str
    """npz: ``accents_s``, ``strengths``, ``energy`` (16 Hz), ``beats_s``; see docs/contracts.md
    for what made-up clips tell besides."""
    poses: str = ""
    """npz as `loris pose` writes it; empty where no body is known."""
    schema: int = 1


def write_manifest(folder: Path, clips: Iterable[Clip]) -> Path:
    """Write the list, whole or not at all."""
    path = folder / NAME
    part = path.with_suffix(".part")
    rows = "".join(json.dumps(asdict(clip)) + "\n" for clip in clips)
    part.write_text(rows, encoding="utf-8")
    part.replace(path)
    return path


def read_manifest(folder: Path) -> list[Clip]:
    """Read the list.

    Raises:
        InputError: there is none, or a row is not a clip of schema 1, or a path of it
            leads out of the folder.
    """
    path = folder / NAME
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{folder} has no readable {NAME}", hint="is it a data set?"
        ) from error
    return [_clip(row, f"{path}:{number}") for number, row in enumerate(rows, 1) if row.strip()]


def _clip(row: str, where: str) -> Clip:
    types = {field.name: field.type for field in fields(Clip)}
    try:
        values = json.loads(row)
        if not isinstance(values, dict) or values.get("schema") != 1:
            raise InputError(f"{where} is not a clip of schema 1")
        clip = Clip(**{name: value for name, value in values.items() if name in types})
    except (ValueError, TypeError) as error:
        raise InputError(f"{where} is not a clip: {error}") from error
    for name, kind in types.items():
        value = getattr(clip, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number if kind in (float, int) else isinstance(value, str)):
            raise InputError(f"{where} holds {value!r} as {name}")
    for path in (clip.audio, clip.rhythm, clip.poses):
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise InputError(f"{where} points out of the data set: {path}")
    return clip

"""The list of a data set's clips: ``manifest.jsonl``, one row a clip."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import atomic_write, printable_path

MANIFEST_FILE = "manifest.jsonl"
VISUAL_ENCODERS = ("i3d-r50", "i3d-kinetics", "i3d-charades", "i3d")
"""Makers of visual features, the one that a network is rather trained on first: pytorchvideo's
I3D-R50; the Inception I3D by what it was itself trained on, or just so where nobody tells."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip; paths are relative to the data set's folder and stay inside it."""

    id: str
    subset: str
    partition: str
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
    visual: Mapping[str, str] = field(default_factory=dict)
    """npz with ``features``, ``(rows, width)``, two rows a second, by maker (`VISUAL_ENCODERS`)."""
    schema: int = 1

    @property
    def file_paths(self) -> tuple[str, ...]:
        """All that it has, relative to the data set's folder."""
        return tuple(filter(None, (self.audio, self.rhythm, self.poses, *self.visual.values())))


def write_manifest(folder: Path, clips: Iterable[Clip]) -> Path:
    """Write the list, whole or not at all."""
    return write_manifest_rows(folder, (asdict(clip) for clip in clips))


def write_manifest_rows(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """As `write_manifest`, of rows that tell more than a `Clip` does."""
    path = folder / MANIFEST_FILE
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with atomic_write(path, overwrite=True) as part:
        part.write_text(lines, encoding="utf-8")
    return path


def read_manifest(folder: Path) -> list[Clip]:
    """Read the list.

    Raises:
        InputError: there is none, or a row is not a clip of schema 1, or a path of it
            leads out of the folder, or an id stands twice.
    """
    clips = [clip for clip, _ in read_manifest_rows(folder)]
    seen: set[str] = set()
    root = os.path.realpath(folder)
    for clip in clips:
        if clip.id in seen:
            raise InputError(
                f"{printable_path(folder)} has two clips {printable_path(clip.id)}",
                hint="make the manifest again",
            )
        seen.add(clip.id)
        for name in clip.file_paths:
            if not os.path.realpath(folder / name).startswith(os.path.join(root, "")):
                raise InputError(
                    f"{printable_path(name)} is a link out of {printable_path(folder)}",
                    hint="a data set holds its own files",
                )
    return clips


def read_manifest_rows(folder: Path) -> list[tuple[Clip, dict[str, Any]]]:
    """Clips, and their rows with whatever else these tell.

    Raises:
        InputError: there is no list, or a row is not a clip of schema 1.
    """
    path = folder / MANIFEST_FILE
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{folder} has no readable {MANIFEST_FILE}", hint="is it a data set?"
        ) from error
    return [
        _parse_clip(row, f"{path}:{number}")
        for number, row in enumerate(rows, 1)
        if row.strip()
    ]


def _parse_clip(line: str, location: str) -> tuple[Clip, dict[str, Any]]:
    types = {known.name: known.type for known in fields(Clip)}
    try:
        values = json.loads(line)
        if not isinstance(values, dict) or values.get("schema") != 1:
            raise InputError(f"{location} is not a clip of schema 1")
        if isinstance(values.get("visual"), str):  # as it was when there was one maker
            values["visual"] = {"i3d": values["visual"]}
        clip = Clip(**{name: value for name, value in values.items() if name in types})
    except (ValueError, TypeError) as error:
        raise InputError(f"{location} is not a clip: {error}") from error
    visual = clip.visual if isinstance(clip.visual, dict) else {"": None}
    if not all(isinstance(path, str) for path in visual.values()) or set(visual) - set(
        VISUAL_ENCODERS
    ):
        raise InputError(f"{location} holds {clip.visual!r} as visual")
    for name, kind in types.items():
        if name == "visual":
            continue
        value = getattr(clip, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number if kind in (float, int) else isinstance(value, str)):
            raise InputError(f"{location} holds {value!r} as {name}")
    told = values.get("files", {})
    if not isinstance(told, dict):
        raise InputError(f"{location} holds {told!r} as files")
    for path in (*clip.file_paths, *told):
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise InputError(f"{location} points out of the data set: {path}")
    return clip, values

"""The manifest of a data set: ``manifest.jsonl``, one row a clip."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import atomic_write

MANIFEST_FILE = "manifest.jsonl"
SCHEMA = 2
PARTITIONS = ("train", "val", "test")
VISUAL_ENCODERS = ("i3d-r50", "i3d-kinetics", "i3d-charades", "i3d")
"""Encoders of visual features, in the order of preference for training: pytorchvideo's I3D-R50;
the Inception I3D by the data that it was trained on, or ``i3d`` where that is unknown."""
RHYTHM_ARRAYS = ("accents_s", "strengths", "energy", "beats_s")
"""Arrays of every rhythm file."""
POSE_RHYTHM_ARRAYS = ("pose_peaks_s", "pose_peak_strengths", "motion_energy", "timing_jitter")
"""Arrays of the rhythm file of a clip with poses."""
REMAKE_HINT = "make the data set again with this version of loris: loris prep"


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
    """Name of the source video, or ``synthesised``."""
    audio: str
    """FLAC, mono, 22,050 Hz."""
    rhythm: str
    """npz: ``accents_s``, ``strengths``, ``energy`` (16 Hz), ``beats_s``; see docs/contracts.md
    for the further arrays of synthetic clips."""
    poses: str = ""
    """npz as `loris pose` writes it; empty where no pose is known."""
    visual: Mapping[str, str] = field(default_factory=dict)
    """npz with ``features``, ``(rows, width)``, two rows a second, by encoder
    (`VISUAL_ENCODERS`)."""
    synthetic: bool = False
    """The clip was rendered by loris, not recorded."""
    schema: int = SCHEMA

    @property
    def file_paths(self) -> tuple[str, ...]:
        """All its files, relative to the data set's folder."""
        return tuple(filter(None, (self.audio, self.rhythm, self.poses, *self.visual.values())))


FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "duration_s": (int, float), "visual": (dict,), "synthetic": (bool,), "schema": (int,)
}  # fmt: skip
"""Types of the fields that are not strings; `bool` is not a number here."""


def write_manifest(folder: Path, clips: Iterable[Clip]) -> Path:
    """Write the manifest atomically."""
    return write_manifest_rows(folder, (asdict(clip) for clip in clips))


def write_manifest_rows(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write the manifest from rows with further fields than those of a `Clip`."""
    path = folder / MANIFEST_FILE
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(lines, encoding="utf-8")
    return path


def read_manifest(folder: Path) -> list[Clip]:
    """Read the clips of a data set.

    Raises:
        InputError: as `read_manifest_rows`.
    """
    return [clip for clip, _ in read_manifest_rows(folder)]


def read_manifest_rows(folder: Path) -> list[tuple[Clip, dict[str, Any]]]:
    """Read the clips of a data set, each with its full row.

    Raises:
        InputError: there is no manifest, a row is not a clip of schema 2, a path of it
            leads out of the folder, or an id stands twice.
    """
    path = folder / MANIFEST_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}", hint="is it a data set?") from error
    rows = [_parse_row(row, f"{path}:{k}") for k, row in enumerate(lines, 1) if row.strip()]
    ids: set[str] = set()
    root = os.path.join(os.path.realpath(folder), "")
    for clip, _ in rows:
        if clip.id in ids:
            raise InputError(f"{folder} has two clips {clip.id}", hint="rebuild the manifest")
        ids.add(clip.id)
        for name in clip.file_paths:
            if not os.path.realpath(folder / name).startswith(root):
                raise InputError(f"{name} links out of {folder}", hint="replace it by a copy")
    return rows


def _parse_row(line: str, location: str) -> tuple[Clip, dict[str, Any]]:
    try:
        row = json.loads(line)
        if not isinstance(row, dict) or row.get("schema") != SCHEMA:
            raise InputError(f"{location} is not a clip of schema {SCHEMA}", hint=REMAKE_HINT)
        known = {known.name for known in fields(Clip)}
        clip = Clip(**{name: value for name, value in row.items() if name in known})
    except (ValueError, TypeError) as error:
        raise InputError(f"{location} is not a clip: {error}", hint=REMAKE_HINT) from error
    for name in sorted(known):
        if type(value := getattr(clip, name)) not in FIELD_TYPES.get(name, (str,)):
            raise InputError(f"{location} holds {value!r} as {name}")
    if set(clip.visual) - set(VISUAL_ENCODERS) or set(map(type, clip.visual.values())) - {str}:
        raise InputError(f"{location} holds {clip.visual!r} as visual")
    files = row.get("files", {})
    if not isinstance(files, dict):
        raise InputError(f"{location} holds {files!r} as files")
    for path in (*clip.file_paths, *files):
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise InputError(f"{location} points out of the data set: {path}")
    return clip, row

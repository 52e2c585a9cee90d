"""Manifest of a data set: ``manifest.jsonl``, one row per clip."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from loris_cli.dataset.source_names import derive_groups
from loris_cli.errors import InputError
from loris_cli.system.atomic_files import atomic_write

MANIFEST_FILE = "manifest.jsonl"
SCHEMA = 2
PARTITIONS = ("train", "val", "test")
VISUAL_ENCODERS = ("i3d-r50", "i3d-kinetics", "i3d-charades", "i3d")
"""Encoders of visual features, in order of preference for training: I3D-R50 of pytorchvideo,
then Inception I3D by training set; ``i3d`` if the training set is unknown."""
RHYTHM_ARRAYS = ("accents_s", "strengths", "energy", "beats_s")
"""Arrays of every rhythm file."""
POSE_RHYTHM_ARRAYS = ("pose_peaks_s", "pose_peak_strengths", "motion_energy")
"""Additional arrays in the rhythm file of a clip with poses."""
SYNTHETIC_SOURCE = "synthetic"
"""Source name of clips without a video. Each of these clips counts as a separate source."""
REBUILD_HINT = "run the command that created the data set again"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip. Paths are relative to the data set folder and must not leave it."""

    id: str
    subset: str
    partition: str
    """``train``, ``val`` or ``test``."""
    duration_s: float
    genre: str
    source: str
    """Name of the source video; `SYNTHETIC_SOURCE` for synthetic music without a video."""
    audio: str
    """FLAC, mono, 22,050 Hz."""
    rhythm: str
    """npz: ``accents_s``, ``strengths``, ``energy`` (16 Hz), ``beats_s``. Synthetic clips have
    additional arrays; see docs/formats.md."""
    poses: str = ""
    """npz in the format of `loris pose`; empty for a clip without poses."""
    visual: Mapping[str, str] = field(default_factory=dict)
    """npz with ``features``, ``(rows, width)``, 2 rows per second, by encoder
    (`VISUAL_ENCODERS`)."""
    groups: tuple[str, ...] = ()
    """Identifiers of the performance, music, dancer, source or video that the clip shares with
    other clips."""
    official_partition: str = ""
    """Partition in the authors' release, ``train`` or ``test``; empty if unknown."""
    synthetic: bool = False
    """True for a clip rendered by loris, False for a recording."""
    schema: int = SCHEMA

    @property
    def all_groups(self) -> tuple[str, ...]:
        """Groups of the manifest and of the source name.

        A clip without a video and groups is a group of its own.
        """
        if self.source == SYNTHETIC_SOURCE:
            return self.groups or (f"clip:{self.id}",)
        derived = derive_groups(Path(self.source).stem)
        # The bare name identifies a source only where nothing better is known.
        is_known = not self.groups or derived[0] != f"video:{Path(self.source).stem}"
        return tuple(dict.fromkeys([*self.groups, *(derived if is_known else ())]))

    @property
    def file_paths(self) -> tuple[str, ...]:
        """Paths of all files of the clip, relative to the data set folder."""
        return tuple(filter(None, (self.audio, self.rhythm, self.poses, *self.visual.values())))


FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "duration_s": (int, float), "visual": (dict,), "synthetic": (bool,), "schema": (int,),
    "groups": (tuple,),
}  # fmt: skip
"""Types of the fields that are not strings. `bool` is not accepted as a number."""


def write_manifest(folder: Path, clips: Iterable[Clip]) -> Path:
    """Write the manifest atomically."""
    return write_manifest_rows(folder, (asdict(clip) for clip in clips))


def write_manifest_rows(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write the manifest atomically from rows that may have more fields than `Clip`."""
    path = folder / MANIFEST_FILE
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(lines, encoding="utf-8")
    return path


def read_manifest(folder: Path) -> list[Clip]:
    """Read the clips of a data set.

    Raises:
        InputError: see `read_manifest_rows`.
    """
    return [clip for clip, _ in read_manifest_rows(folder)]


def read_manifest_rows(folder: Path) -> list[tuple[Clip, dict[str, Any]]]:
    """Read the clips of a data set, each with its complete manifest row.

    Raises:
        InputError: the manifest is missing, a row is not a clip of schema 2, a path points
            outside the folder, or a clip id is duplicated.
    """
    path = folder / MANIFEST_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}", hint="check the data set folder") from error
    rows = [_parse_row(row, f"{path}:{k}") for k, row in enumerate(lines, 1) if row.strip()]
    ids: set[str] = set()
    root = os.path.join(os.path.realpath(folder), "")
    for clip, _ in rows:
        if clip.id in ids:
            raise InputError(
                f"{folder} has two clips with the id {clip.id}", hint="rebuild the manifest"
            )
        ids.add(clip.id)
        for name in clip.file_paths:
            if not os.path.realpath(folder / name).startswith(root):
                raise InputError(
                    f"{name} links to a file outside {folder}",
                    hint="replace the link with a copy of the file",
                )
    return rows


def _parse_row(line: str, location: str) -> tuple[Clip, dict[str, Any]]:
    try:
        row = json.loads(line)
        if not isinstance(row, dict) or row.get("schema") != SCHEMA:
            raise InputError(f"{location} is not a clip of schema {SCHEMA}", hint=REBUILD_HINT)
        known = {known.name for known in fields(Clip)}
        values = {name: value for name, value in row.items() if name in known}
        if isinstance(values.get("groups"), list):
            values["groups"] = tuple(values["groups"])
        clip = Clip(**values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{location} is not a clip: {error}", hint=REBUILD_HINT) from error
    for name in sorted(known):
        if type(value := getattr(clip, name)) not in FIELD_TYPES.get(name, (str,)):
            raise InputError(f"{location}: invalid value {value!r} for {name}")
    if set(clip.visual) - set(VISUAL_ENCODERS) or set(map(type, clip.visual.values())) - {str}:
        raise InputError(f"{location}: invalid value {clip.visual!r} for visual")
    if set(map(type, clip.groups)) - {str}:
        raise InputError(f"{location}: invalid value {clip.groups!r} for groups")
    files = row.get("files", {})
    if not isinstance(files, dict):
        raise InputError(f"{location}: invalid value {files!r} for files")
    for path in (*clip.file_paths, *files):
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise InputError(f"{location}: path outside the data set: {path}")
    return clip, row

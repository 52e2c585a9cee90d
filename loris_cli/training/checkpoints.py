"""The folder of a run: who it is, its weights, and what it needs to go on.

    RUN/run.json                     preset, data and versions: what may not change
    RUN/codes.safetensors            codes of the clips, made once the latent is learned
    RUN/STAGE/settings.json          of the stage
    RUN/STAGE/best.safetensors       averaged weights with the lowest loss on held-out clips
    RUN/STAGE/last.safetensors       averaged weights of the last save
    RUN/STAGE/resume.pt              all that a stopped run goes on from
    RUN/STAGE/log.jsonl              losses, rates, validations
    RUN/STAGE/sounds/                what it makes of held-out clips
    RUN/PRESET.safetensors           the whole model, for ``--model``

Every file is written beside its place and renamed, so a full disk or a kill leaves the old one.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from loris_cli import __version__
from loris_cli.dataset.manifest import Clip
from loris_cli.errors import InputError, OutputError, UsageError
from loris_cli.system.atomic_files import atomic_write, printable_path
from loris_cli.training.settings import TrainingSettings

TrainingState = dict[str, Any]


def hash_clips(clips: list[Clip]) -> str:
    """Of the clips of a data set, by what its manifest says of them: 12 hex digits."""
    rows = sorted(json.dumps(asdict(clip), sort_keys=True) for clip in clips)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


class RunFolder:
    """A folder that belongs to one run."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is made yet."""
        self.path = path

    def create_or_verify(self, fixed_values: dict[str, Any], *, resume: bool) -> None:
        """Make the folder this run's, or find that it is.

        Args:
            fixed_values: what may not change when a run goes on.
            resume: whether an earlier part of this run may be there.

        Raises:
            UsageError: another run is there, or an earlier part of this that may not be.
            OutputError: something that is no run is there, or it cannot be made.
        """
        told = self.path / "run.json"
        if told.exists():
            before = _read_json(told)
            odd = [
                key
                for key in sorted(fixed_values.keys() | before.keys())
                if key != "loris" and before.get(key) != fixed_values.get(key)
            ]
            if odd:
                raise UsageError(
                    f"{printable_path(self.path)} is another run: its {odd[0]} is"
                    f" {before.get(odd[0])!r}, not {fixed_values.get(odd[0])!r}",
                    hint="give another --out",
                )
            if not resume:
                raise UsageError(
                    f"{printable_path(self.path)} holds this run already",
                    hint="--resume auto goes on with it; or give another --out",
                )
            return
        try:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise OutputError(
                    f"{printable_path(self.path)} is there and is no run",
                    hint="give another --out",
                )
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{printable_path(self.path)} cannot be made: {error.strerror}",
                hint="give another --out",
            ) from error
        _write_json(told, {**fixed_values, "loris": __version__})

    @property
    def latents_path(self) -> Path:
        """Where the codes of the clips are."""
        return self.path / "codes.safetensors"

    def stage_folder(self, settings: TrainingSettings) -> "StageFolder":
        """The folder of a stage."""
        return StageFolder(self.path / settings.stage)

    def prepare_stage_folder(self, settings: TrainingSettings) -> None:
        """Make the folder of a stage, or find that it is of this one.

        Raises:
            UsageError: the stage was begun with other settings.
        """
        folder = self.stage_folder(settings)
        folder.path.mkdir(exist_ok=True)
        told = folder.path / "settings.json"
        if told.exists():
            before, now = _read_json(told), settings.fixed_on_resume()
            for key in sorted(now):
                if key in before and before[key] != now[key]:
                    raise UsageError(
                        f"{printable_path(folder.path)} was begun with {key} {before[key]!r},"
                        f" not {now[key]!r}",
                        hint="give another --out, or the same settings",
                    )
        _write_json(told, asdict(settings))


class StageFolder:
    """What a stage keeps."""

    def __init__(self, path: Path) -> None:
        """Name the folder."""
        self.path = path
        self.best_weights, self.last_weights = (
            path / "best.safetensors",
            path / "last.safetensors",
        )
        self.checkpoint_path, self.metrics_path = path / "resume.pt", path / "log.jsonl"
        self.samples_dir = path / "sounds"

    def write_checkpoint(self, state: TrainingState) -> None:
        """Keep what a run goes on from."""
        with _atomic_write(self.checkpoint_path) as part:
            torch.save(state, part)

    def read_checkpoint(self, device: torch.device) -> TrainingState | None:
        """What was kept, or None if nothing was.

        Raises:
            InputError: it is damaged.
        """
        if not self.checkpoint_path.exists():
            return None
        try:
            state: TrainingState = torch.load(
                self.checkpoint_path, map_location=device, weights_only=True
            )
            if not isinstance(state, dict) or "step" not in state:
                raise ValueError("no step")
        except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
            raise InputError(
                f"{printable_path(self.checkpoint_path)} is damaged: {str(error).splitlines()[0]}",
                hint="delete it to begin the stage anew",
            ) from error
        return state

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add a row to the log."""
        with self.metrics_path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

    def truncate_metrics(self, last_step: int) -> None:
        """Forget rows after a step: a run that goes on from there writes them again."""
        if self.metrics_path.exists():
            rows = [row for row in self.metrics_path.read_text().splitlines() if row.strip()]
            kept = [row for row in rows if json.loads(row).get("step", 0) <= last_step]
            with _atomic_write(self.metrics_path) as part:
                part.write_text("".join(f"{row}\n" for row in kept), encoding="utf-8")


def write_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write weights as safetensors, whole or not at all."""
    with _atomic_write(path) as part:
        save_file(
            {key: value.cpu().contiguous() for key, value in tensors.items()}, part, metadata
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights.

    Raises:
        InputError: they are not there, or no safetensors.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{printable_path(path)} cannot be read as safetensors: {error}",
            hint="name weights that `loris train` wrote",
        ) from error


def _write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a small file, whole or not at all."""
    with _atomic_write(path) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _atomic_write(path: Path) -> Iterator[Path]:
    """A file that takes its place when it is whole; a full disk is told of as such."""
    with translate_disk_errors(path), atomic_write(path, overwrite=True) as part:
        yield part


@contextmanager
def translate_disk_errors(path: Path) -> Iterator[None]:
    """While weights are written: torch and safetensors have errors of their own for a disk."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OutputError(
            f"{printable_path(path)} cannot be written: {str(error).splitlines()[0]}",
            hint="free some space; what was saved before is whole",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{printable_path(path)} cannot be read", hint="give another --out"
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{printable_path(path)} is not of a run", hint="give another --out")
    return values

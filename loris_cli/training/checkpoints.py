"""Folder of a training run: identity, settings, weights, and the state to resume from.

    RUN/run.json                     preset, subset, seed and hash of the data: fixed on resume
    RUN/latents.safetensors          latents of the clips, written once the latent stage is done
    RUN/STAGE/settings.json          settings of the stage
    RUN/STAGE/best.safetensors       averaged weights with the lowest validation loss
    RUN/STAGE/last.safetensors       averaged weights of the last save
    RUN/STAGE/resume.pt              weights, their average and the optimizer state
    RUN/STAGE/metrics.jsonl          losses, learning rates, validations
    RUN/STAGE/samples/               audio generated for validation clips
    RUN/PRESET.safetensors           the complete model, for ``--model``

Every file is written under a hidden name and renamed: a full disk or a kill leaves the old one.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from loris_cli import __version__
from loris_cli.dataset.manifest import Clip
from loris_cli.errors import InputError, OutputError, UsageError
from loris_cli.system.atomic_files import atomic_write
from loris_cli.training.settings import StageName, TrainingSettings

TrainingState = dict[str, Any]
Weights = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors by name, and the metadata of their file."""
WeightsChoice = Literal["best", "last"]
RUN_SCHEMA = 2
"""Version of the field names in ``run.json``, ``settings.json`` and ``resume.pt``."""


def hash_clips(clips: Iterable[Clip]) -> str:
    """Return a hash of the manifest rows of clips: 12 hex digits."""
    rows = sorted(json.dumps(asdict(clip), sort_keys=True) for clip in clips)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


class RunFolder:
    """A folder that belongs to one run."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is created yet."""
        self.path, self.identity_path = path, path / "run.json"
        self.latents_path = path / "latents.safetensors"

    def create_or_verify(self, identity: dict[str, Any], *, resume: bool) -> None:
        """Create the folder, or check that it belongs to this run.

        Args:
            identity: values that may not change when a run is resumed.
            resume: whether the folder may hold an earlier part of this run.

        Raises:
            UsageError: it holds another run, or an earlier part of this one that it may not.
            InputError: the run was written by an older version of loris.
            OutputError: it holds something else, or it cannot be created.
        """
        if self.identity_path.exists():
            recorded = self.read_identity()
            keys = (identity.keys() | recorded.keys()) - {"loris", "schema"}
            _check_same(self.path, recorded, identity, keys)
            if not resume:
                raise UsageError(
                    f"{self.path} holds this run already",
                    hint="--resume auto goes on with it; or give another --out",
                )
            return
        try:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise OutputError(f"{self.path} is no run folder", hint="give another --out")
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be created: {error.strerror}", hint="give another --out"
            ) from error
        identity = {"schema": RUN_SCHEMA, "loris": __version__, **identity}
        _write_json(self.identity_path, identity)

    def read_identity(self) -> dict[str, Any]:
        """Read what identifies the run.

        Raises:
            InputError: the folder holds no run, or one of an older version of loris.
        """
        identity = _read_json(self.identity_path)
        schema = identity.get("schema", 1)
        if schema != RUN_SCHEMA or "preset" not in identity:
            raise InputError(
                f"{self.path} has run schema {schema}, not {RUN_SCHEMA}",
                hint="train it again with this version of loris, into another --out",
            )
        return identity

    def stage_folder(self, stage: StageName) -> "StageFolder":
        """Return the folder of a stage."""
        return StageFolder(self.path / stage)

    def prepare_stage_folder(self, settings: TrainingSettings) -> None:
        """Create the folder of a stage, or check that it has the same settings.

        Raises:
            UsageError: the stage was started with other settings.
        """
        folder = self.stage_folder(settings.stage).path
        folder.mkdir(exist_ok=True)
        path = folder / "settings.json"
        if path.exists():
            recorded, fixed = _read_json(path), settings.fixed_on_resume()
            _check_same(folder, recorded, fixed, fixed.keys() & recorded.keys())
        _write_json(path, asdict(settings))


class StageFolder:
    """Files of one stage."""

    def __init__(self, path: Path) -> None:
        """Name the folder."""
        self.path = path
        self.best_weights = path / "best.safetensors"
        self.last_weights = path / "last.safetensors"
        self.checkpoint_path, self.metrics_path = path / "resume.pt", path / "metrics.jsonl"
        self.samples_dir = path / "samples"

    def find_weights(self, choice: WeightsChoice = "best") -> Path | None:
        """Return the path of the best weights if they exist, else of the last, else None."""
        paths = [self.best_weights] * (choice == "best") + [self.last_weights]
        return next((path for path in paths if path.exists()), None)

    def write_checkpoint(self, state: TrainingState) -> None:
        """Write the state that a run resumes from."""
        with _atomic_write(self.checkpoint_path) as path:
            torch.save(state, path)

    def read_checkpoint(self, device: torch.device) -> TrainingState | None:
        """Read the state that a run resumes from; None if there is none.

        Raises:
            InputError: it is damaged.
        """
        path = self.checkpoint_path
        if not path.exists():
            return None
        try:
            state: TrainingState = torch.load(path, map_location=device, weights_only=True)
            if not isinstance(state, dict) or "step" not in state:
                raise ValueError("no step")
        except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
            raise InputError(
                f"{path} is damaged: {str(error).splitlines()[0]}",
                hint="delete it to start the stage again",
            ) from error
        return state

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Append a record to the metrics."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def truncate_metrics(self, last_step: int) -> None:
        """Delete the records after a step: a run that resumes there writes them again."""
        if self.metrics_path.exists():
            rows = filter(str.strip, self.metrics_path.read_text(encoding="utf-8").splitlines())
            records = [row for row in rows if json.loads(row).get("step", 0) <= last_step]
            with _atomic_write(self.metrics_path) as path:
                path.write_text("".join(f"{row}\n" for row in records), encoding="utf-8")


def write_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write weights as safetensors, atomically."""
    contiguous = {key: value.cpu().contiguous() for key, value in tensors.items()}
    with _atomic_write(path) as temporary_path:
        save_file(contiguous, temporary_path, metadata)


def read_weights(path: Path) -> Weights:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        InputError: it does not exist, or it is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors: {error}",
            hint="name weights that `loris train` wrote",
        ) from error


def _check_same(folder: Path, old: dict[str, Any], new: dict[str, Any], keys: set[str]) -> None:
    for key in sorted(keys):
        if old.get(key) != new.get(key):
            raise UsageError(
                f"{folder} was started with {key} {old.get(key)!r}, not {new.get(key)!r}",
                hint="give another --out, or the same settings",
            )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with _atomic_write(path) as temporary_path:
        temporary_path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _atomic_write(path: Path) -> Iterator[Path]:
    with translate_disk_errors(path), atomic_write(path, overwrite=True) as temporary_path:
        yield temporary_path


@contextmanager
def translate_disk_errors(path: Path) -> Iterator[None]:
    """Raise `OutputError` for the errors that torch and safetensors raise on a full disk."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OutputError(
            f"{path} cannot be written: {str(error).splitlines()[0]}",
            hint="free some space; the previous save is complete",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}",
            hint="name a folder that `loris train` wrote, or another --out",
        ) from error
    return values

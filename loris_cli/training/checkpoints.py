"""Folder of a training run: identity, settings, weights, and resume state.

    RUN/run.json                     preset, subset, seed and data hash, fixed on resume
    RUN/latents.safetensors          latents of the clips, written after the latent stage
    RUN/STAGE/settings.json          settings of the stage
    RUN/STAGE/best.safetensors       EMA weights with the lowest validation loss
    RUN/STAGE/last.safetensors       EMA weights of the last save
    RUN/STAGE/resume.pt              weights, EMA weights and optimizer state
    RUN/STAGE/metrics.jsonl          losses, learning rates, validation results
    RUN/STAGE/samples/               audio generated for validation clips
    RUN/PRESET.safetensors           complete model, for ``--model``

Files are written to a hidden temporary file and renamed, so a full disk or a killed process
does not damage the previous version.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from loris_cli import __version__
from loris_cli.dataset.manifest import Clip
from loris_cli.errors import InputError, OutputError, UsageError
from loris_cli.system.atomic_files import atomic_write, output_errors
from loris_cli.system.state_dict_files import MALFORMED_FILE_ERRORS, is_torch_file
from loris_cli.training.settings import Preset, StageName, TrainingSettings

TrainingState = dict[str, Any]
Weights = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors by name, and the metadata of their file."""
WeightsChoice = Literal["best", "last"]
RUN_SCHEMA = 2
"""Version of the field names in ``run.json``, ``settings.json`` and ``resume.pt``."""
RESUME_TYPES: dict[str, type] = {
    "step": int, "best_val_loss": float, "n_nonfinite_steps": int,
    "consecutive_nonfinite_steps": int, "losses": list, "random_states": list, "model": dict,
    "ema": dict, "optimizer": dict,
}  # fmt: skip
"""Entries of ``resume.pt``."""
MAX_REASON_LENGTH = 200
"""Characters of the reason of an error; torch lists all tensors that do not fit."""
RESUME_HINT = "use the same settings and --backbone, or delete it to restart the stage"


def hash_clips(clips: Iterable[Clip]) -> str:
    """Return a hash of the manifest rows of clips, 12 hex digits."""
    rows = sorted(json.dumps(asdict(clip), sort_keys=True) for clip in clips)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


class RunFolder:
    """Folder of one training run."""

    def __init__(self, path: Path) -> None:
        """Set the paths; nothing is created."""
        self.path, self.identity_path = path, path / "run.json"
        self.latents_path = path / "latents.safetensors"

    def create_or_verify(self, identity: dict[str, Any], *, resume: bool) -> None:
        """Create the folder, or check that it belongs to this run.

        Args:
            identity: values that must not change when a run is resumed.
            resume: whether an existing run in the folder may be resumed.

        Raises:
            UsageError: the folder has another run, or has this run and ``resume`` is False.
            InputError: the run was written by an incompatible version of loris.
            OutputError: the folder cannot be created, or has files that are not of a run.
        """
        if self.identity_path.exists():
            recorded = self.read_identity()
            keys = (identity.keys() | recorded.keys()) - {"loris", "schema"}
            _check_same(self.path, recorded, identity, keys)
            if not resume:
                raise UsageError(
                    f"{self.path} already contains this run",
                    hint="omit --no-resume to continue it, or use another --out",
                )
            return
        try:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise OutputError(f"{self.path} is not a run folder", hint="use another --out")
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot create {self.path}: {error.strerror}", hint="use another --out"
            ) from error
        identity = {"schema": RUN_SCHEMA, "loris": __version__, **identity}
        _write_json(self.identity_path, identity)

    def read_identity(self) -> dict[str, Any]:
        """Read the identity of the run.

        Raises:
            InputError: the folder has no run, or one of an incompatible version of loris.
        """
        identity = _read_json(self.identity_path)
        schema = identity.get("schema", 1)
        if schema != RUN_SCHEMA or identity.get("preset") not in get_args(Preset):
            raise InputError(
                f"{self.path} has run schema {schema}, expected {RUN_SCHEMA}",
                hint="train again with this version of loris and another --out",
            )
        return identity

    def stage_folder(self, stage: StageName) -> "StageFolder":
        """Return the folder of a stage."""
        return StageFolder(self.path / stage)

    def prepare_stage_folder(self, settings: TrainingSettings) -> None:
        """Create the folder of a stage, or check that its settings are compatible.

        Raises:
            UsageError: the stage was started with different settings.
        """
        folder = self.stage_folder(settings.stage).path
        with output_errors(folder):
            folder.mkdir(exist_ok=True)
        path = folder / "settings.json"
        if path.exists():
            recorded, fixed = _read_json(path), settings.fixed_on_resume()
            _check_same(folder, recorded, fixed, fixed.keys() & recorded.keys())
        _write_json(path, asdict(settings))


class StageFolder:
    """Folder of one training stage."""

    def __init__(self, path: Path) -> None:
        """Set the paths; nothing is created."""
        self.path = path
        self.best_weights = path / "best.safetensors"
        self.last_weights = path / "last.safetensors"
        self.checkpoint_path, self.metrics_path = path / "resume.pt", path / "metrics.jsonl"
        self.samples_dir = path / "samples"

    def find_weights(self, choice: WeightsChoice = "best") -> Path | None:
        """Return the path of the best weights, else of the last ones, else None."""
        paths = [self.best_weights] * (choice == "best") + [self.last_weights]
        return next((path for path in paths if path.exists()), None)

    def write_checkpoint(self, state: TrainingState) -> None:
        """Write the resume state."""
        with _atomic_write(self.checkpoint_path) as path:
            torch.save(state, path)

    def read_checkpoint(self, device: torch.device) -> TrainingState | None:
        """Read the resume state; None if there is none.

        Raises:
            InputError: the file is damaged.
        """
        path = self.checkpoint_path
        if not path.exists():
            return None
        with damaged_file_errors(path, hint=RESUME_HINT):
            state: TrainingState = torch.load(path, map_location=device, weights_only=True)
            for name, expected in RESUME_TYPES.items():
                if not isinstance(state[name], expected):
                    raise ValueError(f"invalid {name}")
            if state["step"] < 0 or not all(isinstance(x, float) for x in state["losses"]):
                raise ValueError("invalid step or losses")
        return state

    def resume_errors(self) -> AbstractContextManager[None]:
        """Convert errors of loading a resume state into networks to `InputError`."""
        return damaged_file_errors(self.checkpoint_path, hint=RESUME_HINT)

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Append a record to the metrics file."""
        path = self.metrics_path
        with output_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def truncate_metrics(self, last_step: int) -> None:
        """Delete damaged records and those after a step, which the resumed run repeats."""
        if self.metrics_path.exists():
            with output_errors(self.metrics_path):
                text = self.metrics_path.read_text(encoding="utf-8", errors="replace")
            records = [row for row in text.splitlines() if _read_step(row) <= last_step]
            with _atomic_write(self.metrics_path) as path:
                path.write_text("".join(f"{row}\n" for row in records), encoding="utf-8")


def write_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write weights atomically as safetensors."""
    contiguous = {key: value.cpu().contiguous() for key, value in tensors.items()}
    with _atomic_write(path) as temporary_path:
        save_file(contiguous, temporary_path, metadata)


def read_weights(path: Path) -> Weights:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        InputError: the file does not exist or is not a safetensors file.
    """
    with _open_weights(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}


def _read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file, see `read_weights`."""
    with _open_weights(path) as file:
        return file.metadata() or {}


@contextmanager
def _open_weights(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (*MALFORMED_FILE_ERRORS, SafetensorError) as error:
        raise InputError(
            f"cannot read {path} as safetensors: {error}",
            hint="pass weights written by `loris train`",
        ) from error


def is_conditional_stage(path: Path) -> bool:
    """Return whether a file has the weights of a conditional stage of `loris train`."""
    return not is_torch_file(path) and _read_metadata(path).get("loris.stage") == "conditional"


def is_complete_model(path: Path) -> bool:
    """Return whether a file is a complete model of ``mini``, with its autoencoder."""
    return not is_torch_file(path) and _read_metadata(path).get("loris.kind") == "mini"


@contextmanager
def damaged_file_errors(path: Path, *, hint: str) -> Iterator[None]:
    """Convert errors of reading or using the content of a file to `InputError`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (*MALFORMED_FILE_ERRORS, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON_LENGTH] or type(error).__name__
        raise InputError(f"{path} is damaged or does not fit: {reason}", hint=hint) from error


def _read_step(row: str) -> float:
    """Return the step of a record of the metrics file; infinity if the record is damaged."""
    try:
        step = json.loads(row)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf
    return step if type(step) is int else math.inf


def _check_same(folder: Path, old: dict[str, Any], new: dict[str, Any], keys: set[str]) -> None:
    for key in sorted(keys):
        if old.get(key) != new.get(key):
            raise UsageError(
                f"{folder} was started with {key} {old.get(key)!r}, got {new.get(key)!r}",
                hint="use another --out, or the same settings",
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
    """Convert errors that torch and safetensors raise on a full disk to `OutputError`."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OutputError(
            f"cannot write {path}: {str(error).splitlines()[0]}",
            hint="free disk space; the previous save is intact",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"cannot read {path}: {error}",
            hint="pass a run folder written by `loris train`, or another --out",
        ) from error
    return values

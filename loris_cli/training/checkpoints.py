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
from loris_cli.system.atomic_files import printable, replacing
from loris_cli.training.settings import Settings, in_words_of_now

State = dict[str, Any]


def fingerprint(clips: list[Clip]) -> str:
    """Of the clips of a data set, by what its manifest says of them: 12 hex digits."""
    told = [asdict(clip) for clip in clips]
    for row in told:
        if not row["visual"]:  # as it was when there was no such thing
            del row["visual"]
    rows = sorted(json.dumps(row, sort_keys=True) for row in told)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


class RunFolder:
    """A folder that belongs to one run."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is made yet."""
        self.path = path

    def claim(self, identity: dict[str, Any], *, resume: bool) -> None:
        """Make the folder this run's, or find that it is.

        Args:
            identity: what may not change when a run goes on.
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
                for key in sorted(identity.keys() | before.keys())
                if key != "loris" and before.get(key) != identity.get(key)
            ]
            if odd:
                raise UsageError(
                    f"{printable(self.path)} is another run: its {odd[0]} is"
                    f" {before.get(odd[0])!r}, not {identity.get(odd[0])!r}",
                    hint="give another --out",
                )
            if not resume:
                raise UsageError(
                    f"{printable(self.path)} holds this run already",
                    hint="--resume auto goes on with it; or give another --out",
                )
            return
        try:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise OutputError(
                    f"{printable(self.path)} is there and is no run", hint="give another --out"
                )
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{printable(self.path)} cannot be made: {error.strerror}",
                hint="give another --out",
            ) from error
        write_json(told, {**identity, "loris": __version__})

    @property
    def codes(self) -> Path:
        """Where the codes of the clips are."""
        return self.path / "codes.safetensors"

    def place(self, settings: Settings) -> "StageFolder":
        """The folder of a stage."""
        return StageFolder(self.path / settings.stage)

    def stage(self, settings: Settings) -> None:
        """Make the folder of a stage, or find that it is of this one.

        Raises:
            UsageError: the stage was begun with other settings.
        """
        folder = self.place(settings)
        folder.path.mkdir(exist_ok=True)
        told = folder.path / "settings.json"
        if told.exists():
            before, now = in_words_of_now(_read_json(told)), settings.identity()
            for key in sorted(now):
                if key in before and before[key] != now[key]:
                    raise UsageError(
                        f"{printable(folder.path)} was begun with {key} {before[key]!r},"
                        f" not {now[key]!r}",
                        hint="give another --out, or the same settings",
                    )
        write_json(told, asdict(settings))


class StageFolder:
    """What a stage keeps."""

    def __init__(self, path: Path) -> None:
        """Name the folder."""
        self.path = path
        self.best, self.last = path / "best.safetensors", path / "last.safetensors"
        self.resume, self.log = path / "resume.pt", path / "log.jsonl"
        self.sounds = path / "sounds"

    def write_state(self, state: State) -> None:
        """Keep what a run goes on from."""
        with _writing(self.resume) as part:
            torch.save(state, part)

    def read_state(self, device: torch.device) -> State | None:
        """What was kept, or None if nothing was.

        Raises:
            InputError: it is damaged.
        """
        if not self.resume.exists():
            return None
        try:
            state: State = torch.load(self.resume, map_location=device, weights_only=True)
            if not isinstance(state, dict) or "step" not in state:
                raise ValueError("no step")
        except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
            raise InputError(
                f"{printable(self.resume)} is damaged: {str(error).splitlines()[0]}",
                hint="delete it to begin the stage anew",
            ) from error
        return state

    def write_row(self, row: dict[str, Any]) -> None:
        """Add a row to the log."""
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def cut_log(self, step: int) -> None:
        """Forget rows after a step: a run that goes on from there writes them again."""
        if self.log.exists():
            rows = [row for row in self.log.read_text().splitlines() if row.strip()]
            kept = [row for row in rows if json.loads(row).get("step", 0) <= step]
            with _writing(self.log) as part:
                part.write_text("".join(f"{row}\n" for row in kept), encoding="utf-8")


def write_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write weights as safetensors, whole or not at all."""
    with _writing(path) as part:
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
            f"{printable(path)} cannot be read as safetensors: {error}",
            hint="name weights that `loris train` wrote",
        ) from error


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a small file, whole or not at all."""
    with _writing(path) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """A file that takes its place when it is whole; a full disk is told of as such."""
    with telling_of_disk(path), replacing(path, overwrite=True) as part:
        yield part


@contextmanager
def telling_of_disk(path: Path) -> Iterator[None]:
    """While weights are written: torch and safetensors have errors of their own for a disk."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OutputError(
            f"{printable(path)} cannot be written: {str(error).splitlines()[0]}",
            hint="free some space; what was saved before is whole",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{printable(path)} cannot be read", hint="give another --out"
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{printable(path)} is not of a run", hint="give another --out")
    return values

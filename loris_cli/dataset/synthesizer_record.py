"""Record of the soundfonts of a synthetic data set: all its clips are made with the same."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loris_cli.composition.synthesizer_settings import SynthesizerSettings
from loris_cli.errors import OutputError, UsageError
from loris_cli.system.atomic_files import atomic_write

SYNTHESIZER_FILE = "synthesizer.json"
FOLDER_HINT = "use another folder"


def record_synthesizers(data_dir: Path, synthesizers: Sequence[SynthesizerSettings]) -> None:
    """Write the synthesizers of a data set, or check that they are the recorded ones.

    Args:
        data_dir: data set folder; created if it does not exist.
        synthesizers: synthesizers with their soundfonts.

    Raises:
        UsageError: the data set was made with another synthesizer or soundfont, or its record
            is damaged.
        OutputError: the folder cannot be created.
        InputError: the soundfont is missing or damaged.
        MissingDependencyError: fluidsynth is not installed.
    """
    for synthesizer in synthesizers:
        synthesizer.check()
    described = [synthesizer.describe() for synthesizer in synthesizers]
    path = data_dir / SYNTHESIZER_FILE
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        _write_record(path, described)
        return
    except NotADirectoryError as error:
        raise OutputError(f"{data_dir} is not a folder", hint=FOLDER_HINT) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}", hint=FOLDER_HINT) from error
    if recorded != described:
        raise UsageError(
            f"{data_dir} was made with another synthesizer or soundfont",
            hint=f"use another folder, or the settings in {SYNTHESIZER_FILE}",
        )


def _write_record(path: Path, described: list[dict[str, Any]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create {path.parent}: {error.strerror}", hint=FOLDER_HINT
        ) from error
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(described) + "\n", encoding="utf-8")

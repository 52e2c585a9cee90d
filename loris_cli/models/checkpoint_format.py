"""Metadata of the project's safetensors files: kind, schema, configuration."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from safetensors import SafetensorError, safe_open

from loris_cli.errors import WeightsError

ModelPreset = Literal["mini", "paper"]
ConfigT = TypeVar("ConfigT")

CHECKPOINT_SCHEMA = "2"
MAX_CONFIG_VALUE = 4096
"""Largest size in a configuration: a larger one would only exhaust the memory."""


@contextmanager
def open_checkpoint(path: Path, kind: ModelPreset) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a safetensors file of the project, after a check of its kind and schema.

    Args:
        path: the file.
        kind: preset of the model that it must hold.

    Yields:
        the open file and its metadata.

    Raises:
        WeightsError: the file is damaged or of another format, kind or schema, or the caller
            cannot build a network of its configuration.
    """
    name = path.name
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if metadata.get("loris.kind") != kind:
                raise WeightsError(
                    f"{name} is not a {kind} model of loris",
                    hint="give a file that `loris` wrote, or a released checkpoint",
                )
            schema = metadata.get("loris.schema", "none")
            if schema != CHECKPOINT_SCHEMA:
                raise WeightsError(
                    f"{name} has schema {schema}, not {CHECKPOINT_SCHEMA}",
                    hint="train or convert the model again with this version of loris",
                )
            yield file, metadata
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{name} is not a safetensors file: {error}",
            hint="pickled checkpoints are refused: they can run code when opened",
        ) from error
    except (KeyError, ValueError, TypeError, AssertionError, RuntimeError) as error:
        raise WeightsError(f"{name} has a configuration that makes no network") from error


def checkpoint_metadata(kind: ModelPreset, **configs: Any) -> dict[str, str]:
    """Return the metadata of a safetensors file with networks of these configurations."""
    sizes = {f"loris.{name}": json.dumps(asdict(config)) for name, config in configs.items()}
    return {"loris.schema": CHECKPOINT_SCHEMA, "loris.kind": kind, **sizes}


def read_config(config_class: type[ConfigT], text: str) -> ConfigT:
    """Return a configuration that was written as JSON.

    Args:
        config_class: dataclass of numbers, names, and tuples of numbers, all with defaults.
        text: a JSON object.

    Raises:
        ValueError: unknown fields, a size out of range, or a value of another type.
    """
    values = json.loads(text)
    defaults = {field.name: field.default for field in fields(config_class)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or set(values) - set(defaults):
        raise ValueError("unknown fields")
    for name, value in values.items():
        values[name] = tuple(value) if isinstance(value, list) else value
        minimum = 0 if defaults[name] == 0 else 1  # 0 leaves that part of the network out
        for number in value if isinstance(value, list) else [value]:
            is_valid = type(number) in (bool, type(defaults[name]))
            if type(number) is int:
                is_valid = minimum <= number <= MAX_CONFIG_VALUE
            if not is_valid:
                raise ValueError(f"{name} cannot be {number!r}")
    return config_class(**values)

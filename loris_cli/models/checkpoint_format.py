"""Metadata of loris safetensors files: kind, schema, configuration."""

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
"""Largest size accepted in a configuration; larger ones could exhaust the memory."""


@contextmanager
def open_checkpoint(path: Path, kind: ModelPreset) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a loris safetensors file and check its kind and schema.

    Args:
        path: checkpoint file.
        kind: expected preset of the model.

    Yields:
        the open file and its metadata.

    Raises:
        WeightsError: the file is damaged or has another format, kind or schema, or the caller
            cannot build a network from its configuration.
    """
    name = path.name
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if metadata.get("loris.kind") != kind:
                raise WeightsError(
                    f"{name} is not a loris checkpoint of the preset {kind}",
                    hint="pass a file written by `loris`, or a released checkpoint",
                )
            schema = metadata.get("loris.schema", "none")
            if schema != CHECKPOINT_SCHEMA:
                raise WeightsError(
                    f"{name} has checkpoint schema {schema}, expected {CHECKPOINT_SCHEMA}",
                    hint="retrain or reconvert the model with this version of loris",
                )
            yield file, metadata
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{name} is not a valid safetensors file: {error}",
            hint="pickled checkpoints are not accepted: loading one can execute code",
        ) from error
    except (KeyError, ValueError, TypeError, AssertionError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise WeightsError(
            f"{name} has an invalid network configuration ({reason})",
            hint="export the model again: loris train export",
        ) from error


def checkpoint_metadata(kind: ModelPreset, **configs: Any) -> dict[str, str]:
    """Return safetensors metadata for networks with these configurations."""
    sizes = {f"loris.{name}": json.dumps(asdict(config)) for name, config in configs.items()}
    return {"loris.schema": CHECKPOINT_SCHEMA, "loris.kind": kind, **sizes}


def read_config(config_class: type[ConfigT], text: str) -> ConfigT:
    """Parse a network configuration from JSON.

    Args:
        config_class: dataclass of numbers, names, and tuples of numbers, all with defaults.
        text: a JSON object.

    Raises:
        ValueError: unknown fields, a size out of range, or a value of another type.
    """
    values = json.loads(text)
    defaults = {field.name: field.default for field in fields(config_class)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or set(values) - set(defaults):
        raise ValueError("unknown configuration fields")
    for name, value in values.items():
        values[name] = tuple(value) if isinstance(value, list) else value
        minimum = 0 if defaults[name] == 0 else 1  # 0 disables that part of the network
        for number in value if isinstance(value, list) else [value]:
            is_valid = type(number) in (bool, type(defaults[name]))
            if type(number) is int:
                is_valid = minimum <= number <= MAX_CONFIG_VALUE
            if not is_valid:
                raise ValueError(f"invalid {name}: {number!r}")
    return config_class(**values)

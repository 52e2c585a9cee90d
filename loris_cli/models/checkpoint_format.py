"""Metadata of loris safetensors files: kind, schema, configuration."""

import json
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from safetensors import SafetensorError, safe_open

from loris_cli.errors import WeightsError
from loris_cli.system.state_dict_files import MALFORMED_FILE_ERRORS

ModelPreset = Literal["mini", "paper"]
ConfigT = TypeVar("ConfigT")

CHECKPOINT_SCHEMA = "2"
MAX_CONFIG_VALUE, MAX_TUPLE_LENGTH = 4096, 16
"""Largest size and number of levels accepted in a configuration; larger ones could exhaust the
memory."""


@contextmanager
def open_checkpoint(path: Path, kind: str) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a loris safetensors file and check its kind and schema.

    Args:
        path: checkpoint file.
        kind: expected preset or method of the model.

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
                    f"{name} is not a loris checkpoint of {kind}",
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
    except MALFORMED_FILE_ERRORS as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise WeightsError(
            f"{name} has an invalid network configuration ({reason})",
            hint="export the model again: loris train export",
        ) from error


def checkpoint_metadata(kind: str, **configs: Any) -> dict[str, str]:
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
    values, types = json.loads(text), get_type_hints(config_class)
    defaults = {field.name: field.default for field in fields(config_class)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or set(values) - set(defaults):
        raise ValueError("unknown configuration fields")
    for name, value in values.items():
        minimum = 0 if defaults[name] == 0 else 1  # 0 disables that part of the network
        if not _is_valid(types[name], value, minimum):
            raise ValueError(f"invalid {name}: {reprlib.repr(value)}")
        values[name] = tuple(value) if isinstance(value, list) else value
    return config_class(**values)


def _is_valid(expected: Any, value: Any, minimum: int) -> bool:
    """Return whether a value has a type and is in range."""
    if get_origin(expected) is tuple:
        is_list = isinstance(value, list) and len(value) <= MAX_TUPLE_LENGTH
        return is_list and all(_is_valid(get_args(expected)[0], v, minimum) for v in value)
    if get_origin(expected) is Literal:
        return isinstance(value, str) and value in get_args(expected)
    if expected is bool:
        return isinstance(value, bool)
    is_number = type(value) is int or (expected is float and type(value) is float)
    return is_number and minimum <= value <= MAX_CONFIG_VALUE

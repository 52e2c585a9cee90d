"""Schema of the metadata in our safetensors files."""

from collections.abc import Mapping
from pathlib import Path

from loris_cli.errors import WeightsError
from loris_cli.system.atomic_files import printable_path

CHECKPOINT_SCHEMA = "2"


def check_checkpoint_schema(metadata: Mapping[str, str], path: Path) -> None:
    """Refuse a file whose configuration has other field names than this version.

    Raises:
        WeightsError: the schema is not `CHECKPOINT_SCHEMA`.
    """
    schema = metadata.get("loris.schema", "none")
    if schema != CHECKPOINT_SCHEMA:
        raise WeightsError(
            f"{printable_path(path)} has schema {schema}, not {CHECKPOINT_SCHEMA}",
            hint="train or convert the model again with this version of loris",
        )

"""The log of a run for TensorBoard, an optional package."""

from pathlib import Path
from types import TracebackType
from typing import Any

from loris_cli.system.optional_packages import import_optional


class TensorBoardLog:
    """Numbers of a run by its steps.

    Args:
        log_dir: where TensorBoard finds them.
        purge_step: where the run goes on; what an earlier part told of later steps is forgotten.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, log_dir: Path, *, purge_step: int) -> None:
        """Open the log."""
        import_optional("tensorboard", extra="tensorboard", purpose="log to TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(log_dir), purge_step=purge_step)

    def log_scalars(self, record: dict[str, Any]) -> None:
        """Log the numbers of a row, those of a group under its name."""
        for name, value in record.items():
            values = value if isinstance(value, dict) else {"": value}
            for part, number in values.items():
                if name != "step" and isinstance(number, int | float):
                    self._writer.add_scalar(
                        f"{name}/{part}".rstrip("/"), number, global_step=record["step"]
                    )

    def __enter__(self) -> "TensorBoardLog":
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what is left and end."""
        self._writer.close()

"""The log of a run for TensorBoard, an optional package."""

from pathlib import Path
from types import TracebackType
from typing import Any

from loris_cli.system.optional_packages import require


class Board:
    """Numbers of a run by its steps.

    Args:
        folder: where TensorBoard finds them.
        step: where the run goes on; what an earlier part told of later steps is forgotten.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        """Open the log."""
        require("tensorboard", extra="tensorboard", purpose="log to TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=step)

    def tell(self, row: dict[str, Any]) -> None:
        """Log the numbers of a row, those of a group under its name."""
        for name, value in row.items():
            values = value if isinstance(value, dict) else {"": value}
            for part, number in values.items():
                if name != "step" and isinstance(number, int | float):
                    self._writer.add_scalar(
                        f"{name}/{part}".rstrip("/"), number, global_step=row["step"]
                    )

    def __enter__(self) -> "Board":
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

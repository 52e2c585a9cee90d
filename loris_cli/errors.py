"""Errors of the user, each with a hint (the next step to take) and an exit code."""

import os


def escape_unprintable(text: str | os.PathLike[str]) -> str:
    """Return a text or a path on one line: what a terminal cannot show is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(text))


class LorisError(Exception):
    """An error that the user can fix; printed in one line, without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Store what is wrong, escaped to one printable line, and the hint: what to do."""
        super().__init__(escape_unprintable(message))
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the hint when the error crosses from a worker process."""
        return (_rebuild_error, (type(self), str(self), self.hint))


def _rebuild_error(error_class: type[LorisError], message: str, hint: str) -> LorisError:
    return error_class(message, hint=hint)


class UsageError(LorisError):
    """The call itself makes no sense: options that contradict, an output over an input."""

    exit_code = 2


class WeightsError(LorisError):
    """Weights are missing, damaged, or not what they claim to be."""

    exit_code = 3


class MissingDependencyError(LorisError):
    """An optional package is not installed."""

    exit_code = 3


class InputError(LorisError):
    """A file or an array is not what the next stage needs."""

    exit_code = 4


class OutputError(LorisError):
    """A result cannot be written: the disk is full, the folder is missing or closed."""

    exit_code = 1

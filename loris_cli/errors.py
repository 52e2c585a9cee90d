"""User errors, each with a hint (the next step) and an exit code."""

import os


def escape_unprintable(text: str | os.PathLike[str]) -> str:
    """Return a text or a path on one line, with unprintable characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(text))


class LorisError(Exception):
    """Error that the user can fix; printed on one line, without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Store the message, escaped to one printable line, and the hint (the next step)."""
        super().__init__(escape_unprintable(message))
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Preserve the hint when a worker process pickles the error."""
        return (_rebuild_error, (type(self), str(self), self.hint))


def _rebuild_error(error_class: type[LorisError], message: str, hint: str) -> LorisError:
    return error_class(message, hint=hint)


class UsageError(LorisError):
    """Invalid arguments, such as conflicting options or an output path that is an input."""

    exit_code = 2


class WeightsError(LorisError):
    """Weights that are missing, damaged, or do not match their network or checksum."""

    exit_code = 3


class MissingDependencyError(LorisError):
    """Optional package that is not installed."""

    exit_code = 3


class InputError(LorisError):
    """Input file or array that cannot be processed."""

    exit_code = 4


class OutputError(LorisError):
    """Result that cannot be written: no disk space, no folder or no permission."""

    exit_code = 1

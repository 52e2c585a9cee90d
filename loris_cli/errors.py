"""Errors of the user, each with a hint (the next step to take) and an exit code."""


class LorisError(Exception):
    """An error that the user can fix; printed in one line, without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Store the message (what is wrong) and the hint (what to do)."""
        super().__init__(message)
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

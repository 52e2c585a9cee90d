"""Calls of old packages in a Python process of their own.

arrays -> pipe -> a module of loris run by another Python -> pipe -> arrays

TensorFlow and madmom change the process that they run in: threads, warnings, memory that is
never freed. Here nothing else runs in it.
"""

import contextlib
import io
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from subprocess import PIPE, Popen
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.errors import LorisError

NamedArrays = Mapping[str, NDArray[Any]]

LENGTH_PREFIX_BYTES = 8
STDERR_TAIL_BYTES = 4096
"""Of what the other Python wrote to stderr: its end says what went wrong."""


def call_module(module: str, arrays: NamedArrays, *, task: str, **env: str) -> NamedArrays:
    """Run a module in another Python and return its arrays.

    Args:
        module: importable name of a module of loris that calls `serve_call`.
        arrays: its input; no objects.
        task: name of the task, as the beginning of "... failed".
        env: additional variables of the process.

    Returns:
        the arrays that the module returns.

    Raises:
        LorisError: it ended without a result.
    """
    command = [sys.executable, "-m", module]
    with (
        tempfile.TemporaryFile() as log,
        Popen(command, stdin=PIPE, stdout=PIPE, stderr=log, env=os.environ | env) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it died: its result is missing too
                _write_arrays(process.stdin, arrays)
            result = _read_arrays(process.stdout)
        except BaseException:
            process.kill()
            raise
        # Its stdin stays open until then: when that closes, it ends.
        if process.wait() or result is None:
            hint = "perhaps it needs more memory than it may have, or its package is broken"
            raise LorisError(f"{task} failed: {_last_line(log)}", hint=hint)
        return result


def serve_call(function: Callable[[NamedArrays], NamedArrays]) -> None:
    """Serve one call of `call_module`: arrays from stdin, the result to stdout.

    Args:
        function: makes the result; what it prints goes to stderr.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    arrays = _read_arrays(sys.stdin.buffer)
    assert arrays is not None
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with out:
        _write_arrays(out, function(arrays))
    # Not a normal exit: what old packages do there may take seconds, or hang.
    sys.stderr.flush()
    os._exit(0)


def _exit_with_parent() -> None:
    """End when the caller has ended: its pipe is closed."""
    os.read(0, 1)  # not by way of sys.stdin, whose lock the end of Python waits for
    os._exit(1)


def _write_arrays(pipe: IO[bytes], arrays: NamedArrays) -> None:
    packed = io.BytesIO()
    np.savez(packed, **dict(arrays))  # type: ignore[arg-type]
    pipe.write(packed.tell().to_bytes(LENGTH_PREFIX_BYTES, "little"))
    pipe.write(packed.getbuffer())
    pipe.flush()


def _read_arrays(pipe: IO[bytes]) -> NamedArrays | None:
    """Read arrays from a pipe; None where it closed before their end."""
    size = int.from_bytes(pipe.read(LENGTH_PREFIX_BYTES), "little")
    packed = pipe.read(size)
    if not size or len(packed) < size:
        return None
    with np.load(io.BytesIO(packed), allow_pickle=False) as members:
        return dict(members)


def _last_line(log: IO[bytes]) -> str:
    """Return the last line of a log that is not blank."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - STDERR_TAIL_BYTES))
    lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")

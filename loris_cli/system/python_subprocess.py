"""Calls of legacy packages in a separate Python process.

arrays -> pipe -> a module of loris in another Python process -> pipe -> arrays

TensorFlow and madmom change the process that they run in: threads, warnings, memory that is
never freed. A separate process isolates these effects.
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
"""Number of bytes read from the end of the subprocess's stderr for the error message."""


def call_module(module: str, arrays: NamedArrays, *, task: str, **env: str) -> NamedArrays:
    """Run a module in another Python process and return its arrays.

    Args:
        module: importable name of a loris module that calls `serve_call`.
        arrays: input arrays, without object dtypes.
        task: name of the task, for the message "... failed".
        env: additional environment variables.

    Returns:
        output arrays of the module.

    Raises:
        LorisError: the process ended without a result.
    """
    command = [sys.executable, "-P", "-m", module]  # -P: without the current folder
    with (
        tempfile.TemporaryFile() as log,
        Popen(command, stdin=PIPE, stdout=PIPE, stderr=log, env=os.environ | env) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # a crash: there is no result either
                _write_arrays(process.stdin, arrays)
            result = _read_arrays(process.stdout)
        except BaseException:
            process.kill()
            raise
        # Its stdin stays open until here, because the process exits when stdin closes.
        exit_code = process.wait()
        with contextlib.suppress(BrokenPipeError):  # input that a crashed process did not read
            process.stdin.close()
        if exit_code or result is None:
            hint = "check the free memory and the installation of the package"
            raise LorisError(f"{task} failed: {_last_line(log)}", hint=hint)
        return result


def serve_call(function: Callable[[NamedArrays], NamedArrays]) -> None:
    """Serve one call of `call_module`: read arrays from stdin, write the result to stdout.

    Args:
        function: computes the result; its own output is redirected to stderr.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    arrays = _read_arrays(sys.stdin.buffer)
    assert arrays is not None
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with out:
        _write_arrays(out, function(arrays))
    # No normal exit, because exit handlers of legacy packages may take seconds or hang.
    sys.stderr.flush()
    os._exit(0)


def _exit_with_parent() -> None:
    """Exit when the parent process exits, which closes the pipe."""
    os.read(0, 1)  # not through sys.stdin, whose lock Python waits for at exit
    os._exit(1)


def _write_arrays(pipe: IO[bytes], arrays: NamedArrays) -> None:
    packed = io.BytesIO()
    np.savez(packed, **dict(arrays))  # type: ignore[arg-type]
    pipe.write(packed.tell().to_bytes(LENGTH_PREFIX_BYTES, "little"))
    pipe.write(packed.getbuffer())
    pipe.flush()


def _read_arrays(pipe: IO[bytes]) -> NamedArrays | None:
    """Read arrays from a pipe; None if the pipe closed before their end."""
    size = int.from_bytes(pipe.read(LENGTH_PREFIX_BYTES), "little")
    packed = pipe.read(size)
    if not size or len(packed) < size:
        return None
    with np.load(io.BytesIO(packed), allow_pickle=False) as members:
        return dict(members)


def _last_line(log: IO[bytes]) -> str:
    """Return the last non-blank line of a log."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - STDERR_TAIL_BYTES))
    lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no error output")

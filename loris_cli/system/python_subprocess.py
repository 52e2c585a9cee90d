"""Old packages at work in a Python of their own, which ends with its answer.

arrays -> pipe -> a module of ours run by another Python -> pipe -> arrays

TensorFlow and madmom change what they share a process with: threads, warnings, memory that is
never given back. Here they share it with nothing.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.errors import LorisError

NamedArrays = Mapping[str, NDArray[Any]]

LENGTH_PREFIX_BYTES = 8
STDERR_TAIL_BYTES = 4096
"""Of what the other Python wrote to stderr: its end tells what went wrong."""


def call_module(
    module: str, arrays: NamedArrays, *, task_label: str, **environment: str
) -> NamedArrays:
    """What a module answers, run by a Python of its own.

    Args:
        module: importable name of one of ours that calls `serve_call`.
        arrays: what it is given; no objects.
        task_label: what it is to do, as the beginning of "... failed".
        environment: variables that it has besides ours.

    Returns:
        the arrays of its answer.

    Raises:
        LorisError: it ended without one.
    """
    command = [sys.executable, "-m", module]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, **environment},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it died: its answer is missing too
                _write_arrays(process.stdin, arrays)
            found = _read_arrays(process.stdout)
        except BaseException:
            process.kill()
            raise
        # Its stdin stays open until then: that tells it that we are there.
        if process.wait() or found is None:
            raise LorisError(
                f"{task_label} failed: {_last_stderr_line(said)}",
                hint="perhaps it needs more memory than it may have, or its package is broken",
            )
        return found


def serve_call(function: Callable[[NamedArrays], NamedArrays]) -> None:
    """Be the module that is asked: read arrays from stdin, write those of the answer to stdout.

    Args:
        function: makes the answer; what it prints goes to stderr.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    given = _read_arrays(sys.stdin.buffer)
    assert given is not None
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with out:
        _write_arrays(out, function(given))
    # Not the usual way out: what old packages do at the end may take seconds, or hang.
    sys.stderr.flush()
    os._exit(0)


def _exit_with_parent() -> None:
    """End when the one who asked is gone: nobody waits for the answer."""
    os.read(0, 1)  # not by way of sys.stdin, whose lock the end of Python waits for
    os._exit(1)


def _write_arrays(pipe: IO[bytes], arrays: NamedArrays) -> None:
    packed = io.BytesIO()
    np.savez(packed, **dict(arrays))  # type: ignore[arg-type]
    pipe.write(packed.tell().to_bytes(LENGTH_PREFIX_BYTES, "little"))
    pipe.write(packed.getbuffer())
    pipe.flush()


def _read_arrays(pipe: IO[bytes]) -> NamedArrays | None:
    """Arrays from a pipe; None where it closed before they were whole."""
    size = int.from_bytes(pipe.read(LENGTH_PREFIX_BYTES), "little")
    packed = pipe.read(size)
    if not size or len(packed) < size:
        return None
    with np.load(io.BytesIO(packed), allow_pickle=False) as members:
        return dict(members)


def _last_stderr_line(stderr_file: IO[bytes]) -> str:
    size = stderr_file.seek(0, os.SEEK_END)
    stderr_file.seek(max(0, size - STDERR_TAIL_BYTES))
    lines = stderr_file.read().decode(errors="replace").split("\n")
    told = [line.strip() for line in lines if line.strip()]
    return told[-1] if told else "it said nothing"

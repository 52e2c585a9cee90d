"""Run the ffmpeg program, and convert its errors.

``moviepy.tools.subprocess_call`` is not used: it leaves ffmpeg running if another exception
interrupts the wait, keeps the whole log in memory, and fails on a log that is not UTF-8.
"""

import signal
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from loris_cli.errors import InputError, LorisError, OutputError
from loris_cli.system.atomic_files import DISK_HINT, FOLDER_HINT

from .containers import OPEN_WHITELISTS
from .ffmpeg_program import find_ffmpeg, get_environment

TRUE_PEAK_OVERSAMPLING = 4  # required by BS.1770-4 Annex 2 for true-peak measurement
LIMITER_ATTACK_MS, LIMITER_RELEASE_MS = 5, 80
LOG_TAIL_LINES = 200  # an ebur128 summary has 14 lines
DISK_FULL_MESSAGES = ("No space left on device", "File too large", "Disk quota exceeded")
FILE_SIZE_SIGNAL = getattr(signal, "SIGXFSZ", None)  # kills ffmpeg at a file size limit
MKV_HINT = "use an output name that ends in .mkv: Matroska supports any codec"
PERMISSION_MESSAGES = ("Permission denied", "Read-only file system")
UNSUPPORTED_CODEC_MESSAGES = (
    "Could not find tag for codec", "not currently supported in container",
    "codec not supported", "are supported for WebM", "only supported in MP4",
)  # fmt: skip
# Lines that ffmpeg logs after the cause of a failure.
FOLLOW_UP_MESSAGES = (
    "Conversion failed!", "Could not write header", "Error opening output file",
    "Error sending frames to consumers", "Error while filtering", "Last message repeated",
    "Nothing was written into output file", "Task finished with error code",
    "Terminating thread with return code",
)  # fmt: skip


def input_args(path: Path) -> list[str]:
    """Return arguments that open one input file, with the allowed demuxers and protocols."""
    whitelists = [arg for key, value in OPEN_WHITELISTS.items() for arg in (f"-{key}", value)]
    return [*whitelists, "-i", f"file:{path}"]


def output_url(path: Path) -> str:
    """Return the ``file:`` URL of an output, so that no character of the path is special."""
    return f"file:{path}"


def run_ffmpeg(args: Sequence[str], *, log_level: str = "error") -> list[str]:
    """Run ffmpeg; kill it if this process is interrupted.

    Args:
        args: arguments without the program and its global options.
        log_level: log level of ffmpeg.

    Returns:
        last lines of ffmpeg's log.

    Raises:
        MissingDependencyError: there is no supported ffmpeg program.
        OutputError: no disk space or no permission.
        InputError: the output container does not support the codecs.
        LorisError: anything else, with ffmpeg's message.
    """
    command = [find_ffmpeg(), "-hide_banner", "-nostdin", "-nostats", "-v", log_level, "-y"]
    log: deque[str] = deque(maxlen=LOG_TAIL_LINES)
    with Popen(
        [*command, *args], stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env=get_environment()
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                log.append(line.decode(errors="replace").rstrip())
            process.wait()
        except BaseException:  # Ctrl-C and SIGTERM too: an orphan would continue to write
            process.kill()
            raise
    if process.returncode:
        raise _error_from_log(list(log), file_too_large=-process.returncode == FILE_SIZE_SIGNAL)
    return list(log)


def true_peak_limiter_filters(ceiling_dbtp: float, *, rate_hz: int) -> list[str]:
    """Return ffmpeg filters that limit true peaks without delay."""
    limit = 10 ** (ceiling_dbtp / 20)
    return [
        f"aresample={rate_hz * TRUE_PEAK_OVERSAMPLING}",
        f"alimiter=level=disabled:limit={limit:.8f}:attack={LIMITER_ATTACK_MS}"
        f":release={LIMITER_RELEASE_MS}:latency=1",
        f"aresample={rate_hz}",
    ]


def _error_from_log(log: list[str], *, file_too_large: bool) -> LorisError:
    text = "\n".join(log)
    if file_too_large or _has_any(text, DISK_FULL_MESSAGES):
        return OutputError("no space left on disk for the result", hint=DISK_HINT)
    if _has_any(text, PERMISSION_MESSAGES):
        return OutputError("no permission to write the result", hint=FOLDER_HINT)
    for line in log:
        if _has_any(line, UNSUPPORTED_CODEC_MESSAGES):
            message = f"output container does not support the codec ({_strip_log_prefix(line)})"
            return InputError(message, hint=MKV_HINT)
    causes = [line for line in log if line.strip() and not _has_any(line, FOLLOW_UP_MESSAGES)]
    cause = _strip_log_prefix(causes[-1]) if causes else "no message in its log"
    return LorisError(f"ffmpeg failed: {cause}", hint="check that the input plays to the end")


def _has_any(text: str, messages: Sequence[str]) -> bool:
    return any(message in text for message in messages)


def _strip_log_prefix(line: str) -> str:
    """Return a log line without the bracketed name and address of ffmpeg's component."""
    return line.rsplit("] ", 1)[-1].strip()

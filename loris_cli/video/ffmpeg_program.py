"""The ffmpeg program: located by moviepy, whatever its settings, and checked before use.

moviepy reads ``FFMPEG_BINARY`` and ``FFPLAY_BINARY`` from the environment and from a ``.env``
file in any parent folder. These settings are meant for other programs, so both are ignored.
What remains is the program of imageio-ffmpeg, or the one in ``IMAGEIO_FFMPEG_EXE``.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from loris_cli.errors import MissingDependencyError

OLDEST_VERSION = "7.0"
OLDEST_LIBAVUTIL = 59
"""Major version of libavutil in ffmpeg 7.0. Development builds have no other number."""
PROGRAM_VARIABLE = "IMAGEIO_FFMPEG_EXE"
MOVIEPY_VARIABLES = ("FFMPEG_BINARY", "FFPLAY_BINARY")
# The first writes a log file into the current folder, the second colors the log.
IGNORED_VARIABLES = {"FFREPORT", "AV_LOG_FORCE_COLOR"}
VERSION_TIMEOUT_S = 60.0


@cache
def find_ffmpeg() -> str:
    """Return the ffmpeg program.

    Raises:
        MissingDependencyError: there is none, it cannot be run, or it is older than 7.0.
    """
    hint = "reinstall it: pip install --force-reinstall imageio-ffmpeg"
    if os.environ.get(PROGRAM_VARIABLE):
        hint = f"unset {PROGRAM_VARIABLE} to use the ffmpeg that is installed with loris"
    try:
        program = _locate()
    except RuntimeError as error:
        raise MissingDependencyError("no ffmpeg program is installed", hint=hint) from error
    try:
        listing = _read_version(program)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or "no answer to -version"
        raise MissingDependencyError(
            f"cannot run the ffmpeg program {program}: {reason}", hint=hint
        ) from error
    library = re.search(r"^libavutil\s+(\d+)\.", listing, re.MULTILINE)
    version = re.match(r"ffmpeg version (\S+)", listing)
    if library is None or version is None:
        raise MissingDependencyError(f"{program} is not an ffmpeg program", hint=hint)
    if int(library[1]) < OLDEST_LIBAVUTIL:
        message = f"{program} is ffmpeg {version[1]}, expected {OLDEST_VERSION} or newer"
        raise MissingDependencyError(message, hint=hint)
    return program


def get_environment() -> dict[str, str]:
    """Return the environment of ffmpeg, without the variables that change its log."""
    return {key: text for key, text in os.environ.items() if key not in IGNORED_VARIABLES}


def _locate() -> str:
    """Return the program that moviepy finds without its settings."""
    with _hidden_moviepy_settings():
        from moviepy.config import FFMPEG_BINARY

    return str(FFMPEG_BINARY)


@contextmanager
def _hidden_moviepy_settings() -> Iterator[None]:
    hidden = [key for key in (*MOVIEPY_VARIABLES, *IGNORED_VARIABLES) if key in os.environ]
    variables = {key: os.environ.pop(key) for key in hidden}
    dotenv = {key: sys.modules.pop(key) for key in ("dotenv",) if key in sys.modules}
    sys.modules["dotenv"] = None  # type: ignore[assignment]  # its import fails: no .env is read
    try:
        yield
    finally:
        del sys.modules["dotenv"]
        sys.modules.update(dotenv)
        os.environ.update(variables)


def _read_version(program: str) -> str:
    process = subprocess.run(
        [program, "-version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=VERSION_TIMEOUT_S,
        env=get_environment(),
    )
    return process.stdout.decode(errors="replace")

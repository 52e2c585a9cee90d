"""Commands survive any locale, closed and full streams, read-only homes and lost folders."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from loris_cli.system.process_setup import writable_cache

# A command that prints and writes a file named on its command line, as all commands do.
SCRIPT = """
import sys
from pathlib import Path
from loris_cli.commands import app as program
from loris_cli.commands.console import ConsoleReporter

def write(name: str):
    reporter = ConsoleReporter()
    reporter.info("note \\u00e9\\u2501")
    for k in range(3):
        reporter.print_result(name)
    print("text \\u00e9\\u2501")
    Path(name).write_text("\\u00e9")

program.app.command("write")(write)
program.main()
"""
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ASCII_STREAMS = {"PYTHONIOENCODING": "ascii"}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def run_in_shell(
    command: str, folder: Path, **variables: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["sh", "-c", command.replace("PYTHON", sys.executable, 1)],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [
        (">&-", 0, b""),
        ("2>&-", 0, b""),
        ("<&-", 0, b""),
        (">&- 2>&- <&-", 0, b""),
        ("2>/dev/full", 0, b""),
        (">/dev/full", 1, b"loris: error: cannot write to stdout: No space left on device\n"),
        (">/dev/full 2>&1", 1, b""),
    ],
)
def test_a_command_completes_with_closed_or_full_streams(
    script: Path, redirection: str, code: int, error: bytes
) -> None:
    process = run_in_shell(f"PYTHON script.py write a.txt {redirection}", script.parent)
    assert process.returncode == code
    assert (script.parent / "a.txt").read_text(encoding="utf-8") == "é"
    assert process.stderr.replace("note é━\n".encode(), b"") == error


def test_a_command_completes_if_the_reader_of_stdout_is_gone(script: Path) -> None:
    process = run_in_shell("(sleep 0.1; PYTHON script.py write a.txt) | true", script.parent)
    assert (script.parent / "a.txt").exists()
    assert b"Error" not in process.stderr


@pytest.mark.parametrize(
    "variables", [C_LOCALE, ASCII_STREAMS, C_LOCALE | ASCII_STREAMS], ids=str
)
def test_commands_and_names_work_in_locales_that_are_not_utf_8(
    script: Path, variables: dict[str, str]
) -> None:
    process = run_in_shell("PYTHON script.py write été.txt", script.parent, **variables)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "été.txt\n".encode() * 3 + b"text \\xe9\\u2501\n"
    assert process.stderr == b"note \\xe9\\u2501\n"
    assert (script.parent / "été.txt").read_text(encoding="utf-8") == "é"


def test_help_is_printed_in_the_c_locale(tmp_path: Path) -> None:
    command = "PYTHON -m loris_cli soundtrack --help"
    process = run_in_shell(command, tmp_path, **C_LOCALE, **ASCII_STREAMS)
    assert process.returncode == 0
    assert b"--skip-existing" in process.stdout


def test_a_deleted_working_folder_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    process = run_in_shell("cd gone; rmdir ../gone; PYTHON -m loris_cli pose x.mp4", tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith(b"loris: error: the current folder")
    assert process.stderr.count(b"\n") == 2


CACHE_SCRIPT = """
import os, tempfile
from loris_cli.system.process_setup import prepare_process
prepare_process()
from numba import njit
assert njit(lambda x: x + 1, cache=True)(1) == 2
from loris_cli.system.librosa_import import librosa
import matplotlib
matplotlib.get_cachedir()
print(os.environ["NUMBA_CACHE_DIR"], os.environ["MPLCONFIGDIR"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("home", ["/dev/null", "/proc/none"])
def test_caches_are_temporary_if_the_home_folder_is_not_writable(
    tmp_path: Path, home: str
) -> None:
    (tmp_path / "cache.py").write_text(CACHE_SCRIPT)
    names = {"LORIS_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR"}
    names.add("MPLCONFIGDIR")
    variables = {name: value for name, value in os.environ.items() if name not in names}
    process = subprocess.run(
        [sys.executable, "-W", "error", tmp_path / "cache.py"],
        env=variables | {"HOME": home, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    folder = tmp_path / f"loris-{os.getuid()}"
    assert process.stderr == ""
    assert process.stdout.split() == [f"{folder}/kernels", f"{folder}/matplotlib"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_another_user_is_never_used_as_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / f"loris-{os.getuid()}"
    planted.mkdir(mode=0o777)
    planted.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("LORIS_CACHE", "/dev/null/cache")
    folder = writable_cache()
    assert folder != planted
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("start", ["-m loris_cli", "script.py"])
def test_modules_in_the_current_folder_are_not_imported(script: Path, start: str) -> None:
    (script.parent / "planted").mkdir()
    for name in ("typer", "soxr", "pickle", "multiprocessing"):
        text = "open('ran', 'w').close()\nraise SystemExit(9)\n"
        (script.parent / "planted" / f"{name}.py").write_text(text)
    command = f"cd planted; PYTHON {start.replace('script', '../script')} --version"
    process = run_in_shell(command, script.parent)
    assert process.returncode == 0, process.stderr
    assert not (script.parent / "planted" / "ran").exists()


NON_BLOCKING_SCRIPT = """
import os
from loris_cli.system.process_setup import open_standard_streams
os.set_blocking(1, False)
open_standard_streams()
for k in range(3):
    print(str(k) * 300_000)
"""


def test_a_full_non_blocking_pipe_loses_no_output() -> None:
    command = [sys.executable, "-c", NON_BLOCKING_SCRIPT]
    output = subprocess.run(command, capture_output=True, check=True)
    assert output.stdout == b"".join(b"%d" % k * 300_000 + b"\n" for k in range(3))
    assert output.stderr == b""

"""Modules import, and files are written, where only Windows' part of Python exists."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from loris_cli.system.atomic_files import atomic_write

ROOT = Path(__file__).parents[1]

# Other packages are imported first: their wheels for Windows have no such imports.
IMPORT_SCRIPT = """
import importlib, os, pkgutil, signal, sys
import loris_cli, loris_cli.commands

def import_all():
    for package in (loris_cli, loris_cli.commands):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name not in NOT_IMPORTED:
                importlib.import_module(module.name)

NOT_IMPORTED = {
    "loris_cli.audio.spleeter_process",  # programs, run by another Python process
    "loris_cli.audio.madmom_process",
}
import_all()
for name in list(sys.modules):
    if name.partition(".")[0] == "loris_cli":
        del sys.modules[name]
for name in ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"):
    sys.modules[name] = None
for name in (
    "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGSTOP",
    "pthread_sigmask", "SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK", "setitimer", "sigwait",
):
    delattr(signal, name)
for name in (
    "getuid", "geteuid", "getgid", "fork", "forkpty", "register_at_fork", "uname", "killpg",
    "sched_getaffinity", "statvfs", "sysconf", "chown", "fchmod", "mkfifo", "nice", "getpgid",
    "setsid", "wait4", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "getloadavg",
):
    if hasattr(os, name):
        delattr(os, name)
import_all()
"""


@pytest.mark.slow
def test_every_module_imports_without_posix_functions() -> None:
    subprocess.run([sys.executable, "-c", IMPORT_SCRIPT], check=True, cwd=ROOT)


def test_files_are_flushed_through_a_writable_handle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, `os.fsync` fails with a read-only handle."""
    fcntl = pytest.importorskip("fcntl")
    flags = []

    def fsync(handle: int) -> None:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            flags.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(tmp_path / "a", overwrite=False) as temporary_path:
        temporary_path.write_text("new")
    assert flags == [os.O_RDWR]

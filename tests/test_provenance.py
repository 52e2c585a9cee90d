"""Versions and git state that a report of `eval` records."""

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from loris_cli import __version__
from loris_cli.evaluation.report.json_report import (
    REPORTED_PACKAGES,
    collect_versions,
    read_git_state,
)

GIT_PATH = shutil.which("git")


def run_git(folder: Path, *words: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    process = subprocess.run(
        [str(GIT_PATH), "-C", folder, *settings, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout.strip()


@pytest.mark.skipif(GIT_PATH is None, reason="git is not installed")
def test_git_state_is_the_commit_and_whether_files_changed(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("a = 1\n")
    run_git(tmp_path, "add", "a.py")
    run_git(tmp_path, "commit", "-q", "-m", "Begin")
    commit = run_git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("untracked files do not count")

    assert read_git_state(tmp_path) == (commit, False)
    (tmp_path / "a.py").write_text("a = 2\n")
    assert read_git_state(tmp_path) == (commit, True)
    # A package installed inside another checkout does not belong to its commit.
    package_folder = tmp_path / ".venv" / "site-packages"
    package_folder.mkdir(parents=True)
    assert read_git_state(package_folder) == (None, None)


def test_a_broken_checkout_has_no_git_state(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: nowhere\n")

    assert read_git_state(tmp_path) == (None, None)


def test_versions_name_loris_python_and_all_reported_packages() -> None:
    versions = collect_versions()

    assert versions["loris"] == __version__
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == importlib.metadata.version("torch")
    assert set(versions) == {"loris", "commit", "changed", "python", *REPORTED_PACKAGES}
    assert (versions["commit"] is None) == (versions["changed"] is None)
    assert versions["commit"] is None or len(versions["commit"]) in (40, 64)

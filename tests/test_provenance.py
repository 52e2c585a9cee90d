"""A result tells which source made it."""

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

GIT = shutil.which("git")


def git(folder: Path, *words: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        [str(GIT), "-C", folder, *settings, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(GIT is None, reason="no git here")
def test_a_checkout_tells_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-q", "-m", "Begin")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("untracked files are not the source's")

    assert read_git_state(tmp_path) == (commit, False)
    (tmp_path / "a.py").write_text("a = 2\n")
    assert read_git_state(tmp_path) == (commit, True)
    # What is installed inside a checkout of something else is not of that commit.
    inside = tmp_path / ".venv" / "site-packages"
    inside.mkdir(parents=True)
    assert read_git_state(inside) == (None, None)


def test_a_broken_checkout_has_no_state(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: nowhere\n")

    assert read_git_state(tmp_path) == (None, None)


def test_versions_are_complete() -> None:
    versions = collect_versions()

    assert versions["loris"] == __version__
    assert set(versions) == {"loris", "commit", "changed", "python", *REPORTED_PACKAGES}
    assert (versions["commit"] is None) == (versions["changed"] is None)
    assert versions["commit"] is None or len(versions["commit"]) in (40, 64)

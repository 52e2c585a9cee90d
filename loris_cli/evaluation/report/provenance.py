"""Which source made a result: the package's version and, in a git checkout, its commit."""

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import loris_cli

CHECKOUT_ROOT = Path(loris_cli.__file__).resolve().parents[1]
"""Of the checkout, where there is one; else the folder that packages are installed in."""
REPORTED_PACKAGES = ("librosa", "mir_eval", "numpy", "torch")
"""What figures depend on."""


@cache
def collect_versions() -> dict[str, Any]:
    """Versions of the program and of what its figures depend on.

    Returns:
        ``loris``, its version; ``commit``, the whole hash, and ``changed``, whether files of
        that commit were changed since, both None outside a git checkout; ``python`` and
        `REPORTED_PACKAGES`.
    """
    commit, changed = read_git_state(CHECKOUT_ROOT)
    return {
        "loris": loris_cli.__version__,
        "commit": commit,
        "changed": changed,
        "python": platform.python_version(),
        **{name: version(name) for name in REPORTED_PACKAGES},
    }


def read_git_state(root: Path) -> tuple[str | None, bool | None]:
    """The commit of a checkout, and whether it was changed; None and None if it is none.

    Args:
        root: where ``.git`` has to be: an installed package may lie inside a checkout of
            something else, whose commit is not ours.
    """
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _run_git(root, "rev-parse", "HEAD")
        changed = _run_git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):  # no git here, or a broken checkout
        return None, None
    return commit, bool(changed)


def _run_git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", root, *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()

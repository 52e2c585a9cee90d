"""The shipped completion scripts are the ones Typer would write today, and they work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.completion import get_completion_script  # type: ignore[attr-defined]

COMPLETIONS = Path(__file__).parents[1] / "completions"
SHELLS = [("bash", "loris.bash"), ("zsh", "_loris"), ("fish", "loris.fish")]


@pytest.mark.parametrize(("shell", "name"), SHELLS)
def test_completion_script_is_current(shell: str, name: str) -> None:
    script = get_completion_script(
        prog_name="loris", complete_var="_LORIS_COMPLETE", shell=shell
    )
    assert (COMPLETIONS / name).read_text() == script + "\n", "run `make completions`"


def test_tab_is_answered() -> None:
    asked = {
        **os.environ,
        "_LORIS_COMPLETE": "complete_bash",
        "COMP_WORDS": "loris --ver",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "loris_cli"],
        env=asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["--version"]

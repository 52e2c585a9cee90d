"""The shipped completion scripts equal those of Typer, and the program answers them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.completion import get_completion_script  # type: ignore[attr-defined]

COMPLETION_FOLDER = Path(__file__).parents[1] / "completions"
SHELL_FILES = [("bash", "loris.bash"), ("zsh", "_loris"), ("fish", "loris.fish")]


@pytest.mark.parametrize(("shell", "name"), SHELL_FILES)
def test_completion_scripts_are_current(shell: str, name: str) -> None:
    script = get_completion_script(
        prog_name="loris", complete_var="_LORIS_COMPLETE", shell=shell
    )
    assert (COMPLETION_FOLDER / name).read_text() == script + "\n", "run `make completions`"


def test_the_program_completes_an_option() -> None:
    environment = {
        **os.environ,
        "_LORIS_COMPLETE": "complete_bash",
        "COMP_WORDS": "loris --ver",
        "COMP_CWORD": "1",
    }
    process = subprocess.run(
        [sys.executable, "-m", "loris_cli"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.stdout.split() == ["--version"]

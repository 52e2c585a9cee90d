"""Messages, help texts and documents name only existing commands and options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from loris_cli.commands.app import app

ROOT = Path(__file__).parents[1]
MAIN_COMMAND = typer.main.get_command(app)
OPTION_PATTERN = re.compile(r"(?<![\w-])--[a-z][\w-]*")
COMMAND_PATTERN = re.compile(r"`loris ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?[` ]")
# Options of pip, git, torchrun, sbatch and srun.
FOREIGN_OPTIONS = {
    "--force-reinstall", "--no-deps", "--porcelain", "--untracked-files",
    "--nproc-per-node", "--ntasks", "--gpus-per-task", "--cpus-per-task", "--array",
}  # fmt: skip
MODULE_PATHS = sorted(
    path for folder in ("loris_cli", "commands") for path in (ROOT / folder).rglob("*.py")
)
DOCUMENT_PATHS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def list_commands(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from list_commands(child)


def list_option_names() -> set[str]:
    parameters = [p for command in list_commands(MAIN_COMMAND) for p in command.params]
    return {"--help"}.union(*(p.opts + p.secondary_opts for p in parameters))


def read_strings(path: Path) -> list[str]:
    """Return the string literals of a module, docstrings included."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def find_unknown_names(text: str) -> list[str]:
    unknown = sorted(set(OPTION_PATTERN.findall(text)) - list_option_names() - FOREIGN_OPTIONS)
    for name, child in COMMAND_PATTERN.findall(text):
        command = MAIN_COMMAND.commands.get(name)  # type: ignore[attr-defined]
        children = getattr(command, "commands", {})
        if command is None or (child and children and child not in children):
            unknown.append(f"loris {name} {child}")
    return unknown


@pytest.mark.parametrize(
    "path", MODULE_PATHS, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_strings_name_existing_commands_and_options(path: Path) -> None:
    assert find_unknown_names("\n".join(read_strings(path))) == []


@pytest.mark.parametrize("path", DOCUMENT_PATHS, ids=lambda path: path.name)
def test_documents_name_existing_commands_and_options(path: Path) -> None:
    assert find_unknown_names(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("leave out --visual", ["--visual"]),
        ("leave out --visual-features", []),
        ("see `loris paint`", ["loris paint "]),
        ("see `loris dataset paint`", ["loris dataset paint"]),
        ("see `loris dataset check` and `loris prep VIDEO --min-f1 1`", []),
    ],
)
def test_unknown_command_and_option_names_are_found(text: str, unknown: list[str]) -> None:
    assert find_unknown_names(text) == unknown

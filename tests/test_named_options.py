"""Messages, help texts and documents name commands and options that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from loris_cli.commands.app import app

ROOT = Path(__file__).parents[1]
PROGRAM = typer.main.get_command(app)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
COMMAND = re.compile(r"`loris ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?[` ]")
# Of pip, git, torchrun and srun.
FOREIGN_OPTIONS = {
    "--force-reinstall", "--no-deps", "--porcelain", "--untracked-files",
    "--nproc-per-node", "--ntasks", "--gpus-per-task",
}  # fmt: skip
SOURCES = sorted(
    path for folder in ("loris_cli", "commands") for path in (ROOT / folder).rglob("*.py")
)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def list_commands(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from list_commands(child)


def list_options() -> set[str]:
    parameters = [p for command in list_commands(PROGRAM) for p in command.params]
    return {"--help"}.union(*(p.opts + p.secondary_opts for p in parameters))


def read_strings(path: Path) -> list[str]:
    """String literals of a module, docstrings among them."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def find_unknown_names(text: str) -> list[str]:
    unknown = sorted(set(OPTION.findall(text)) - list_options() - FOREIGN_OPTIONS)
    for name, child in COMMAND.findall(text):
        command = PROGRAM.commands.get(name)  # type: ignore[attr-defined]
        children = getattr(command, "commands", {})
        if command is None or (child and children and child not in children):
            unknown.append(f"loris {name} {child}")
    return unknown


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_message_names_what_exists(path: Path) -> None:
    assert find_unknown_names("\n".join(read_strings(path))) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_names_what_exists(path: Path) -> None:
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
def test_an_unknown_name_is_found(text: str, unknown: list[str]) -> None:
    assert find_unknown_names(text) == unknown

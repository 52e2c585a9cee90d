"""Dependencies point one way, and the package holds what the checkout holds."""

import ast
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From low to high: a package imports only what stands above it in this list.
ORDER = [
    "errors", "array_types", "config", "system", "video", "audio", "pose", "rhythm",
    "composition", "models", "baselines", "soundtrack", "synthetic", "dataset",
    "training", "evaluation", "api", "commands",
]  # fmt: skip
HEIGHT = {name: height for height, name in enumerate(ORDER)}
EVALUATION_ORDER = ["metrics", "runner", "report"]
MAX_PARAMETERS = 8
# `python -m loris_cli` imports the commands; every module may import the version.
OUTSIDE = {"loris_cli/__main__.py", "loris_cli/__init__.py"}
MODULES = sorted(
    path
    for folder in ("loris_cli", "commands")
    for path in (ROOT / folder).rglob("*.py")
    if path.relative_to(ROOT).as_posix() not in OUTSIDE
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def dotted(path: Path) -> tuple[str, ...]:
    """Parts of the installed name of a file's module; a package ends in ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ("loris_cli", *parts) if parts[0] == "commands" else parts


def imports(source: str, package: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Absolute names of all that a module of the package imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            base = (*start, *(node.module.split(".") if node.module else ()))
            found |= {(*base, alias.name) for alias in node.names}
    return found


def packages_of(names: set[tuple[str, ...]]) -> set[str]:
    """Our own packages among the names that a module imports."""
    ours = {name[1] for name in names if name[0] == "loris_cli" and len(name) > 1}
    return ours - {"__version__"}


def subpackages(names: set[tuple[str, ...]]) -> set[str]:
    """Our own packages inside `evaluation` among the names that a module imports."""
    return {name[2] for name in names if name[:2] == ("loris_cli", "evaluation")}


def imports_of(path: Path) -> set[tuple[str, ...]]:
    return imports(path.read_text(encoding="utf-8"), dotted(path)[:-1])


@cache
def declared() -> set[str]:
    """Importable names of the packages that a plain install brings by our own wish."""
    asked = {
        requirement.split(">")[0].split("=")[0].strip().lower().replace("_", "-")
        for requirement in PROJECT["project"]["dependencies"]
    }
    return {
        name
        for name, distributions in packages_distributions().items()
        if any(d.lower().replace("_", "-") in asked for d in distributions)
    }


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_down(path: Path) -> None:
    here = dotted(path)[1]
    assert here in HEIGHT, f"{here} has no place in ORDER"
    upward = {
        other
        for other in packages_of(imports_of(path)) - {here}
        if HEIGHT[other] >= HEIGHT[here]
    }
    assert not upward, f"{here} imports {upward}, which stand below it in ORDER"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent.name in EVALUATION_ORDER], ids=name
)
def test_imports_inside_evaluation_point_down(path: Path) -> None:
    height = EVALUATION_ORDER.index(path.parent.name)
    upward = subpackages(imports_of(path)) & set(EVALUATION_ORDER[height + 1 :])
    assert not upward, f"{path.parent.name} imports {upward}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_function_has_too_many_parameters(path: Path) -> None:
    """Beyond that an object is missing; the signature of a command is its options."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if path.parent.name == "commands" and "quiet" in {a.arg for a in arguments}:
            continue
        own = [argument for argument in arguments if argument.arg not in ("self", "cls")]
        assert len(own) <= MAX_PARAMETERS, f"{node.name} has {len(own)} parameters"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_from_outside_are_declared(path: Path) -> None:
    """What a module imports comes with a plain install; the rest goes through `require`."""
    top = {found[0] for found in imports_of(path)} - set(sys.stdlib_module_names)
    undeclared = top - {"loris_cli"} - declared()
    assert not undeclared, f"add {undeclared} to the dependencies, or use optional.require"


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("import loris_cli.soundtrack.pipeline", "soundtrack"),
        ("from loris_cli import soundtrack", "soundtrack"),
        ("from loris_cli.soundtrack.pipeline import compose", "soundtrack"),
        ("from .. import soundtrack", "soundtrack"),
        ("from ..soundtrack import pipeline", "soundtrack"),
        ("from . import peak_picking", "rhythm"),
        ("from .peak_picking import pick_peaks", "rhythm"),
    ],
)
def test_an_import_is_seen_however_it_is_spelt(line: str, package: str) -> None:
    source = f"def late():\n    {line}\n"
    assert packages_of(imports(source, ("loris_cli", "rhythm"))) == {package}


def test_the_wheel_takes_every_package_and_no_other() -> None:
    there = {
        ".".join(dotted(path)[:-1])
        for folder in ("loris_cli", "commands")
        for path in (ROOT / folder).rglob("*.py")
    }
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert not there - listed, "packages that the wheel would miss"
    assert not listed - there, "packages listed that do not exist"


def test_every_package_says_what_it_is() -> None:
    folders = {path.parent for path in MODULES}
    assert not [name(f) for f in folders if not (f / "__init__.py").exists()]


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [name(path) for path in MODULES if drawers & set(dotted(path))]


def test_nothing_installed_is_called_commands() -> None:
    mapping = PROJECT["tool"]["setuptools"]["package-dir"]
    assert mapping["loris_cli.commands"] == "commands"
    assert "commands" not in PROJECT["tool"]["setuptools"]["packages"]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_librosa_is_imported_in_one_module_only(path: Path) -> None:
    """Two processes that have numba compile it at once break it for good."""
    if path.name == "librosa_import.py":
        return
    assert "librosa" not in {found[0] for found in imports_of(path)}

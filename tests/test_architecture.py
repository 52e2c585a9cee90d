"""Order of imports, contents of the wheel, size of signatures, and vocabulary."""

import ast
import io
import re
import sys
import tokenize
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A package imports only packages before it in this list.
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


def module_parts(path: Path) -> tuple[str, ...]:
    """Return the parts of a module's installed name; a package ends in ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ("loris_cli", *parts) if parts[0] == "commands" else parts


def list_imports(source: str, package: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return the absolute names that a module of the package imports, also in functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            base = (*start, *(node.module.split(".") if node.module else ()))
            names |= {(*base, alias.name) for alias in node.names}
    return names


def select_packages(names: set[tuple[str, ...]]) -> set[str]:
    """Return the packages of loris among imported names."""
    packages = {name[1] for name in names if name[0] == "loris_cli" and len(name) > 1}
    return packages - {"__version__"}


def select_subpackages(names: set[tuple[str, ...]]) -> set[str]:
    """Return the packages inside `evaluation` among imported names."""
    return {name[2] for name in names if name[:2] == ("loris_cli", "evaluation")}


def read_imports(path: Path) -> set[tuple[str, ...]]:
    return list_imports(path.read_text(encoding="utf-8"), module_parts(path)[:-1])


@cache
def list_declared_modules() -> set[str]:
    """Return the importable names of the declared dependencies."""
    requirements = {
        requirement.split(">")[0].split("=")[0].strip().lower().replace("_", "-")
        for requirement in PROJECT["project"]["dependencies"]
    }
    return {
        name
        for name, distributions in packages_distributions().items()
        if any(d.lower().replace("_", "-") in requirements for d in distributions)
    }


def relative_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=relative_name)
def test_imports_follow_the_order_of_packages(path: Path) -> None:
    here = module_parts(path)[1]
    assert here in HEIGHT, f"{here} is missing in ORDER"
    upward = {
        other
        for other in select_packages(read_imports(path)) - {here}
        if HEIGHT[other] >= HEIGHT[here]
    }
    assert not upward, f"{here} imports {upward}, which come after it in ORDER"


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.parent.name in EVALUATION_ORDER],
    ids=relative_name,
)
def test_imports_inside_evaluation_follow_the_order(path: Path) -> None:
    height = EVALUATION_ORDER.index(path.parent.name)
    upward = select_subpackages(read_imports(path)) & set(EVALUATION_ORDER[height + 1 :])
    assert not upward, f"{path.parent.name} imports {upward}"


@pytest.mark.parametrize("path", MODULES, ids=relative_name)
def test_no_function_has_too_many_parameters(path: Path) -> None:
    """Signatures of commands are exempt: their parameters are the options."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if path.parent.name == "commands" and "quiet" in {a.arg for a in arguments}:
            continue
        own = [argument for argument in arguments if argument.arg not in ("self", "cls")]
        assert len(own) <= MAX_PARAMETERS, f"{node.name} has {len(own)} parameters"


@pytest.mark.parametrize("path", MODULES, ids=relative_name)
def test_third_party_imports_are_declared(path: Path) -> None:
    """Optional packages are imported through `optional_packages.import_optional`."""
    top = {name[0] for name in read_imports(path)} - set(sys.stdlib_module_names)
    undeclared = top - {"loris_cli"} - list_declared_modules()
    assert not undeclared, f"add {undeclared} to the dependencies, or use import_optional()"


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
def test_every_form_of_import_is_recognized(line: str, package: str) -> None:
    source = f"def late():\n    {line}\n"
    assert select_packages(list_imports(source, ("loris_cli", "rhythm"))) == {package}


def test_packages_of_the_wheel_equal_those_of_the_checkout() -> None:
    existing = {
        ".".join(module_parts(path)[:-1])
        for folder in ("loris_cli", "commands")
        for path in (ROOT / folder).rglob("*.py")
    }
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert not existing - listed, "packages missing in the wheel"
    assert not listed - existing, "listed packages that do not exist"


def test_every_package_has_an_init_module() -> None:
    folders = {path.parent for path in MODULES}
    assert not [relative_name(f) for f in folders if not (f / "__init__.py").exists()]


def test_no_module_has_a_generic_name() -> None:
    generic = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [relative_name(path) for path in MODULES if generic & set(module_parts(path))]


def test_commands_are_installed_inside_the_package() -> None:
    mapping = PROJECT["tool"]["setuptools"]["package-dir"]
    assert mapping["loris_cli.commands"] == "commands"
    assert "commands" not in PROJECT["tool"]["setuptools"]["packages"]


def test_librosa_is_imported_in_one_module_only() -> None:
    """Concurrent first imports corrupt the cache of numba; `librosa_import` prevents that."""
    importing = [
        path.name
        for path in SOURCES
        if path.parent.name != "benchmarks"  # single processes, compared with plain scripts
        if any(name[0] == "librosa" for name in list_imports(path.read_text("utf-8"), ()))
    ]
    assert importing == []


# Words that this project once used with a private meaning (see docs/glossary.md), and words
# that make a process or a model a person.
BANNED_WORDS = {
    "told", "tell", "tells", "telling", "heard", "hear", "hears", "anew", "whom", "nobody",
    "somebody",
}  # fmt: skip
# Standard words that were names of other things, and words that name nothing.
BANNED_NAMES = BANNED_WORDS | {
    "ahead", "apart", "beside", "entrant", "entrants", "kept", "lesson", "lessons", "maker",
    "makers", "rival", "rivals", "seen", "stranger", "strangers", "wanted",
}  # fmt: skip
SOURCES = sorted(
    path
    for folder in ("loris_cli", "commands", "experiments", "benchmarks", "tools", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__)
)
PAGES = [
    *sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]),
    *sorted(ROOT.glob("loris_cli/**/*.html")),
    *(ROOT / name for name in ("Makefile", ".ci/run", "pyproject.toml")),
]


def list_names(source: str) -> set[str]:
    """Return the names that a module defines or assigns."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def read_prose(source: str) -> str:
    """Return the comments and strings of a module, including docstrings and f-strings."""
    kinds = {tokenize.COMMENT, tokenize.STRING}
    kinds |= {getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}  # from Python 3.12 on
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(token.string for token in tokens if token.type in kinds)


def split_words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def split_name(identifier: str) -> set[str]:
    return split_words(re.sub(r"([A-Z])", r"_\1", identifier))


def select_banned_names(names: set[str]) -> set[str]:
    """Return the names with a banned word; names of tests are sentences, not terms."""
    return {
        name
        for name in names
        if split_name(name) & (BANNED_WORDS if name.startswith("test_") else BANNED_NAMES)
    }


def test_modules_are_free_of_banned_words() -> None:
    violations = {}
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        names = select_banned_names(list_names(source) | {path.stem})
        violations[relative_name(path)] = names | (
            split_words(read_prose(source)) & BANNED_WORDS
        )
    assert not {name: words for name, words in violations.items() if words}


def test_pages_are_free_of_banned_words() -> None:
    """Code in backticks is exempt: CHANGELOG.md lists old names."""
    violations = {}
    for path in PAGES:
        text = re.sub(r"`[^`\n]+`", "", path.read_text(encoding="utf-8"))
        violations[relative_name(path)] = split_words(text) & BANNED_WORDS
    assert not {name: words for name, words in violations.items() if words}


def test_names_of_tests_are_unique_in_a_module_and_short() -> None:
    for path in SOURCES:
        if path.parent.name == "tests":
            names = re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
            assert not [name for name in names if len(name) >= 70], path.name
            assert len(names) == len(set(names)), path.name


def test_banned_words_are_found_in_names_comments_and_strings() -> None:
    source = 'def tell_beat(kept_s: int) -> str:\n    # nobody\n    return f"{kept_s} heard"\n'
    assert select_banned_names(list_names(source)) == {"tell_beat", "kept_s"}
    assert select_banned_names({"test_frames_are_kept", "test_nobody"}) == {"test_nobody"}
    assert split_words(read_prose(source)) & BANNED_WORDS == {"nobody", "heard"}

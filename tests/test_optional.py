"""Optional packages: there, absent, or broken inside."""

import shlex
import sys
import tomllib
from importlib.machinery import BuiltinImporter
from pathlib import Path

import pytest

from loris_cli.errors import MissingDependencyError
from loris_cli.system.optional_packages import INSTALL_COMMANDS, import_optional

ROOT = Path(__file__).parents[1]


def test_a_module_that_is_there_is_given() -> None:
    assert (
        import_optional("json.decoder", extra="x", purpose="x") is sys.modules["json.decoder"]
    )


def test_an_absent_package_is_named_with_its_extra() -> None:
    with pytest.raises(MissingDependencyError) as caught:
        import_optional("no_such_package.part", extra="dreams", purpose="dream")
    assert str(caught.value) == "no_such_package is needed to dream"
    assert caught.value.hint == "pip install 'loris[dreams]'"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("package", INSTALL_COMMANDS)
def test_what_no_extra_can_install_comes_with_commands(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])  # as if nothing were installed
    with pytest.raises(MissingDependencyError) as caught:
        import_optional(package, extra="unused", purpose="x")
    assert f"pip install --no-deps {package}==" in caught.value.hint


def test_a_package_broken_inside_keeps_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_inside.py").write_text("import a_missing_neighbour\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_missing_neighbour"):
        import_optional("broken_inside", extra="x", purpose="x")


def test_the_hints_install_what_make_legacy_installs() -> None:
    """One truth: a version in a hint is the version that the legacy tests ran with."""
    pins = {
        line.strip()
        for name in ("legacy.txt", "legacy-no-deps.txt")
        for line in (ROOT / "constraints" / name).read_text().splitlines()
        if "==" in line
    }
    hinted = {
        word for hint in INSTALL_COMMANDS.values() for word in shlex.split(hint) if "==" in word
    }
    assert hinted <= pins


def test_no_extra_promises_what_cannot_be_resolved() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [line for lines in extras["optional-dependencies"].values() for line in lines]
    assert not [line for line in listed if line.startswith(tuple(INSTALL_COMMANDS))]

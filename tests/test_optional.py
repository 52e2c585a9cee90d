"""Imports of optional packages that are installed, missing or broken."""

import shlex
import sys
import tomllib
from importlib.machinery import BuiltinImporter
from pathlib import Path

import pytest

from loris_cli.errors import MissingDependencyError
from loris_cli.system.optional_packages import INSTALL_COMMANDS, import_optional

ROOT = Path(__file__).parents[1]


def test_an_installed_module_is_returned() -> None:
    module = import_optional("json.decoder", extra="x", purpose="x")
    assert module is sys.modules["json.decoder"]


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(MissingDependencyError) as caught:
        import_optional("no_such_package.part", extra="plots", purpose="plot spectra")
    assert "no_such_package" in str(caught.value)
    assert "no_such_package.part" not in str(caught.value)
    assert "plot spectra" in str(caught.value)
    assert caught.value.hint == "pip install 'loris[plots]'"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("package", INSTALL_COMMANDS)
def test_packages_without_an_extra_have_an_install_command(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])  # hides installed packages
    with pytest.raises(MissingDependencyError, match=package) as caught:
        import_optional(package, extra="unused", purpose="x")
    assert f"pip install --no-deps {package}==" in caught.value.hint
    assert "unused" not in caught.value.hint


def test_an_import_error_inside_a_package_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="missing_dependency"):
        import_optional("broken_package", extra="x", purpose="x")


def test_versions_in_hints_are_those_of_make_legacy() -> None:
    pins = {
        line.strip()
        for name in ("legacy.txt", "legacy-no-deps.txt")
        for line in (ROOT / "constraints" / name).read_text().splitlines()
        if "==" in line
    }
    hint_pins = {
        word for hint in INSTALL_COMMANDS.values() for word in shlex.split(hint) if "==" in word
    }
    assert len(hint_pins) >= len(INSTALL_COMMANDS)
    assert hint_pins <= pins


def test_no_extra_lists_a_package_that_cannot_be_resolved() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [requirement for extra in extras.values() for requirement in extra]
    assert len(requirements) > len(extras)
    assert not [name for name in requirements if name.startswith(tuple(INSTALL_COMMANDS))]

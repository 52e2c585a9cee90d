"""Virtual environments of `make`: when one is built, updated, or left as it is."""

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT_PATH = Path(__file__).parents[1] / "tools" / "environment.py"
UpdateEnvironment = Callable[[], list[str]]


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", SCRIPT_PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script with stubs: Python is an empty file, requirements have version 1."""
    module = load_script()
    monkeypatch.setattr(module, "create_venv", create_stub_venv)
    monkeypatch.setattr(module, "is_usable", lambda folder: (folder / "bin/python").exists())
    set_hashes(monkeypatch, module, installs="1", package="1")
    return module


def set_hashes(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType, *, installs: str, package: str
) -> None:
    hashes = {"installs": installs, "package": package}
    monkeypatch.setattr(script, "hash_requirements", lambda _: hashes)


def create_stub_venv(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").touch()


@pytest.fixture
def update(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> UpdateEnvironment:
    """Return a function that updates the core environment and returns the calls of pip."""

    def call() -> list[str]:
        calls: list[str] = []
        monkeypatch.setattr(script, "run_pip", lambda _, *words: calls.append(" ".join(words)))
        script.update_environment(tmp_path / "env", "core")
        return calls

    return call


FULL_INSTALL = ["install -c constraints/core.txt -e ."]
PACKAGE_INSTALL = ["install --no-deps -e ."]


def test_a_second_update_runs_no_pip(update: UpdateEnvironment) -> None:
    assert update() == FULL_INSTALL
    assert update() == []


def test_changed_requirements_rebuild_the_environment(
    update: UpdateEnvironment,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    update()
    (tmp_path / "env/old file").touch()
    set_hashes(monkeypatch, script, installs="2", package="2")
    assert update() == FULL_INSTALL
    assert not (tmp_path / "env/old file").exists()
    assert update() == []


def test_a_changed_package_is_reinstalled_without_dependencies(
    update: UpdateEnvironment, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    update()
    set_hashes(monkeypatch, script, installs="1", package="2")
    assert update() == PACKAGE_INSTALL
    assert update() == []


def test_an_incomplete_build_is_repeated_from_scratch(
    update: UpdateEnvironment,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        (tmp_path / "env/half").touch()
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(script, "run_pip", fail)
    with pytest.raises(subprocess.CalledProcessError):
        script.update_environment(tmp_path / "env", "core")
    assert update() == FULL_INSTALL
    assert not (tmp_path / "env/half").exists()


def test_a_damaged_environment_is_rebuilt(update: UpdateEnvironment, tmp_path: Path) -> None:
    update()
    (tmp_path / "env/bin/python").unlink()
    assert update() == FULL_INSTALL


def test_an_environment_of_the_user_is_updated_and_never_removed(
    update: UpdateEnvironment,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_stub_venv(tmp_path / "env")
    (tmp_path / "env/user file").touch()
    assert update() == FULL_INSTALL
    assert update() == []
    set_hashes(monkeypatch, script, installs="2", package="2")
    assert update() == FULL_INSTALL
    assert (tmp_path / "env/user file").exists()


def test_each_environment_has_its_own_stable_requirements_hash() -> None:
    first, second = (
        [script.hash_requirements(kind) for kind in script.PIP_CALLS]
        for script in (load_script(), load_script())
    )
    assert first == second
    assert len({hashes["installs"] for hashes in first}) == len(first) > 1

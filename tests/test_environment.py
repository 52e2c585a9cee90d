"""When `make` builds an environment, mends one, or leaves it alone."""

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "environment.py"
Make = Callable[[], list[str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with stand-ins: Python is a file, pip records its arguments."""
    spec = importlib.util.spec_from_file_location("environment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "create_venv", make_python)
    monkeypatch.setattr(module, "is_usable", lambda folder: (folder / "bin/python").exists())
    monkeypatch.setattr(
        module, "hash_requirements", lambda _: {"installs": "1", "package": "1"}
    )
    return module


def make_python(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").touch()


@pytest.fixture
def make(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make the core's environment and tell what pip was asked for."""

    def call() -> list[str]:
        calls: list[str] = []
        monkeypatch.setattr(script, "run_pip", lambda _, *words: calls.append(" ".join(words)))
        script.update_environment(tmp_path / "env", "core")
        return calls

    return call


WHOLE = ["install -c constraints/core.txt -e ."]
OURS_ONLY = ["install --no-deps -e ."]


def test_the_second_time_there_is_nothing_to_do(make: Make) -> None:
    assert make() == WHOLE
    assert make() == []


def test_other_packages_to_install_mean_a_new_environment(
    make: Make, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    (tmp_path / "env/left over").touch()
    monkeypatch.setattr(
        script, "hash_requirements", lambda _: {"installs": "2", "package": "2"}
    )
    assert make() == WHOLE
    assert not (tmp_path / "env/left over").exists()
    assert make() == []


def test_another_layout_of_ours_leaves_the_dependencies(
    make: Make, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    monkeypatch.setattr(
        script, "hash_requirements", lambda _: {"installs": "1", "package": "2"}
    )
    assert make() == OURS_ONLY
    assert make() == []


def test_half_a_build_is_built_anew(
    make: Make, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        (tmp_path / "env/half").touch()
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(script, "run_pip", fail)
    with pytest.raises(subprocess.CalledProcessError):
        script.update_environment(tmp_path / "env", "core")
    assert make() == WHOLE
    assert not (tmp_path / "env/half").exists()


def test_a_damaged_environment_is_built_anew(make: Make, tmp_path: Path) -> None:
    make()
    (tmp_path / "env/bin/python").unlink()
    assert make() == WHOLE


def test_an_environment_of_the_user_is_installed_into_and_never_removed(
    make: Make, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_python(tmp_path / "env")
    (tmp_path / "env/precious").touch()
    assert make() == WHOLE
    assert make() == []
    monkeypatch.setattr(
        script, "hash_requirements", lambda _: {"installs": "2", "package": "2"}
    )
    assert make() == WHOLE
    assert (tmp_path / "env/precious").exists()


def test_what_is_installed_decides_the_fingerprint() -> None:
    spec = importlib.util.spec_from_file_location("environment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    prints = [module.hash_requirements(kind) for kind in module.PIP_CALLS]
    assert prints == [module.hash_requirements(kind) for kind in module.PIP_CALLS]
    assert len({found["installs"] for found in prints}) == len(module.PIP_CALLS)

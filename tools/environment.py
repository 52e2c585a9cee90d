"""Create or update a virtual environment: ``environment.py DIR KIND``.

    requirements of KIND -> hash -> compare with the state file in DIR -> install if different

KIND is core, dev or legacy. An environment created by this script is rebuilt when its
requirements change or when an earlier build was interrupted. An environment that existed before
(such as your own `.venv`) is updated and never removed. Needs only the standard library and
pip.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STATE_FILE = "loris-environment.json"

# pip calls of each KIND, in order. Paths are relative to ROOT.
CORE_PIP_ARGS = ["install", "-c", "constraints/core.txt"]
DEV_PIP_ARGS = ["install", "-c", "constraints/core.txt", "-c", "constraints/dev.txt"]
LEGACY_PIP_ARGS = ["install", "-c", "constraints/dev.txt", "-r", "constraints/legacy.txt"]
PIP_CALLS = {
    "core": [[*CORE_PIP_ARGS, "-e", "."]],
    "dev": [
        [*DEV_PIP_ARGS, "-e", ".[dev]"],
        # A dependency of audio-diffusion-pytorch whose stubs hide the types of numpy from mypy.
        ["uninstall", "--yes", "data-science-types"],
    ],
    "legacy": [
        [*LEGACY_PIP_ARGS, "-e", ".[dev]"],
        ["install", "--no-deps", "-r", "constraints/legacy-no-deps.txt"],
    ],
}
# Some packages of these kinds have no wheels for Python versions after 3.11.
PYTHON_311_ONLY = {"legacy"}


def hash_requirements(environment_name: str) -> dict[str, str]:
    """Hash the requirements of an environment and the packaging metadata of loris."""
    import tomllib  # not in Python < 3.11, which main() must be able to reject

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    table = project["project"]
    installs = [
        sys.version,
        sys.executable,
        str(ROOT),
        PIP_CALLS[environment_name],
        table["dependencies"],
    ]
    if environment_name != "core":
        installs.append(table["optional-dependencies"]["dev"])
    arguments = [argument for call in PIP_CALLS[environment_name] for argument in call]
    installs += [_read_requirements(ROOT / name) for name in arguments if name.endswith(".txt")]
    package = [project["build-system"], table, project["tool"]["setuptools"]]
    return {"installs": _hash_json(installs), "package": _hash_json(package)}


def _read_requirements(path: Path) -> list[str]:
    """Return the lines of a requirements file without comments."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [line for line in lines if line]


def _hash_json(thing: object) -> str:
    return hashlib.sha256(json.dumps(thing, sort_keys=True).encode()).hexdigest()[:16]


def read_state(folder: Path) -> dict[str, str]:
    """Read the state file; return an empty dictionary if it is missing or damaged."""
    try:
        state = json.loads((folder / STATE_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def is_usable(folder: Path) -> bool:
    """Return whether the Python of the environment runs and is 3.11 or newer."""
    code = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    try:
        done = subprocess.run([folder / "bin/python", "-c", code], check=False)
    except OSError:
        return False
    return done.returncode == 0


def create_venv(folder: Path) -> None:
    """Create an empty environment with the Python that runs this script."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)


def run_pip(folder: Path, *args: str) -> None:
    """Run pip of the environment; show its progress in a terminal only."""
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    command = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*command, args[0], *quiet, *args[1:]], cwd=ROOT, check=True)


def update_environment(folder: Path, environment_name: str) -> None:
    """Rebuild or update the environment unless it is up to date."""
    requirements = hash_requirements(environment_name)
    state = read_state(folder)
    if is_usable(folder) and {**state, **requirements} == state:
        return
    started_s = time.monotonic()
    made_here = state.get("made_here") == "yes" or not is_usable(folder)
    same_installs = is_usable(folder) and state.get("installs") == requirements["installs"]
    if same_installs:
        _log(f"{folder.name}: reinstalling loris, dependencies are up to date")
        run_pip(folder, "install", "--no-deps", "-e", ".")
    else:
        _log(f"{folder.name}: installing ({environment_name}); this takes several minutes")
        if made_here:
            shutil.rmtree(folder, ignore_errors=True)
            create_venv(folder)
        # Written before the installation, so that an interrupted build is recognized.
        _write_state(folder, {"made_here": "yes" if made_here else "no"})
        for call in PIP_CALLS[environment_name]:
            run_pip(folder, *call)
    _write_state(folder, {"made_here": "yes" if made_here else "no", **requirements})
    _log(f"{folder.name}: ready after {time.monotonic() - started_s:.0f} s")


def _write_state(folder: Path, state: dict[str, str]) -> None:
    temporary_path = folder / f"{STATE_FILE}.new"
    temporary_path.write_text(json.dumps(state, indent=2) + "\n")
    temporary_path.replace(folder / STATE_FILE)


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Parse arguments, check the Python version and update the environment under a lock."""
    folder, kind = ROOT / sys.argv[1], sys.argv[2]
    if sys.version_info < (3, 11) or (
        kind in PYTHON_311_ONLY and sys.version_info[:2] != (3, 11)
    ):
        which = "3.11" if kind in PYTHON_311_ONLY else "3.11 or newer"
        sys.exit(f"error: {kind} needs Python {which}: make PYTHON=/path/to/python3.11 ...")
    lock = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # a concurrent make waits, then finds it up to date
    try:
        update_environment(folder, kind)
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {folder.name}: {' '.join(map(str, error.cmd))} failed")


if __name__ == "__main__":
    main()

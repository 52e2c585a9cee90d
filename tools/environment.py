"""Make an environment, or use the one that is there: ``environment.py DIR KIND``.

    what KIND installs -> hash -> equal to the one noted in DIR? -> done, else install

An environment that this script made is built anew when what it installs changes, or when
an earlier build did not reach its end. One that was there before (a `.venv` of yours) is
installed into and never removed. Only the standard library and pip are needed.
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
NOTE = "loris-environment.json"

# KIND -> pip calls before our own package goes in, and after. Relative to ROOT.
CORE = ["install", "-c", "constraints/core.txt"]
DEV = ["install", "-c", "constraints/core.txt", "-c", "constraints/dev.txt"]
LEGACY = ["install", "-c", "constraints/dev.txt", "-r", "constraints/legacy.txt"]
KINDS = {
    "core": [[*CORE, "-e", "."]],
    "dev": [
        [*DEV, "-e", ".[dev]"],
        # Stubs that audio-diffusion-pytorch asks for: they hide numpy's own types.
        ["uninstall", "--yes", "data-science-types"],
    ],
    "legacy": [
        [*LEGACY, "-e", ".[dev]"],
        ["install", "--no-deps", "-r", "constraints/legacy-no-deps.txt"],
    ],
}
# Compiled packages of these stop at CPython 3.11.
ONLY_311 = {"legacy"}


def fingerprints(kind: str) -> dict[str, str]:
    """Hashes of what the kind installs, and of how our own package is laid out."""
    import tomllib  # here, so that an older Python comes as far as being told that it is one

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    table = project["project"]
    wanted = [sys.version, sys.executable, str(ROOT), KINDS[kind], table["dependencies"]]
    if kind != "core":
        wanted.append(table["optional-dependencies"]["dev"])
    words = [word for call in KINDS[kind] for word in call]
    wanted += [(ROOT / word).read_text() for word in words if word.endswith(".txt")]
    package = [project["build-system"], table, project["tool"]["setuptools"]]
    return {"installs": _hash(wanted), "package": _hash(package)}


def _hash(thing: object) -> str:
    return hashlib.sha256(json.dumps(thing, sort_keys=True).encode()).hexdigest()[:16]


def read_note(folder: Path) -> dict[str, str]:
    """What an earlier run noted; nothing where the note is absent or damaged."""
    try:
        note = json.loads((folder / NOTE).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def works(folder: Path) -> bool:
    """Whether the environment's Python runs and is new enough."""
    code = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    try:
        done = subprocess.run([folder / "bin/python", "-c", code], check=False)
    except OSError:
        return False
    return done.returncode == 0


def create(folder: Path) -> None:
    """Make an empty environment of the Python that runs this script."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)


def pip(folder: Path, *args: str) -> None:
    """Run the environment's pip, quietly where nobody watches."""
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    command = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*command, args[0], *quiet, *args[1:]], cwd=ROOT, check=True)


def make(folder: Path, kind: str) -> None:
    """Bring the environment to what the kind installs, doing as little as that takes."""
    wanted = fingerprints(kind)
    note = read_note(folder)
    if works(folder) and {**note, **wanted} == note:
        return
    started_s = time.monotonic()
    made_here = note.get("made_here") == "yes" or not works(folder)
    same_installs = works(folder) and note.get("installs") == wanted["installs"]
    if same_installs:
        _say(f"{folder.name}: installing loris anew, its dependencies are there")
        pip(folder, "install", "--no-deps", "-e", ".")
    else:
        _say(f"{folder.name}: installing ({kind}); this takes minutes, and is kept")
        if made_here:
            shutil.rmtree(folder, ignore_errors=True)
            create(folder)
        # Noted before anything is installed, so that half a build is known for one.
        _write_note(folder, {"made_here": "yes" if made_here else "no"})
        for call in KINDS[kind]:
            pip(folder, *call)
    _write_note(folder, {"made_here": "yes" if made_here else "no", **wanted})
    _say(f"{folder.name}: ready after {time.monotonic() - started_s:.0f} s")


def _write_note(folder: Path, note: dict[str, str]) -> None:
    beside = folder / f"{NOTE}.new"
    beside.write_text(json.dumps(note, indent=2) + "\n")
    beside.replace(folder / NOTE)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Read the arguments, refuse a Python that cannot serve, and make one at a time."""
    folder, kind = ROOT / sys.argv[1], sys.argv[2]
    if sys.version_info < (3, 11) or (kind in ONLY_311 and sys.version_info[:2] != (3, 11)):
        which = "3.11" if kind in ONLY_311 else "3.11 or newer"
        sys.exit(f"{kind} needs Python {which}: make PYTHON=/path/to/python3.11 ...")
    lock = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second waits, then finds it done
    try:
        make(folder, kind)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{folder.name}: {' '.join(map(str, error.cmd))} failed")


if __name__ == "__main__":
    main()

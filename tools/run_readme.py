"""Run what README.md tells a user to type: ``run_readme.py FOLDER_OF_PROGRAMS``.

In an empty folder with the examples beside it, each `loris` line and each block of Python, in
the order of the page. `make` lines are run by `.ci/run` itself.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def extract_snippets(markdown: str) -> list[tuple[str, str]]:
    """Kind (``sh`` or ``python``) and text of everything to run."""
    found = []
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL):
        if kind == "python":
            found.append((kind, block))
        elif kind == "sh":
            found += [(kind, line) for line in block.splitlines() if line.startswith("loris ")]
    return found


def main() -> None:
    """Run every step; the first that fails ends it."""
    programs = Path(sys.argv[1]).resolve()
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}
    todo = extract_snippets((ROOT / "README.md").read_text())
    if len({kind for kind, _ in todo}) < 2:
        sys.exit("README.md shows no commands or no Python")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "examples", Path(folder, "examples"))
        for kind, text in todo:
            print(f"+ {text}", flush=True)
            command = [str(programs / "python"), "-c", text] if kind == "python" else text
            subprocess.run(command, shell=kind == "sh", cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    main()

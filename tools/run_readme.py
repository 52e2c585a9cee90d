"""Run the commands that README.md shows: ``run_readme.py FOLDER_OF_PROGRAMS``.

Each `loris` line, each script and each block of Python, in the order of the page, in a
temporary folder with the examples, two videos, and a small data set in `LORIS_DATA`. `make`
lines are run by `.ci/run` itself.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SLURM_TASK = {
    "SLURM_ARRAY_TASK_ID": "1",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_MAX": "2",
    "SLURM_ARRAY_TASK_COUNT": "2",
    "SLURM_CPUS_PER_TASK": "2",
}
"""Environment of the first task of a job array, for scripts."""


def extract_snippets(markdown: str) -> Iterator[tuple[str, str]]:
    """Yield the kind, ``command``, ``script`` or ``python``, and the text of what to run."""
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", markdown, re.M | re.S):
        if language == "python":
            yield "python", block
        elif block.startswith("#!/bin/bash"):
            yield "script", block
        else:
            for line in block.splitlines():
                if line.startswith("loris "):
                    yield "command", line


def main() -> None:
    """Run every snippet; stop at the first that fails."""
    programs = Path(sys.argv[1]).resolve()
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    snippets = list(extract_snippets((ROOT / "README.md").read_text()))
    if {kind for kind, _ in snippets} != {"command", "script", "python"}:
        sys.exit("README.md lacks commands, a script or Python")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PATH": path, "LORIS_DATA": str(Path(folder, "data"))}
        shutil.copytree(ROOT / "examples", Path(folder, "examples"))
        script = str(ROOT / "tools/make_readme_inputs.py")
        subprocess.run([str(programs / "python"), script, folder], check=True)
        for kind, text in snippets:
            print(f"+ {text}", flush=True)
            command = [str(programs / "python"), "-c", text]
            if kind != "python":
                command = ["/bin/bash", "-e", "-c", text]
            variables = SLURM_TASK if kind == "script" else {}
            subprocess.run(command, cwd=folder, env=environment | variables, check=True)


if __name__ == "__main__":
    main()

"""Options that several commands share, as annotated types."""

import re
from pathlib import Path
from typing import Annotated

import typer


def _check_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise typer.BadParameter(f"{name!r} is not auto, cpu, mps, cuda or cuda:N")
    return name


Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|mps|cuda[:N]",
        callback=_check_device,
        help="Where networks run; a named device that is absent is an error.",
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same result.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Work on this many things at once.")]
OutPath = Annotated[Path | None, typer.Option("--out", "-o", help="File or folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out inputs whose result exists.")
]
JsonOutput = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, one line a file.")
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", envvar=["LORIS_OFFLINE", "HF_HUB_OFFLINE"], help="Fetch no weights."
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only results, warnings and errors.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more about each step.")]

"""Options shared by several commands, as annotated types, and the panels of `--help`."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Panel = Literal["Input", "Output", "Model", "Rhythm", "Scoring", "Sampling", "Run"]
"""Panels of a help page, shown in the order of the signature."""


def option(panel: Panel, text: str, *names: str, **more: Any) -> Any:
    """Return a Typer option in a panel of the help page.

    Args:
        panel: panel of the help page.
        text: help text, one or two sentences.
        names: option names such as ``--out`` and ``-o``; derived from the parameter by default.
        more: additional arguments of `typer.Option`.
    """
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


def _check_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise typer.BadParameter(f"{name!r} is not one of auto, cpu, mps, cuda and cuda:N")
    return name


Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Video files, folders, or @list.txt with one path per line.",
        rich_help_panel="Input",
    ),
]
DataDir = Annotated[
    Path | None,
    option(
        "Input",
        "Data set folder. Default: LORIS_DATA, else the platform's data folder.",
        "--data",
        metavar="DIR",
    ),
]
Out = Annotated[
    Path | None,
    option(
        "Output", "Output file, or a folder for several inputs.", "--out", "-o", metavar="PATH"
    ),
]
Overwrite = Annotated[bool, option("Output", "Overwrite existing files.", "--overwrite")]
SkipExisting = Annotated[
    bool,
    option("Output", "Write only missing files; skip inputs without any.", "--skip-existing"),
]
JsonOutput = Annotated[bool, option("Output", "Print one JSON object per result.", "--json")]
AudioTrack = Annotated[
    int | None,
    option(
        "Input",
        "Audio track to read, counted from 1. Default: the default track, else that with the"
        " most channels.",
        metavar="N",
        min=1,
    ),
]
Takes = Annotated[
    int,
    option("Sampling", "Number of takes per video, with consecutive seeds.", min=1, max=999),
]
Steps = Annotated[
    int | None,
    option(
        "Sampling",
        "Number of sampling steps. Default: 6, or 50 for the paper's model.",
        min=2,
        max=1000,
    ),
]
Guidance = Annotated[
    float | None,
    option(
        "Sampling",
        "Classifier-free guidance scale. Default: 2, or 20 for the paper's model.",
        metavar="SCALE",
        min=0.0,
        max=100.0,
    ),
]
Conditioning = Annotated[
    Literal["score", "free", "paper"] | None,
    option(
        "Model",
        "Conditions of mini: score (notes composed by rules), free (rhythm, energy, style and"
        " motion), or paper (rhythm tokens, motion and style). Default: score.",
    ),
]
Rhythm = Annotated[
    Literal["directogram", "flow", "stft"] | None,
    option(
        "Rhythm",
        "Visual rhythm from the directogram of the poses, from optical flow, or from the STFT"
        " of the poses. Default: directogram, or flow if no moving person is detected.",
        "--rhythm",
    ),
]
Synthesizer = Annotated[
    Literal["builtin", "fluidsynth"],
    option("Model", "Synthesizer that plays scores; fluidsynth must be installed."),
]
Soundfont = Annotated[
    Path | None,
    option(
        "Model",
        "Soundfont of the synthesizer (.sf2 or .sf3). Default: the included subset of FluidR3"
        " GM, or FluidR3 GM for fluidsynth.",
        metavar="FILE",
    ),
]
Soundfonts = Annotated[
    list[Path] | None,
    option(
        "Model",
        "Soundfont of the synthesizer (.sf2 or .sf3). Repeatable: each piece is played with one"
        " of them. Default: the included subset of FluidR3 GM, or FluidR3 GM for fluidsynth.",
        metavar="FILE",
    ),
]
PoseWeights = Annotated[
    Path | None,
    option("Model", "Weights of the mmpose network. Default: download them.", metavar="FILE"),
]
PoseNetwork = Annotated[
    str, option("Model", "Configuration name of the mmpose network.", metavar="NAME")
]
VisualFeatures = Annotated[
    str,
    option(
        "Model",
        "Visual features to extract: none, i3d=WEIGHTS, or i3d-r50[=WEIGHTS].",
        metavar="none|NAME[=FILE]",
    ),
]
Offline = Annotated[
    bool,
    option(
        "Model",
        "Do not download weights.",
        "--offline",
        envvar=["LORIS_OFFLINE", "HF_HUB_OFFLINE"],
    ),
]
Device = Annotated[
    str,
    option(
        "Run",
        "Device to run networks on. Fails if the device is not available.",
        metavar="auto|cpu|mps|cuda[:N]",
        callback=_check_device,
    ),
]
PoseDevice = Annotated[
    str,
    option(
        "Run",
        "Device of the mmpose network; BlazePose runs on the CPU.",
        "--device",
        metavar="auto|cpu|mps|cuda[:N]",
        callback=_check_device,
    ),
]
Seed = Annotated[
    int,
    option("Run", "Random seed. The same seed gives the same result.", min=0, max=2**63 - 1),
]
PartitionSeed = Annotated[
    int,
    option(
        "Run",
        "Seed of the partitions; use that of `loris prep`.",
        "--seed",
        min=0,
        max=2**63 - 1,
    ),
]
Jobs = Annotated[int, option("Run", "Number of parallel worker processes.", min=1)]
Threads = Annotated[
    int | None,
    option(
        "Run",
        "Number of threads of all processes together. Default: OMP_NUM_THREADS, else one per"
        " usable core. The result does not depend on it.",
        min=1,
        max=1024,
    ),
]
Shard = Annotated[
    str | None,
    option(
        "Run",
        "Process only shard I of N, counted from 1. Default: the task of the SLURM job array,"
        " if any.",
        metavar="I/N",
    ),
]
RetryFailed = Annotated[
    bool, option("Run", "Retry videos that failed in an earlier run.", "--retry-failed")
]
TimeLimit = Annotated[
    float,
    option("Run", "Time limit per video in seconds.", "--time-limit", metavar="S", min=1.0),
]
MemoryLimit = Annotated[
    int,
    option("Run", "Memory limit per video in MiB.", "--memory-limit", metavar="MIB", min=512),
]
Backend = Annotated[
    Literal["local", "ray"], option("Run", "Run workers on this machine or on a Ray cluster.")
]
RayAddress = Annotated[
    str | None, option("Run", "Address of the Ray cluster. Default: start one on this machine.")
]
DryRun = Annotated[
    bool, option("Run", "Print estimates of time and memory, and exit.", "--dry-run")
]
Quiet = Annotated[
    bool, option("Run", "Print only results, warnings and errors.", "--quiet", "-q")
]
Verbose = Annotated[bool, option("Run", "Print details of each step.", "--verbose", "-v")]


def reject_options_before_subcommand(context: typer.Context) -> bool:
    """Return whether a subcommand was called; options must follow its name.

    Raises:
        typer.BadParameter: an option precedes the subcommand.
    """
    if context.invoked_subcommand is None:
        return False
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option_name = next(p.opts[0] for p in context.command.params if p.name == name)
            raise typer.BadParameter(
                f"{option_name} cannot precede `{context.invoked_subcommand}`: put the options"
                " of a subcommand after its name"
            )
    return True

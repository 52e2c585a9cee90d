"""``loris rhythm``: the moments at which a body stresses its movement."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .console import Reporter
from .many import each
from .options import Out, Overwrite, Quiet, Verbose


def rhythm(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Videos, poses from `loris pose`, folders, or @list.txt."
        ),
    ],
    out: Out = None,
    method: Annotated[
        Literal["directogram", "flow", "stft"] | None,
        typer.Option(
            "--rhythm",
            help="The body's rhythm by the directogram of its motion or the STFT of its shape,"
            " or the whole picture's flow. By default the directogram.",
        ),
    ] = None,
    compat: Annotated[
        Literal["paper", "official"],
        typer.Option(help="Reading of the paper: as written, or as its code does."),
    ] = "paper",
    plot: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw directogram, envelope, peaks, and any sound."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find the visual rhythm: peaks of motion, in seconds.

    Writes STEM.rhythm.json beside each input, or to -o, a .json file or a folder.

    Examples:
        loris rhythm skate.mp4 --plot rhythm.png

        loris rhythm skate.poses.npz -o skate.json --compat official
    """
    from loris_cli.errors import UsageError
    from loris_cli.pose.keypoints import read_poses
    from loris_cli.rhythm.plot import rhythm_figure
    from loris_cli.rhythm.rhythm_file import write_rhythm
    from loris_cli.soundtrack.pipeline import own_sound
    from loris_cli.soundtrack.video_analysis import observe, rhythm_of
    from loris_cli.system.atomic_files import check_outputs, replacing
    from loris_cli.system.input_paths import (
        check_suffix,
        expand,
        folder_of,
        lists,
        result_names,
    )

    if compat == "official" and method in {"flow", "stft"}:
        raise UsageError(
            f"--compat official is a reading of the directogram, not of {method}",
            hint="leave one of them out",
        )
    reporter = Reporter(quiet=quiet, verbose=verbose)
    paths = expand(inputs)
    if plot is not None:
        check_suffix(plot, [".png"])
        if len(paths) > 1:
            raise UsageError(
                f"--plot goes with one input, not {len(paths)}", hint="leave it out"
            )

    def work(path: Path, place: Path) -> str:
        sound, keypoints = None, None
        if path.suffix.lower() == ".npz":
            if method == "flow":
                raise UsageError(f"{path.name} has no picture to follow", hint="give the video")
            poses = read_poses(path)
            found, keypoints = rhythm_of(poses, compat=compat, method=method), poses.keypoints
        else:
            seen = observe(path, method=method, compat=compat, reporter=reporter)
            found, keypoints = seen.rhythm, seen.poses.keypoints if seen.poses else None
            own = own_sound(path) if plot and seen.info.has_sound else None
            sound = None if own is None else own.astype(float)
        with replacing(place, overwrite=overwrite) as part:
            write_rhythm(part, found)
        if plot is not None:
            with replacing(plot, overwrite=overwrite) as part:
                rhythm_figure(part, found, keypoints=keypoints, sound=sound, title=path.name)
        reporter.note(f"{path.name}: {len(found.times_s)} peaks in {found.duration_s:.1f} s")
        return str(place)

    with folder_of(out):
        names = result_names(paths, out, suffix=".rhythm.json", suffixes=[".json"])
        outs = [name for (name,) in names]
        results = [*outs, *([plot] if plot else [])]
        check_outputs(results, [*paths, *lists(inputs)], overwrite=overwrite)
        each(list(zip(paths, outs, strict=True)), work, reporter)

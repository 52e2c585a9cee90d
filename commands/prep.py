"""``loris prep``: from raw videos to a data set that ``train`` reads."""

import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from loris_cli.config import DEFAULT_MMPOSE_CONFIG, GENRES
from loris_cli.errors import MissingDependencyError, UsageError

from . import dataset
from .console import ConsoleReporter
from .options import Device, Jobs, JsonOutput, Offline, Quiet, Seed, Verbose


def prep(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Videos, folders, or @list.txt."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Data set to make or to add to. By default LORIS_DATA, else the platform's"
            " data folder.",
        ),
    ] = None,
    kind: Annotated[
        Literal["dance", "floor", "skate"] | None,
        typer.Option(
            help="What the videos show. By default their names tell: those of AIST++, FineGym,"
            " FisV and FS1000 do."
        ),
    ] = None,
    genre: Annotated[
        str | None, typer.Option(help="Style of dances whose names do not tell.")
    ] = None,
    trim: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0.0,
            help="Left out at both ends; by default 5 s of sport, none of dance.",
        ),
    ] = None,
    separator: Annotated[
        Literal["torch", "spleeter", "none"],
        typer.Option(
            help="Who takes voices out: Spleeter's 2stems in torch, the package spleeter"
            " itself (TensorFlow), or nobody."
        ),
    ] = "torch",
    accompaniment_rate: Annotated[
        Literal["16000", "22050"],
        typer.Option(help="Rate the music goes through; the paper's is 16000."),
    ] = "22050",
    poses: Annotated[
        Literal["embedded", "mmpose", "beside", "none"],
        typer.Option(
            help="Who finds the body: the embedded estimator, one of mmpose's networks,"
            " STEM.poses.npz beside each video, or nobody."
        ),
    ] = "embedded",
    visual: Annotated[
        str,
        typer.Option(
            metavar="none|NAME[=FILE]",
            help="Who makes features of the picture: nobody, i3d-r50[=WEIGHTS] (pytorchvideo,"
            " fetched where no file is given) or i3d=WEIGHTS (Inception).",
        ),
    ] = "none",
    offline: Offline = False,
    pose_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --poses mmpose: its network's weights; by default they are fetched.",
        ),
    ] = None,
    pose_network: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="With --poses mmpose: which of its own configurations."
        ),
    ] = DEFAULT_MMPOSE_CONFIG,
    onsets: Annotated[
        Literal["librosa", "madmom"],
        typer.Option(
            help="Who hears accents and beats of the music. madmom's models are for"
            " non-commercial use only (CC BY-NC-SA 4.0)."
        ),
    ] = "librosa",
    filters: Annotated[
        bool, typer.Option("--filters/--no-filters", help="Set unfit clips aside.")
    ] = True,
    seed: Seed = 0,
    jobs: Jobs = 1,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Work on every N-th video only. By default what SLURM's job array says.",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before.")
    ] = False,
    time_limit: Annotated[
        float, typer.Option(metavar="S", min=1.0, help="A video that takes longer fails.")
    ] = 1800.0,
    memory_limit: Annotated[
        int, typer.Option(metavar="MB", min=512, help="A video that needs more fails.")
    ] = 6144,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Who runs the processes.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="With --engine ray: of a cluster. By default one on this machine."),
    ] = None,
    device: Device = "cpu",
    check: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Tell what is missing or damaged in a data set."),
    ] = None,
    stats: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Tell what a data set holds: table 1 of the paper."),
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="List the clips set aside, for a second look, and why."
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --review: take the clips listed in it back."),
    ] = None,
    drop: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --review: set the clips listed in it aside."),
    ] = None,
    release: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="DIR",
            help="Bring a copy of the authors' published data set into --data.",
        ),
    ] = None,
    synthetic: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Make a stand-in for the paper's data set."),
    ] = None,
    clips: Annotated[
        int,
        typer.Option(min=1, help="With --synthetic: of each subset; two a split at least."),
    ] = 40,
    json_output: JsonOutput = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make clips of 25 and 50 s with music, poses and rhythm, and their manifest.

    What is there already is left as it is, so the same command goes on after a stop, and
    several may work on one folder. A video that cannot be used fails alone.

    Examples:
        loris prep videos/ --data DATA --jobs 4

        loris prep skating/ --kind skate --data DATA --shard 0/16

        loris prep videos/ --data DATA --visual i3d-r50 --device cuda

        loris prep videos/ --data DATA --poses mmpose --pose-weights hrnet_w48.pth

        loris prep --check DATA

        loris prep --review DATA --keep good.txt

        loris prep --synthetic DATA --clips 4 --jobs 2

        loris prep --import LORIS/ --data DATA
    """
    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    modes = {
        "--check": check,
        "--stats": stats,
        "--review": review,
        "--synthetic": synthetic,
        "--import": release,
    }
    chosen = [name for name, folder in modes.items() if folder is not None]
    if len(chosen) + bool(inputs) > 1:
        raise UsageError(
            f"{chosen[0]} goes without videos and without the other modes", hint="leave one out"
        )
    if (keep or drop) and review is None:
        raise UsageError("--keep and --drop go with --review", hint="--review DATA --keep FILE")
    if pose_weights is not None and poses != "mmpose":
        raise UsageError("--pose-weights goes with --poses mmpose", hint="add --poses mmpose")
    if address is not None and engine != "ray":
        raise UsageError("--address goes with --engine ray", hint="add --engine ray")
    if genre is not None and genre not in GENRES:
        raise UsageError(f"no genre {genre!r}", hint="one of " + ", ".join(GENRES))
    if release is not None and visual != "none":
        raise UsageError(
            "the published data set has no pictures to look at", hint="leave out --visual"
        )
    if check is not None:
        return dataset.print_problems(check, reporter)
    if stats is not None:
        return dataset.print_stats(stats, reporter, json_output=json_output)
    if review is not None:
        return dataset.print_review(review, keep, drop, seed, reporter, json_output=json_output)

    from loris_cli.config import data_home
    from loris_cli.dataset.clip_cutting import PrepSettings
    from loris_cli.dataset.import_release import (
        find_released_clips,
        import_released_clip,
        unpack_archives,
    )
    from loris_cli.dataset.prepare_video import PrepContext, hash_weights, with_visual_encoder
    from loris_cli.dataset.prepare_videos import (
        ParallelMap,
        ResourceLimits,
        VideoTask,
        prepare_task_video,
        prepare_videos,
        resolve_shard,
    )
    from loris_cli.dataset.synthetic_videos import (
        list_synthetic_videos,
        prepare_synthetic_video,
    )
    from loris_cli.pose.mmpose_weights import fetch_mmpose_weights
    from loris_cli.soundtrack.visual_encoder import resolve_visual_weights
    from loris_cli.soundtrack.visual_features import parse_visual_source
    from loris_cli.system.input_paths import expand_inputs, output_folder
    from loris_cli.system.ray_pool import map_on_ray
    from loris_cli.system.worker_pool import map_in_processes

    visual_encoder = (
        None
        if visual == "none"
        else resolve_visual_weights(
            parse_visual_source(visual), offline=offline, reporter=reporter
        )
    )

    def add_visual_encoder(work: PrepContext) -> PrepContext:
        return work if visual_encoder is None else with_visual_encoder(work, *visual_encoder)

    runner: ParallelMap = (
        partial(map_on_ray, cluster_address=address) if engine == "ray" else map_in_processes
    )
    limits = ResourceLimits(time_s=time_limit, memory_mib=memory_limit)
    how: dict[str, Any] = {"n_workers": jobs, "limits": limits, "parallel_map": runner}
    ours = resolve_shard(shard, os.environ)
    place = data_home(data) if synthetic is None else synthetic
    if release is not None:
        with output_folder(place):
            unpack_archives(release, place)
        found = ours.select(
            find_released_clips(release, place), key=lambda task: str(task.source_path)
        )
        records = prepare_videos(found, import_released_clip, **how)
        n_videos = len(found)
    elif synthetic is not None:
        made_up = ours.select(
            list_synthetic_videos(place, clips, seed=seed),
            key=lambda task: str(task.source_path),
        )
        made_up = [replace(task, context=add_visual_encoder(task.context)) for task in made_up]
        records = prepare_videos(made_up, prepare_synthetic_video, **how)
        n_videos = len(made_up)
    else:
        videos = ours.select(expand_inputs(inputs or []), key=str)
        if poses == "mmpose" and pose_weights is None and any(v.is_file() for v in videos):
            # A package that is absent is told of beside the videos that are.
            with suppress(MissingDependencyError):
                pose_weights = fetch_mmpose_weights(
                    pose_network, offline=offline, reporter=reporter
                )
        settings = PrepSettings(
            activity=kind,
            genre=genre,
            trim_s=trim,
            separator=separator,
            accompaniment_rate_hz=int(accompaniment_rate),
            pose_estimator=poses,
            reject_unfit=filters,
            pose_network=pose_network if poses == "mmpose" else "",
            pose_weights_sha256=hash_weights(pose_weights),
            onset_detector=onsets,
        )
        work = PrepContext(
            data_dir=place,
            settings=settings,
            device=device,
            retry_failed=retry_failed,
            pose_weights=pose_weights,
        )
        work = add_visual_encoder(work)
        tasks = [VideoTask(source_path=video, context=work) for video in videos]
        records = prepare_videos(tasks, prepare_task_video, **how)
        n_videos = len(tasks)
    with output_folder(place):
        dataset.prepare_and_report(
            place, n_videos, records, seed, reporter, json_output=json_output
        )

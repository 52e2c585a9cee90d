"""``loris dataset``: check, describe, review, import and synthesize data sets."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from loris_cli.errors import UsageError

from . import options
from .console import ConsoleReporter
from .options import option
from .prep_run import PrepRun, prepare_and_report

app = typer.Typer(help="Check, describe, review, import and synthesize data sets.")

DataSet = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR",
        help="Data set folder. Default: LORIS_DATA, else the platform's data folder.",
        rich_help_panel="Input",
    ),
]


@app.command("check")
def check(
    data: DataSet = None, quiet: options.Quiet = False, verbose: options.Verbose = False
) -> None:
    """Check a data set for missing and damaged files.

    Prints one line per problem. The exit code is 1 if there are problems.

    Examples:
        loris dataset check DATA
    """
    from loris_cli.config import data_home
    from loris_cli.dataset.inspection import find_problems
    from loris_cli.dataset.manifest import REBUILD_HINT, read_manifest

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    data_dir = data_home(data)
    n_problems = 0
    for problem in find_problems(data_dir):
        reporter.print_result(problem)
        n_problems += 1
    n_clips = len(read_manifest(data_dir))
    if n_problems:
        reporter.info(f"{n_problems} problems in {n_clips} clips: {REBUILD_HINT}")
        raise typer.Exit(1)
    reporter.print_result(f"{n_clips} clips, no problems")


@app.command("stats")
def stats(
    data: DataSet = None,
    json_output: options.JsonOutput = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Print the clips, hours and sources of each subset.

    The last column contains the number of clips in table 1 of the paper.

    Examples:
        loris dataset stats DATA
    """
    from loris_cli.config import data_home
    from loris_cli.dataset.inspection import compute_subset_stats
    from loris_cli.dataset.manifest import PARTITIONS

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    subsets = compute_subset_stats(data_home(data))
    if json_output:
        for row in subsets:
            reporter.print_result(json.dumps(asdict(row)))
        return
    from tabulate import tabulate

    heads = ("subset", "activity", "length", "clips", "/".join(PARTITIONS), "hours", "sources")
    cells = [
        (
            row.subset,
            row.activity,
            f"{row.median_duration_s:.4g} s",
            row.n_clips,
            "/".join(str(row.clips_per_partition[name]) for name in PARTITIONS),
            f"{row.total_hours:.2f}",
            row.n_sources,
            row.n_with_poses,
            row.n_synthetic,
            row.n_paper_clips or "-",
        )
        for row in subsets
    ]
    table = tabulate(cells, (*heads, "poses", "synthetic", "paper"), "plain", numalign="right")
    reporter.print_result(table)
    hours = sum(row.total_hours for row in subsets)
    reporter.print_result(f"all: {sum(row.n_clips for row in subsets)} clips, {hours:.2f} h")


@app.command("review")
def review(
    data: DataSet = None,
    accept: Annotated[
        Path | None,
        option(
            "Input", "Accept the clips listed in this file, one id per line.", metavar="FILE"
        ),
    ] = None,
    reject: Annotated[
        Path | None,
        option(
            "Input", "Reject the clips listed in this file, one id per line.", metavar="FILE"
        ),
    ] = None,
    json_output: options.JsonOutput = False,
    seed: options.PartitionSeed = 0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """List rejected clips with the reasons; accept or reject clips manually.

    Prints one line per clip, which can be copied to the files of --accept and --reject. With
    these options, the decisions are saved and the manifest is updated.

    Examples:
        loris dataset review DATA --accept good.txt --reject bad.txt
    """
    from loris_cli.config import data_home
    from loris_cli.dataset import review as reviews
    from loris_cli.dataset.build_manifest import build_manifest

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    data_dir = data_home(data)
    for decision, path in ((reviews.ACCEPT, accept), (reviews.REJECT, reject)):
        if path is not None:
            reviews.save_decisions(data_dir, decision, reviews.read_clip_ids(path))
    if accept is not None or reject is not None:
        rows = build_manifest(data_dir, seed=seed)
        reporter.info(f"{data_dir}: {len(rows)} clips in the manifest")
    for clip in reviews.list_review_items(data_dir):
        if json_output:
            reporter.print_result(json.dumps(asdict(clip)))
        else:
            state = "accepted" if clip.accepted else "rejected"
            reasons = ", ".join(clip.reasons)
            reporter.print_result(
                f"{clip.id}  {state}  {clip.source} at {clip.start_s:g} s: {reasons}"
            )


@app.command("import")
def import_release(
    release: Annotated[
        Path,
        typer.Argument(
            metavar="RELEASE",
            help="Folder with the published data set, unpacked or as archives.",
            rich_help_panel="Input",
        ),
    ],
    data: options.DataDir = None,
    json_output: options.JsonOutput = False,
    seed: options.PartitionSeed = 0,
    jobs: options.Jobs = 1,
    shard: options.Shard = None,
    retry_failed: options.RetryFailed = False,
    time_limit: options.TimeLimit = 1800.0,
    memory_limit: options.MemoryLimit = 6144,
    backend: options.Backend = "local",
    ray_address: options.RayAddress = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Import the data set published by the authors of the paper.

    Writes the clips and a manifest to --data. An interrupted run is resumed.

    Examples:
        loris dataset import LORIS/ --data DATA --jobs 4
    """
    from loris_cli.config import data_home
    from loris_cli.dataset.import_release import list_released_clips
    from loris_cli.dataset.prepare_videos import WorkerOptions

    data_dir = data_home(data)
    run = PrepRun(
        seed=seed,
        shard=shard,
        json_output=json_output,
        workers=WorkerOptions(
            n_workers=jobs,
            time_limit_s=time_limit,
            memory_limit_mib=memory_limit,
            retry_failed=retry_failed,
            backend=backend,
            ray_address=ray_address,
        ),
    )
    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    prepare_and_report(list_released_clips(release, data_dir), data_dir, run, reporter)


@app.command("synthesize")
def synthesize(
    data: DataSet = None,
    clips: Annotated[
        int | None,
        option(
            "Input",
            "Number of videos per activity over all partitions, at least 2 per partition"
            " (default: 40); with --music, number of training pieces (default: 1608).",
            min=1,
        ),
    ] = None,
    test_clips: Annotated[
        int | None,
        option(
            "Input",
            "Number of these videos in the test partition (default: 5 %, at least 2); with"
            " --music, number of test pieces (default: 288).",
            metavar="N",
            min=1,
        ),
    ] = None,
    music: Annotated[
        bool,
        option(
            "Output",
            "Synthesize music without videos, as for the training of mini.",
            "--music",
        ),
    ] = False,
    json_output: options.JsonOutput = False,
    synthesizer: options.Synthesizer = "builtin",
    soundfont: options.Soundfonts = None,
    visual_features: options.VisualFeatures = "none",
    offline: options.Offline = False,
    seed: options.Seed = 0,
    jobs: options.Jobs = 1,
    shard: options.Shard = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Synthesize a data set of composed music, rendered dance videos and poses.

    Writes the clips and a manifest to DIR.

    Examples:
        loris dataset synthesize DATA --clips 40 --test-clips 20 --jobs 2

        loris dataset synthesize DATA --music --clips 1608
    """
    from dataclasses import replace

    from loris_cli.composition.synthesizer_settings import SynthesizerSettings
    from loris_cli.config import data_home
    from loris_cli.dataset.prepare_videos import WorkerOptions
    from loris_cli.dataset.synthesizer_record import record_synthesizers
    from loris_cli.dataset.synthetic_videos import list_synthetic_tasks

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    data_dir = data_home(data)
    soundfonts: list[Path | None] = [*soundfont] if soundfont else [None]
    players = [SynthesizerSettings(name=synthesizer, soundfont=path) for path in soundfonts]
    if music:
        unused = {
            "--seed": seed != 0,
            "--shard": shard is not None,
            "--visual-features": visual_features != "none",
            "--json": json_output,
        }
        for name in (name for name, is_given in unused.items() if is_given):
            raise UsageError(f"{name} cannot be used with --music", hint=f"remove {name}")
        from loris_cli.dataset.synthetic_music import generate_music_dataset

        record_synthesizers(data_dir, players)
        generate_music_dataset(
            data_dir,
            n_train=clips or 1608,
            n_test=test_clips or 288,
            n_workers=jobs,
            synthesizers=players,
            reporter=reporter,
        )
        reporter.print_result(str(data_dir))
        return
    tasks = [
        replace(
            task,
            context=task.context.with_visual_encoder(
                visual_features, offline=offline, reporter=reporter
            ),
        )
        for task in list_synthetic_tasks(
            data_dir, clips or 40, n_test_clips=test_clips, seed=seed, synthesizers=players
        )
    ]
    record_synthesizers(data_dir, players)
    workers = WorkerOptions(n_workers=jobs)
    run = PrepRun(seed=seed, shard=shard, json_output=json_output, workers=workers)
    prepare_and_report(tasks, data_dir, run, reporter)

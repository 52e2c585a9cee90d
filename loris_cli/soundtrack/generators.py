"""The model in the settings of a run, and what it alone is told.

settings -> weights, loaded once a process -> generator;  video -> features of its picture
"""

from functools import cache
from pathlib import Path
from typing import Any

from loris_cli.errors import UsageError
from loris_cli.models.i3d_inception import InceptionI3D, load_inception_i3d
from loris_cli.models.i3d_resnet50 import I3DR50, find_i3d_r50_weights, load_i3d_r50
from loris_cli.models.load_model import PaperCheckpoint, detect_preset, load_paper_checkpoint
from loris_cli.models.mini_checkpoint import MiniCheckpoint, load_mini_checkpoint
from loris_cli.rhythm.directogram import Compat
from loris_cli.soundtrack.job_report import RecordingReporter
from loris_cli.soundtrack.jobs import SoundtrackSettings
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.soundtrack.visual_encoder import VisualEncoder, extract_visual_features
from loris_cli.soundtrack.visual_features import (
    VISUAL_FEATURE_WIDTHS,
    Array,
    VisualNetwork,
    VisualSource,
    read_visual_features,
)
from loris_cli.soundtrack.waveform_generator import WaveformGenerator
from loris_cli.system.device import check_compiler, resolve_device, resolve_dtype
from loris_cli.system.file_fingerprints import FileFingerprint
from loris_cli.system.progress import Reporter
from loris_cli.video.probe import VideoInfo

SamplingGenerator = LatentGenerator | WaveformGenerator
VISUAL_NETWORK_LABELS: dict[VisualNetwork, str] = {
    "i3d": "an Inception I3D",
    "i3d-r50": "I3D-R50",
}


@cache
def load_model_cached(
    name: str, device: str, compiled: bool = False
) -> MiniCheckpoint | PaperCheckpoint:
    """The weights, loaded once a process; what is sampled is compiled as it is first called.

    Raises:
        UsageError: it is to be compiled, and what torch needs for that is missing.
    """
    place = resolve_device(device)
    if compiled:
        check_compiler(place)
    if detect_preset(name) == "paper":
        paper = load_paper_checkpoint(Path(name), device=place)
        if compiled:
            paper.network.unet.compile()
        return paper
    mini = load_mini_checkpoint(name, device=place)
    if compiled:
        mini.denoiser.compile()
    return mini


@cache
def load_i3d_cached(weights: Path, device: str) -> InceptionI3D:
    """The user's I3D, loaded once a process."""
    return load_inception_i3d(weights, device=resolve_device(device))


@cache
def load_i3d_r50_cached(weights: FileFingerprint, device: str) -> I3DR50:
    """I3D-R50, loaded once a process."""
    return load_i3d_r50(weights, device=resolve_device(device))


def load_visual_encoder(
    settings: SoundtrackSettings, reporter: Reporter
) -> VisualEncoder | None:
    """The network that makes features of pictures, if one is to.

    Raises:
        MissingDependencyError: a package that it needs is absent.
        WeightsError: its weights are absent, or not its own.
    """
    source = settings.visual
    if source is None or source.network is None:
        return None
    if source.network == "i3d-r50":
        weights = find_i3d_r50_weights(source.path, offline=settings.offline, reporter=reporter)
        return load_i3d_r50_cached(weights, settings.device)
    assert source.path is not None
    return load_i3d_cached(source.path, settings.device)


def build_generator(settings: SoundtrackSettings) -> SamplingGenerator:
    """The model in the settings of a run, sampled as they say or as suits it.

    Raises:
        UsageError: an option that this model does not take.
    """
    device = resolve_device(settings.device)
    model = load_model_cached(settings.model, settings.device, settings.compile)
    chosen: dict[str, Any] = {
        key: value
        for key in ("steps", "guidance", "sampler")
        if (value := getattr(settings, key)) is not None
    }
    chosen |= {
        "guidance_interval": settings.guidance_interval,
        "dtype": resolve_dtype(settings.precision, device),
    }
    if isinstance(model, MiniCheckpoint):
        if settings.visual is not None:
            raise UsageError(f"{model.name} sees no picture", hint="leave out --visual")
        return LatentGenerator(model=model, device=device, **chosen)
    generator = WaveformGenerator(model=model, device=device, **chosen)
    if settings.visual is not None:
        _check_visual_source(settings.visual, model)
    if settings.genre is not None and settings.genre not in generator.genres:
        known = ", ".join(generator.genres)
        raise UsageError(
            f"{model.name} was not taught the style {settings.genre}",
            hint=f"it knows {known}" if known else "it knows no styles: leave out --genre",
        )
    return generator


def _check_visual_source(source: VisualSource, model: PaperCheckpoint) -> None:
    """Refuse features that the network was not trained on."""
    config = model.network.config
    if config.visual_projection == "none":
        raise UsageError(f"{model.name} sees no picture", hint="leave out --visual")
    if (
        source.network is not None
        and VISUAL_FEATURE_WIDTHS[source.network] != config.visual_features
    ):
        raise UsageError(
            f"{VISUAL_NETWORK_LABELS[source.network]} makes {VISUAL_FEATURE_WIDTHS[source.network]} values and {model.name}"
            f" was trained on {config.visual_features}",
            hint="give features of the width that it knows as a .npy file",
        )


def get_rhythm_compat(generator: SamplingGenerator) -> Compat:
    """How the network was told of bodies while it learned."""
    if isinstance(generator, LatentGenerator):
        return "paper"
    return generator.model.network.config.compat


def get_visual_features(
    settings: SoundtrackSettings,
    generator: SamplingGenerator,
    info: VideoInfo,
    reporter: RecordingReporter,
) -> Array | None:
    """Features of the picture, for a network that is told of it."""
    if isinstance(generator, LatentGenerator):
        return None
    for text in generator.model.warnings:
        reporter.warn(text)
    config = generator.model.network.config
    if config.visual_projection == "none":
        return None
    if settings.visual is None:
        makers = [
            source
            for source, width in VISUAL_FEATURE_WIDTHS.items()
            if width == config.visual_features
        ]
        reporter.warn(
            f"{generator.model.name} was trained on features of the picture and is told of"
            f" none: give them with --visual{''.join(f' {source}=FILE' for source in makers)}"
        )
        return None
    network = load_visual_encoder(settings, reporter)
    if network is None:
        assert settings.visual.path is not None
        return read_visual_features(
            settings.visual.path, width=config.visual_features, duration_s=info.duration_s
        )
    return extract_visual_features(info, network, device=generator.device, reporter=reporter)

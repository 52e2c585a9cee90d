"""The model in the settings of a run, and what it alone is told.

settings -> weights, loaded once a process -> generator;  video -> features of its picture
"""

from functools import cache
from pathlib import Path
from typing import Any

from loris_cli.errors import UsageError
from loris_cli.models.i3d_inception import InceptionI3D, load_i3d
from loris_cli.models.i3d_resnet50 import I3DR50, load_i3d_r50, weights_file
from loris_cli.models.load_model import NamedPaper, kind_of, load_named_paper
from loris_cli.models.mini_checkpoint import MiniModel, load_mini
from loris_cli.rhythm.directogram import Compat
from loris_cli.soundtrack.job_report import Told
from loris_cli.soundtrack.jobs import Settings
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.soundtrack.visual_encoder import Seer, features_of_picture
from loris_cli.soundtrack.visual_features import (
    WIDTHS,
    Array,
    Network,
    VisualSource,
    read_visual,
)
from loris_cli.soundtrack.waveform_generator import WaveformGenerator
from loris_cli.system.device import check_compiles, dtype_of, resolve
from loris_cli.system.file_fingerprints import Identity
from loris_cli.system.progress import Reporter
from loris_cli.video.probe import VideoInfo

Generator = LatentGenerator | WaveformGenerator
NAMES: dict[Network, str] = {"i3d": "an Inception I3D", "i3d-r50": "I3D-R50"}


@cache
def model_of(name: str, device: str, compiled: bool = False) -> MiniModel | NamedPaper:
    """The weights, loaded once a process; what is sampled is compiled as it is first called.

    Raises:
        UsageError: it is to be compiled, and what torch needs for that is missing.
    """
    place = resolve(device)
    if compiled:
        check_compiles(place)
    if kind_of(name) == "paper":
        paper = load_named_paper(Path(name), device=place)
        if compiled:
            paper.network.unet.compile()
        return paper
    mini = load_mini(name, device=place)
    if compiled:
        mini.denoiser.compile()
    return mini


@cache
def i3d_of(path: Path, device: str) -> InceptionI3D:
    """The user's I3D, loaded once a process."""
    return load_i3d(path, device=resolve(device))


@cache
def i3d_r50_of(weights: Identity, device: str) -> I3DR50:
    """I3D-R50, loaded once a process."""
    return load_i3d_r50(weights, device=resolve(device))


def seer_of(settings: Settings, reporter: Reporter) -> Seer | None:
    """The network that makes features of pictures, if one is to.

    Raises:
        MissingDependencyError: a package that it needs is absent.
        WeightsError: its weights are absent, or not its own.
    """
    source = settings.visual
    if source is None or source.network is None:
        return None
    if source.network == "i3d-r50":
        weights = weights_file(source.path, offline=settings.offline, reporter=reporter)
        return i3d_r50_of(weights, settings.device)
    assert source.path is not None
    return i3d_of(source.path, settings.device)


def generator_of(settings: Settings) -> Generator:
    """The model in the settings of a run, sampled as they say or as suits it.

    Raises:
        UsageError: an option that this model does not take.
    """
    device = resolve(settings.device)
    model = model_of(settings.model, settings.device, settings.compile)
    chosen: dict[str, Any] = {
        key: value
        for key in ("steps", "guidance", "sampler")
        if (value := getattr(settings, key)) is not None
    }
    chosen |= {"interval": settings.guided, "dtype": dtype_of(settings.precision, device)}
    if isinstance(model, MiniModel):
        if settings.visual is not None:
            raise UsageError(f"{model.name} sees no picture", hint="leave out --visual")
        return LatentGenerator(model=model, device=device, **chosen)
    generator = WaveformGenerator(model=model, device=device, **chosen)
    if settings.visual is not None:
        _check_visual(settings.visual, model)
    if settings.genre is not None and settings.genre not in generator.genres:
        known = ", ".join(generator.genres)
        raise UsageError(
            f"{model.name} was not taught the style {settings.genre}",
            hint=f"it knows {known}" if known else "it knows no styles: leave out --genre",
        )
    return generator


def _check_visual(source: VisualSource, model: NamedPaper) -> None:
    """Refuse features that the network was not trained on."""
    config = model.network.config
    if config.visual == "none":
        raise UsageError(f"{model.name} sees no picture", hint="leave out --visual")
    if source.network is not None and WIDTHS[source.network] != config.visual_features:
        raise UsageError(
            f"{NAMES[source.network]} makes {WIDTHS[source.network]} values and {model.name}"
            f" was trained on {config.visual_features}",
            hint="give features of the width that it knows as a .npy file",
        )


def compat_of(generator: Generator) -> Compat:
    """How the network was told of bodies while it learned."""
    if isinstance(generator, LatentGenerator):
        return "paper"
    return generator.model.network.config.compat


def visual_of(
    settings: Settings, generator: Generator, info: VideoInfo, told: Told
) -> Array | None:
    """Features of the picture, for a network that is told of it."""
    if isinstance(generator, LatentGenerator):
        return None
    for text in generator.model.warnings:
        told.warn(text)
    config = generator.model.network.config
    if config.visual == "none":
        return None
    if settings.visual is None:
        makers = [source for source, width in WIDTHS.items() if width == config.visual_features]
        told.warn(
            f"{generator.model.name} was trained on features of the picture and is told of"
            f" none: give them with --visual{''.join(f' {source}=FILE' for source in makers)}"
        )
        return None
    network = seer_of(settings, told)
    if network is None:
        assert settings.visual.path is not None
        return read_visual(
            settings.visual.path, width=config.visual_features, duration_s=info.duration_s
        )
    return features_of_picture(info, network, device=generator.device, reporter=told)

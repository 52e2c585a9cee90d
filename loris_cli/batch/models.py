"""The model in the settings of a run, and what it alone is told.

settings -> weights, loaded once a process -> generator;  video -> features of its picture
"""

from functools import cache
from pathlib import Path
from typing import Any

from loris_cli.batch.plan import Settings
from loris_cli.batch.rows import Told
from loris_cli.errors import UsageError
from loris_cli.longform import LatentGenerator
from loris_cli.networks.checkpoint import MiniModel, load_mini
from loris_cli.networks.device import resolve
from loris_cli.networks.i3d import FEATURES, InceptionI3D, load_i3d
from loris_cli.networks.library import NamedPaper, kind_of, load_named_paper
from loris_cli.picture import features_of_picture
from loris_cli.rhythm.directogram import Compat
from loris_cli.video.probe import VideoInfo
from loris_cli.visual import Array, read_visual
from loris_cli.waveform_model import WaveformGenerator

Generator = LatentGenerator | WaveformGenerator


@cache
def model_of(name: str, device: str) -> MiniModel | NamedPaper:
    """The weights, loaded once a process."""
    if kind_of(name) == "paper":
        return load_named_paper(Path(name), device=resolve(device))
    return load_mini(name, device=resolve(device))


@cache
def i3d_of(path: Path, device: str) -> InceptionI3D:
    """The user's I3D, loaded once a process."""
    return load_i3d(path, device=resolve(device))


def generator_of(settings: Settings) -> Generator:
    """The model in the settings of a run, sampled as they say or as suits it.

    Raises:
        UsageError: an option that this model does not take.
    """
    model, device = model_of(settings.model, settings.device), resolve(settings.device)
    chosen: dict[str, Any] = {
        key: value
        for key in ("steps", "guidance", "sampler")
        if (value := getattr(settings, key)) is not None
    }
    if isinstance(model, MiniModel):
        if settings.visual is not None:
            raise UsageError(f"{model.name} sees no picture", hint="leave out --visual")
        return LatentGenerator(model=model, device=device, interval=settings.guided, **chosen)
    generator = WaveformGenerator(
        model=model, device=device, interval=settings.guided, **chosen
    )
    if settings.keep is not None:
        raise UsageError(f"{model.name} makes a soundtrack whole", hint="leave out --keep")
    if settings.visual is not None and model.network.config.visual == "none":
        raise UsageError(f"{model.name} sees no picture", hint="leave out --visual")
    if settings.genre is not None and settings.genre not in generator.genres:
        known = ", ".join(generator.genres)
        raise UsageError(
            f"{model.name} was not taught the style {settings.genre}",
            hint=f"it knows {known}" if known else "it knows no styles: leave out --genre",
        )
    return generator


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
        told.warn(
            f"{generator.model.name} was trained on features of the picture and is told of"
            " none: give them with --visual"
        )
        return None
    if settings.has_features:
        return read_visual(
            settings.visual, width=config.visual_features, duration_s=info.duration_s
        )
    if config.visual_features != FEATURES:
        raise UsageError(
            f"an Inception I3D makes {FEATURES} values and {generator.model.name} was trained"
            f" on {config.visual_features}",
            hint="give features as a .npy file",
        )
    network = i3d_of(settings.visual, settings.device)
    return features_of_picture(info, network, device=generator.device, reporter=told)

"""Construction of generators, and the visual features that condition them.

settings -> checkpoint, cached per process -> generator;  video -> visual features
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from loris_cli.array_types import Array
from loris_cli.baselines.learned_checkpoint import (
    LearnedModel,
    detect_learned_method,
    load_learned_model,
)
from loris_cli.baselines.learned_method import MethodName
from loris_cli.errors import UsageError
from loris_cli.models.condition_routes import Conditioning
from loris_cli.models.load_model import LoadedModel, load_model
from loris_cli.models.mini_checkpoint import MiniCheckpoint
from loris_cli.soundtrack.jobs import (
    DEFAULT_MODEL,
    SoundtrackSettings,
    check_method_options,
)
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.soundtrack.learned_generator import LearnedGenerator
from loris_cli.soundtrack.score_generator import ScoreGenerator
from loris_cli.soundtrack.visual_encoder import (
    VisualEncoder,
    extract_visual_features,
    load_visual_encoder,
    resolve_visual_weights,
)
from loris_cli.soundtrack.visual_features import VISUAL_WIDTHS, read_visual_features
from loris_cli.soundtrack.waveform_generator import WaveformGenerator
from loris_cli.system.device import check_compiler, resolve_device, resolve_dtype
from loris_cli.system.progress import Reporter
from loris_cli.video.probe import VideoInfo

ModelGenerator = LatentGenerator | WaveformGenerator
SoundtrackGenerator = ModelGenerator | ScoreGenerator | LearnedGenerator


@cache
def load_model_cached(name: str, device: str, compiled: bool = False) -> LoadedModel:
    """Load a checkpoint, cached per process; compilation happens on the first call.

    Raises:
        UsageError: compilation is requested, but torch's requirements for it are not met.
    """
    torch_device = resolve_device(device)
    if compiled:
        check_compiler(torch_device)
    model = load_model(name, device=torch_device)
    if compiled:
        network = model.denoiser if isinstance(model, MiniCheckpoint) else model.network.unet
        network.compile()
    return model


def build_generator(model: LoadedModel, device: torch.device, **options: Any) -> ModelGenerator:
    """Return the generator of a model.

    Args:
        model: from `load_model`.
        device: device of the model.
        options: fields of the generator; None selects the model's default.
    """
    options = {key: value for key, value in options.items() if value is not None}
    if isinstance(model, MiniCheckpoint):
        return LatentGenerator(model=model, device=device, **options)
    return WaveformGenerator(model=model, device=device, **options)


def check_conditioning(model: LoadedModel, conditioning: Conditioning) -> None:
    """Check that a model was trained with a conditioning.

    Raises:
        UsageError: it was not.
    """
    supported: tuple[Conditioning, ...] = ()
    if isinstance(model, MiniCheckpoint):
        supported = model.denoiser.config.conditionings
    if conditioning not in supported:
        names = ", ".join(supported)
        raise UsageError(
            f"{model.name} was not trained with the conditioning {conditioning}",
            hint=f"supported: {names}" if names else "omit --conditioning",
        )


@cache
def load_learned_cached(name: MethodName, path: Path | None, device: str) -> LearnedModel:
    """Load a trained baseline, cached per process.

    Raises:
        WeightsError: the method is not trained, or its file is damaged.
    """
    return load_learned_model(name, path, device=resolve_device(device))


def build_learned_generator(model: LearnedModel, device: torch.device) -> LearnedGenerator:
    """Return the generator of a trained baseline.

    Raises:
        UsageError: the model is the codec, which generates no music.
    """
    if model.method.build_generator is None:
        raise UsageError(
            f"{model.name} is a codec, which generates no music",
            hint="train d2mgan or cdcd with it: loris train --method cdcd --codec FILE",
        )
    generator = model.method.build_generator(model.network, model.codec, device)
    return LearnedGenerator(model=model, generator=generator)


def find_learned_weights(settings: SoundtrackSettings) -> tuple[MethodName, Path | None] | None:
    """Return method and weights file of the settings; None if they are not of a baseline.

    The file is None for the included weights.
    """
    path = None if settings.model == DEFAULT_MODEL else Path(settings.model)
    if settings.method is not None and settings.method != "score":
        return settings.method, path
    name = detect_learned_method(path) if path is not None and path.is_file() else None
    return None if name is None else (name, path)


def load_generator(settings: SoundtrackSettings) -> SoundtrackGenerator:
    """Return the generator for the settings of a run.

    Raises:
        UsageError: the model does not support an option.
        WeightsError: the model does not exist, or is not trained.
        InputError: the soundfont of the method is missing or damaged.
        MissingDependencyError: the synthesizer of the method is not installed.
    """
    if settings.method == "score":
        settings.synthesizer.check()
        return ScoreGenerator(synthesizer=settings.synthesizer)
    device = resolve_device(settings.device)
    learned = find_learned_weights(settings)
    if learned is not None:
        check_method_options(settings, learned[0])
        baseline = load_learned_cached(*learned, settings.device)
        return build_learned_generator(baseline, device)
    model = load_model_cached(settings.model, settings.device, settings.compile)
    if settings.conditioning is not None:
        check_conditioning(model, settings.conditioning)
    generator = build_generator(
        model,
        device,
        conditioning=settings.conditioning,
        steps=settings.steps,
        guidance=settings.guidance,
        sampler=settings.sampler,
        guidance_interval=settings.guidance_interval,
        dtype=resolve_dtype(settings.precision, device),
    )
    name, width = generator.model.name, generator.traits.visual_width
    if settings.visual is not None:
        if width is None:
            raise UsageError(
                f"{name} does not use visual features", hint="omit --visual-features"
            )
        network = settings.visual.network
        if network is not None and VISUAL_WIDTHS[network] != width:
            raise UsageError(
                f"{network} has feature width {VISUAL_WIDTHS[network]}, {name} needs {width}",
                hint="pass features of that width as a .npy file",
            )
    if settings.genre is not None and settings.genre not in generator.traits.genres:
        known = ", ".join(generator.traits.genres)
        raise UsageError(
            f"{name} was not trained on the style {settings.genre}",
            hint=f"supported styles: {known}" if known else "it has no styles: omit --genre",
        )
    return generator


def load_job_encoder(settings: SoundtrackSettings, reporter: Reporter) -> VisualEncoder | None:
    """Load the visual encoder for the settings of a run, or return None if there is none.

    Raises:
        MissingDependencyError: a required package is not installed.
        WeightsError: the weights are missing or are those of another network.
    """
    if (source := settings.visual) is None or source.network is None:
        return None
    weights = resolve_visual_weights(source, offline=settings.offline, reporter=reporter)
    return load_visual_encoder(*weights, settings.device)


def require_composer(
    generator: SoundtrackGenerator,
) -> LatentGenerator | ScoreGenerator | LearnedGenerator:
    """Return the generator if its takes have a score.

    Raises:
        UsageError: the generator is a model without notes.
    """
    if isinstance(generator, ScoreGenerator):
        return generator
    if isinstance(generator, LatentGenerator | LearnedGenerator) and generator.has_notes:
        return generator
    raise UsageError(
        f"{generator.model.name} does not use notes: no MIDI file can be written",
        hint="omit the MIDI output, or use --method score",
    )


def get_visual_features(
    settings: SoundtrackSettings,
    generator: SoundtrackGenerator,
    info: VideoInfo,
    reporter: Reporter,
) -> Array | None:
    """Read or extract the visual features of a video.

    Returns:
        ``(rows, width)``, two rows per second; None if the model does not use visual features,
        or if the settings have none.
    """
    if isinstance(generator, WaveformGenerator):
        for text in generator.model.warnings:
            reporter.warn(text)
    width, source = generator.traits.visual_width, settings.visual
    if width is None or isinstance(generator, ScoreGenerator):
        return None
    if source is None:
        encoders = [f" {name}=FILE" for name, size in VISUAL_WIDTHS.items() if size == width]
        reporter.warn(
            f"{generator.model.name} was trained with visual features, but none were given:"
            f" pass --visual-features{''.join(encoders)}"
        )
        return None
    encoder = load_job_encoder(settings, reporter)
    if encoder is None:
        assert source.path is not None
        return read_visual_features(source.path, width=width, duration_s=info.duration_s)
    device = resolve_device(settings.device)
    return extract_visual_features(info, encoder, device=device, reporter=reporter)

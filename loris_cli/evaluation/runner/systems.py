"""Systems that generate audio for the clips of an evaluation: models and methods.

    weights -> System;  method name -> `loris_cli.baselines` -> System

A method uses rules, or retrieves music from the train partition of the same subset, excluding
clips that share a song, dancer, source or video with the clip.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch

from loris_cli import __version__
from loris_cli.array_types import Float32Array
from loris_cli.baselines.drum_kit import DrumGenerator
from loris_cli.baselines.drums import place_hits_on_peaks
from loris_cli.baselines.groove import place_hits_on_grid
from loris_cli.baselines.retrieval import TEMPO_FACTORS, RetrievalGenerator, Song, SongLibrary
from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER, SynthesizerSettings
from loris_cli.dataset.read_clips import read_clip_audio, read_rhythm_features
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.clips import read_subset_clips
from loris_cli.models.condition_routes import Conditioning
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.models.load_model import LoadedModel, PaperCheckpoint, load_model
from loris_cli.models.mini_checkpoint import MiniCheckpoint, reconstruct_through_latent
from loris_cli.soundtrack.generators import (
    ModelGenerator,
    build_generator,
    check_conditioning,
)
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.soundtrack.score_generator import ScoreGenerator

METHOD_SCHEMA = 1
"""Version of the methods. Increment it when their output changes."""
METHOD_DESCRIPTIONS: Mapping[str, str] = {
    "score": "rule-written score, played by a synthesizer",
    "drums": "a drum hit on every peak of the visual rhythm",
    "groove": "a steady drum pattern from the rules of CMT, without its network",
    "retrieval": "train clip with the accents that best match the visual rhythm",
    "retrieval-stretched": "as retrieval, with time stretching of up to 10 %",
}
RULE_GENERATORS: Mapping[str, Callable[[], MusicGenerator]] = {
    "drums": partial(DrumGenerator, place_hits_on_peaks),
    "groove": partial(DrumGenerator, place_hits_on_grid),
}


CodecName = Literal["latent", "vqvae"]


@dataclass(frozen=True, kw_only=True)
class ReferenceCodec:
    """Encoder and decoder of audio, whose loss a ceiling shows."""

    name: CodecName
    sha256_prefix: str
    """Hash of the weights."""
    reconstruct: Callable[[Float32Array], Float32Array]
    """Return samples encoded and decoded, ``(samples,)``, mono at 22,050 Hz."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A model with its sampling settings, or a method."""

    category: Literal["model", "method"]
    description: str
    generation_settings: dict[str, Any]
    """All settings that affect the audio, except the clip and the seed."""
    is_stochastic: bool = True
    """Whether the audio depends on the seed."""
    get_generator: Callable[[frozenset[str]], MusicGenerator]
    """Return the generator for a clip with these groups, whose songs must not be used."""
    rebuild: "Callable[[], System]"
    """Build the same system in a worker process; picklable."""
    min_takes_per_worker: int = 1
    """Minimum number of takes per worker process; a worker takes seconds to start."""
    runs_in_parallel: bool = True
    """Whether worker processes may share the device."""
    count_network_evaluations: Callable[[float], int] = lambda duration_s: 0
    """Return the number of network evaluations for a clip duration in seconds."""
    codec_name: CodecName | None = None
    """Codec whose codes or latents the system generates; None if it has none."""
    load_codec: Callable[[], ReferenceCodec] | None = None
    """Load the codec."""
    uses_notes: bool = False
    """Whether a rule-written score conditions the model."""
    uses_visual_features: bool = False
    """Whether the model was trained on visual features."""


# A model of the paper's size takes 3 GB, and a table has up to 8, so only one is cached.
_load_model = lru_cache(maxsize=1)(load_model)


def build_model_system(
    model_name: str,
    *,
    device: torch.device,
    steps: int | None,
    guidance: float | None,
    conditioning: Conditioning | None = None,
) -> System:
    """Build the system of a model. The model is loaded once here to report errors early.

    Args:
        model_name: name of a built-in model, or path of a weights file.
        device: device of the model.
        steps: number of sampling steps; None uses the default of the model.
        guidance: guidance scale; None uses the default of the model.
        conditioning: conditioning of ``mini``; None uses its default.

    Raises:
        UsageError: the model was not trained with the conditioning.
        WeightsError: the weights are missing, damaged or untrained.
    """

    def load() -> LoadedModel:
        return _load_model(model_name, device=device)

    def build() -> ModelGenerator:
        options = {"steps": steps, "guidance": guidance, "conditioning": conditioning}
        return build_generator(load(), device, **options)

    def load_codec() -> ReferenceCodec:
        latent_model = load()
        assert isinstance(latent_model, MiniCheckpoint)
        return ReferenceCodec(
            name="latent",
            sha256_prefix=latent_model.sha256_prefix,
            reconstruct=partial(reconstruct_through_latent, latent_model.autoencoder),
        )

    model = load()
    if conditioning is not None:
        check_conditioning(model, conditioning)
    generator = build()
    is_latent = isinstance(model, MiniCheckpoint)
    paper_config = model.network.config if isinstance(model, PaperCheckpoint) else None
    is_visual = paper_config is not None and paper_config.visual_projection != "none"
    return System(
        category="model",
        description=f"weights {model.sha256_prefix}, {generator.steps} steps, guidance"
        f" {generator.guidance:g}"
        + (f", conditioning {conditioning}" if conditioning else "")
        + ", trained on visual features" * is_visual,
        generation_settings={
            "weights": model.sha256_prefix,
            "steps": generator.steps,
            "guidance": generator.guidance,
            **({"conditioning": conditioning} if conditioning else {}),
            "device": device.type,
            "version": __version__,
        },
        get_generator=lambda groups: build(),
        rebuild=partial(
            build_model_system,
            model_name,
            device=device,
            steps=steps,
            guidance=guidance,
            conditioning=conditioning,
        ),
        runs_in_parallel=device.type == "cpu",
        count_network_evaluations=lambda s: build().compute_window_layout(s).n_evaluations,
        codec_name="latent" if is_latent else None,
        load_codec=load_codec if is_latent else None,
        uses_notes=isinstance(generator, LatentGenerator) and generator.has_notes,
        uses_visual_features=is_visual,
    )


def build_score_system(synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER) -> System:
    """Build the system that plays rule-written scores.

    Raises:
        InputError: the soundfont is missing or damaged.
        MissingDependencyError: fluidsynth is not installed.
    """
    synthesizer.check()
    settings = {"method": "score", "schema": METHOD_SCHEMA, "version": __version__}
    player = synthesizer.name if synthesizer.name != "builtin" else "the built-in synthesizer"
    return System(
        category="method",
        description=f"rule-written score, played by {player}",
        generation_settings={**settings, **synthesizer.describe()},
        get_generator=lambda groups: ScoreGenerator(synthesizer=synthesizer),
        rebuild=partial(build_score_system, synthesizer),
        min_takes_per_worker=4,
    )


def build_method_system(
    name: str,
    data_dir: Path,
    subset: str,
    *,
    synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER,
) -> System:
    """Build the system of a method.

    Args:
        name: key of `METHOD_DESCRIPTIONS`.
        data_dir: data set folder; its train partition is the library for retrieval.
        subset: subset name.
        synthesizer: synthesizer of the method ``score``.

    Raises:
        InputError: the subset has no audio for the retrieval library, or the soundfont is
            missing or damaged.
        MissingDependencyError: fluidsynth is not installed.
    """
    if name == "score":
        return build_score_system(synthesizer)
    settings = {"method": name, "schema": METHOD_SCHEMA, "version": __version__}
    description = METHOD_DESCRIPTIONS[name]
    rebuild = partial(build_method_system, name, data_dir, subset)
    if name in RULE_GENERATORS:
        return System(
            category="method",
            description=description,
            generation_settings=settings,
            get_generator=lambda groups: RULE_GENERATORS[name](),
            rebuild=rebuild,
            min_takes_per_worker=200,
        )
    songs, fingerprint = read_library_songs(data_dir, subset)
    library = SongLibrary(songs, TEMPO_FACTORS if name == "retrieval-stretched" else (1.0,))
    return System(
        category="method",
        description=f"{description}, from {len(songs)} clips, excluding related clips",
        generation_settings={**settings, "library": fingerprint},
        is_stochastic=False,
        get_generator=lambda groups: RetrievalGenerator(
            library=library, excluded_groups=groups
        ),
        rebuild=rebuild,
        min_takes_per_worker=50,
    )


def read_library_songs(data_dir: Path, subset: str) -> tuple[list[Song], str]:
    """Return the train clips of a subset for retrieval, and a fingerprint of the library.

    Raises:
        InputError: no train clip has accents.
    """
    songs, contents = [], []
    for clip in read_subset_clips(data_dir, subset, partition="train"):
        features = read_rhythm_features(data_dir, clip) if clip.rhythm else None
        if features is None or not len(features.peaks_s):
            continue
        song = Song(
            name=clip.id,
            groups=frozenset(clip.all_groups),
            duration_s=features.duration_s,
            accents_s=features.peaks_s,
            strengths=features.strengths,
            read_samples=partial(read_clip_audio, data_dir, clip),
        )
        songs.append(song)
        size = (data_dir / clip.audio).stat().st_size
        contents.append(
            [
                clip.id,
                sorted(song.groups),
                size,
                song.accents_s.tolist(),
                song.strengths.tolist(),
            ]
        )
    if not songs:
        raise InputError(
            f"no clip in the train partition of {subset!r} has accents",
            hint="prepare the data set with `loris prep`, which detects accents",
        )
    return songs, hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:12]

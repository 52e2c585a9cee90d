"""Stages of the ``mini`` preset: the autoencoder, then the denoiser of its latents.

clips -> log-mel -> LatentStage -> latents of all clips -> DenoiserStage -> mini.safetensors
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from loris_cli.array_types import Float32Array, Samples
from loris_cli.audio import mel
from loris_cli.audio.magnitudes import compute_log_magnitude
from loris_cli.composition.production import PRODUCTION_CHANNELS
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import (
    read_clip_audio,
    read_rhythm_features,
    read_video_features,
)
from loris_cli.errors import InputError, UsageError, WeightsError
from loris_cli.models.checkpoint_format import read_config
from loris_cli.models.condition_routes import CONDITIONINGS
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoder, MelAutoencoderConfig
from loris_cli.models.mini_checkpoint import MiniCheckpoint, load_mini_checkpoint
from loris_cli.models.mini_unet import MiniDenoiser, MiniDenoiserConfig
from loris_cli.soundtrack.conditioning import HARMONY_CHANNELS
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.system.atomic_files import output_errors
from loris_cli.system.state_dict_files import MALFORMED_FILE_ERRORS, check_state_dict
from loris_cli.training import datasets
from loris_cli.training.checkpoints import (
    RunFolder,
    Weights,
    is_complete_model,
    is_conditional_stage,
    read_weights,
    write_weights,
)
from loris_cli.training.datasets import VALIDATION_SEED, MelCropDataset, TrainingClips
from loris_cli.training.latent_cache import (
    LATENTS_HINT,
    LatentCache,
    set_latent_statistics,
)
from loris_cli.training.loop import TrainingStage
from loris_cli.training.losses import DenoiserLoss, LatentLoss, checkpoint_activations
from loris_cli.training.lr_schedule import is_conditioning
from loris_cli.training.settings import StageName, TrainingSettings
from loris_cli.training.validation_samples import render_validation_samples

MINI_LATENT_CONFIG = MelAutoencoderConfig(
    n_mels=mel.FINE_MEL_CONFIG.n_mels,
    n_fft=mel.FINE_MEL_CONFIG.n_fft,
    latent_channels=96,
    width=448,
    n_blocks=3,
    fine_width=256,
)
MINI_DENOISER_CONFIG = MiniDenoiserConfig(
    latent_channels=MINI_LATENT_CONFIG.latent_channels,
    harmony_channels=HARMONY_CHANNELS,
    note_latent_channels=MINI_LATENT_CONFIG.latent_channels,
    motion_width=32,
    alignment_channels=64,
    production_channels=PRODUCTION_CHANNELS,
    conditionings=CONDITIONINGS,
    window_frames=512,
)
MEL_STATISTICS_CLIPS = 64
"""Number of clips used to measure the mean and standard deviation of spectrograms."""

NetworkT = TypeVar("NetworkT", MelAutoencoder, MiniDenoiser)


class LatentStage(TrainingStage):
    """Training of the log-mel autoencoder, or of the decoder of an earlier one.

    Without changes of the encoder, the denoiser of a model still fits its latents.
    """

    def __init__(
        self,
        clips: TrainingClips,
        settings: TrainingSettings,
        *,
        backbone_path: Path | None = None,
    ) -> None:
        """Build network and data.

        Args:
            clips: clips for training and validation.
            settings: settings of the stage.
            backbone_path: model, or weights of a latent stage, whose decoder is trained.

        Raises:
            InputError: the backbone has no autoencoder.
        """
        torch.manual_seed(settings.seed)
        self._has_backbone = backbone_path is not None
        if backbone_path is None:
            self.autoencoder = MelAutoencoder(MINI_LATENT_CONFIG)
        else:
            self.autoencoder = _read_autoencoder(backbone_path)
            self.autoencoder.requires_grad_(True)
            self.autoencoder.encoder.requires_grad_(False)
        self.loss_module = LatentLoss(self.autoencoder)
        build_set = partial(
            MelCropDataset, data_dir=clips.data_dir, config=self.autoencoder.config
        )
        self.train_set = build_set(clips=clips.train, seed=settings.seed)
        self.val_set = build_set(clips=clips.val, seed=VALIDATION_SEED)
        self._clips, self.n_clips = clips, len(clips.train)

    def initialize(self) -> None:
        """Measure the mean and standard deviation of the spectrograms on some clips."""
        if self._has_backbone:
            return
        network, config = self.autoencoder, self.autoencoder.config
        clips = self._clips.train[:: max(self.n_clips // MEL_STATISTICS_CLIPS, 1)]

        def read_samples() -> Iterator[Samples]:
            yield from (read_clip_audio(self._clips.data_dir, clip) for clip in clips)

        log_mels = (mel.compute_log_mel(samples, config.bands) for samples in read_samples())
        _measure_frames(log_mels, network.mel_mean, network.mel_std)
        if config.decodes_magnitudes:
            magnitudes = (
                compute_log_magnitude(samples, config.n_fft) for samples in read_samples()
            )
            _measure_frames(magnitudes, network.output_mean, network.output_std)

    def export_weights(self, module: nn.Module) -> Weights:
        """Return the weights of the autoencoder, and metadata with its configuration."""
        assert isinstance(module, LatentLoss)
        metadata = {"loris.coder": json.dumps(asdict(self.autoencoder.config))}
        return module.autoencoder.state_dict(), metadata


def _measure_frames(spectrograms: Iterable[Float32Array], mean: Tensor, std: Tensor) -> None:
    """Set the mean of each band, ``(bands, 1)``, and one standard deviation for all bands."""
    n_frames, total, total_square = 0, np.zeros(len(mean)), np.zeros(len(mean))
    for frames in spectrograms:
        n_frames += frames.shape[1]
        total += frames.sum(axis=1, dtype=np.float64)
        total_square += np.square(frames, dtype=np.float64).sum(axis=1)
    band_mean = total / n_frames
    mean.copy_(torch.from_numpy(band_mean)[:, None])
    std.fill_(float(np.sqrt((total_square / n_frames - band_mean**2).mean())))


class DenoiserStage(TrainingStage):
    """Training of the latent denoiser, conditional or unconditional."""

    def __init__(
        self,
        clips: TrainingClips,
        settings: TrainingSettings,
        cache: LatentCache,
        *,
        backbone_path: Path | None = None,
    ) -> None:
        """Build network and data.

        Args:
            clips: clips for training and validation.
            settings: settings of the stage.
            cache: latents of all clips.
            backbone_path: weights to start from, see `read_mini_backbone`.

        Raises:
            InputError: all clips are shorter than a window, or the backbone does not match.
        """
        self._data_dir, self._autoencoder = clips.data_dir, cache.autoencoder
        self._backbone_path, self.n_clips = backbone_path, len(clips.train)
        is_unconditional = settings.stage == "unconditional"
        build_dataset = partial(_build_latent_dataset, clips.data_dir, cache)
        train_set = build_dataset(
            clips.train,
            seed=settings.seed,
            condition_dropout=settings.condition_dropout,
            audio_accent_probability=settings.audio_accent_probability,
        )
        val_set = build_dataset(
            clips.val,
            seed=VALIDATION_SEED,
            condition_dropout=float(is_unconditional),
            audio_accent_probability=0.0,
        )
        self.train_set, self.val_set = train_set, val_set
        scores = [annotations.annotated_features for annotations in train_set.annotations]
        config = replace(
            MINI_DENOISER_CONFIG,
            trained_with_harmony=any(score.harmony is not None for score in scores),
            trained_with_notes=any(score.note_latent is not None for score in scores),
        )
        torch.manual_seed(settings.seed)
        self.denoiser = MiniDenoiser(config)
        self.loss_module = DenoiserLoss(self.denoiser)
        if backbone_path is not None:
            names = list_backbone_parameters(backbone_path, self.denoiser)
            self.backbone_keys = frozenset(f"denoiser.{name}" for name in names)
        if settings.checkpoint_activations:
            checkpoint_activations(self.denoiser)
        n_samples = 0 if is_unconditional else settings.validation_samples
        self._sample_clips = clips.val[:n_samples]

    def initialize(self) -> None:
        """Load the backbone weights, if given."""
        if self._backbone_path is not None:
            backbone = read_mini_backbone(self._backbone_path, self.denoiser)
            self.denoiser.load_state_dict(backbone)

    def export_weights(self, module: nn.Module) -> Weights:
        """Return the weights of the denoiser, and metadata with its configuration."""
        assert isinstance(module, DenoiserLoss)
        metadata = {"loris.denoiser": json.dumps(asdict(self.denoiser.config))}
        return module.denoiser.state_dict(), metadata

    def render_samples(self, module: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Generate audio for a few validation clips and return the onset scores."""
        assert isinstance(module, DenoiserLoss)
        device = next(module.parameters()).device
        model = MiniCheckpoint(
            autoencoder=self._autoencoder.to(device),
            denoiser=module.denoiser,
            name="in training",
        )
        clips = [(c.id, self._read_rhythm(c)) for c in self._sample_clips]
        generator = LatentGenerator(model=model, device=device)
        return render_validation_samples(generator, clips, folder, step)

    def _read_rhythm(self, clip: Clip) -> VideoFeatures:
        """Return the rhythm of a clip: that of its poses if it has some, else its accents."""
        features = read_video_features(self._data_dir, clip)
        return features or read_rhythm_features(self._data_dir, clip)


def _build_latent_dataset(
    data_dir: Path, cache: LatentCache, clips: Sequence[Clip], **options: Any
) -> datasets.LatentDataset:
    """Build the data set of all clips that are at least as long as a window."""
    n_frames = MINI_DENOISER_CONFIG.window_frames
    if missing := [clip.id for clip in clips if clip.id not in cache.latents]:
        raise InputError(
            f"latents.safetensors has no latents of {missing[0]}", hint=LATENTS_HINT
        )
    clips = [clip for clip in clips if cache.latents[clip.id].shape[1] >= n_frames]
    if not clips:
        raise InputError(
            "all clips are shorter than the window of the network",
            hint=f"use clips of at least {n_frames * 1024 / SAMPLE_RATE_HZ:.0f} s",
        )
    return datasets.LatentDataset(
        latents=[cache.latents[clip.id] for clip in clips],
        annotations=datasets.read_clip_annotations(
            data_dir, clips, cache.pseudo_rhythms, cache.note_latents
        ),
        config=MINI_DENOISER_CONFIG,
        **options,
    )


def load_autoencoder(run: RunFolder) -> MelAutoencoder:
    """Load the autoencoder of a run.

    Raises:
        UsageError: the latent stage of the run has not been trained.
        InputError: the weights are damaged.
    """
    path = run.stage_folder("latent").find_weights()
    if path is None:
        raise UsageError(f"{run.path} has no latent stage", hint="run --stage latent first")
    return _read_autoencoder(path)


def _read_autoencoder(path: Path) -> MelAutoencoder:
    """Read the autoencoder of a latent stage or of a complete model, without gradients."""
    if is_complete_model(path):
        return load_mini_checkpoint(str(path), device=torch.device("cpu")).autoencoder
    autoencoder = _read_network(path, "latent", MelAutoencoder, MelAutoencoderConfig)
    return autoencoder.eval().requires_grad_(False)


def load_mini_networks(run: RunFolder, path: Path) -> tuple[MelAutoencoder, MiniDenoiser]:
    """Load both networks of a run, including the statistics of the latents.

    Args:
        run: folder of the run.
        path: weights file of the denoiser.

    Raises:
        InputError: the weights are damaged or are those of another network.
    """
    autoencoder = load_autoencoder(run)
    set_latent_statistics(autoencoder, run.latents_path)
    return autoencoder, _read_network(path, "conditional", MiniDenoiser, MiniDenoiserConfig)


def _read_network(
    path: Path, stage: StageName, network_class: type[NetworkT], config_class: type[Any]
) -> NetworkT:
    tensors, metadata = read_weights(path)
    try:
        sizes = metadata["loris.coder" if stage == "latent" else "loris.denoiser"]
        with empty_networks():
            network = network_class(read_config(config_class, sizes))
        check_state_dict(tensors, network.state_dict(), path)
    except (*MALFORMED_FILE_ERRORS, WeightsError) as error:
        raise InputError(
            f"{path} has no weights of a {stage} stage: {error}",
            hint=f"train it with --stage {stage}",
        ) from error
    network.load_state_dict({key: tensors[key].float() for key in tensors}, assign=True)
    return network


def _list_unet_parameters(denoiser: MiniDenoiser) -> list[str]:
    return [name for name, _ in denoiser.named_parameters() if name.startswith("unet.")]


def read_mini_backbone(path: Path, denoiser: MiniDenoiser) -> dict[str, Tensor]:
    """Read the weights of a backbone, padded to the shapes of a denoiser.

    A backbone is from an unconditional stage, a conditional stage, perhaps with fewer
    conditions, or a complete model.

    Raises:
        InputError: the file cannot be read, or has the weights of another network.
    """
    state = _read_denoiser_weights(path)
    if not state.keys() >= set(_list_unet_parameters(denoiser)):
        raise InputError(
            f"{path.name} is not a backbone of this preset",
            hint="train one with --stage unconditional",
        )
    return pad_weights(state, denoiser.state_dict())


def list_backbone_parameters(path: Path, denoiser: MiniDenoiser) -> list[str]:
    """Return the names of the parameters that are trained in a backbone, see `is_conditioning`.

    Those with more input channels than in the backbone are not among them.

    Raises:
        InputError: the file cannot be read, or has the weights of another network.
    """
    read_mini_backbone(path, denoiser)
    state, new = _read_denoiser_weights(path), dict(denoiser.named_parameters())
    names = [
        key for key, value in new.items() if key in state and state[key].shape == value.shape
    ]
    if is_conditional_stage(path) or is_complete_model(path):
        return names
    return [key for key in names if key.startswith("unet.") and not is_conditioning(key)]


def _read_denoiser_weights(path: Path) -> dict[str, Tensor]:
    if is_complete_model(path):
        return load_mini_checkpoint(str(path), device=torch.device("cpu")).denoiser.state_dict()
    return read_weights(path)[0]


def copy_autoencoder(model_path: Path, run: RunFolder) -> None:
    """Use the autoencoder of a complete model as the latent stage of a run without one.

    Raises:
        WeightsError: the file is damaged.
    """
    folder = run.stage_folder("latent")
    if folder.find_weights() is not None:
        return
    autoencoder = _read_autoencoder(model_path)
    with output_errors(folder.path):
        folder.path.mkdir(exist_ok=True)
    metadata = {"loris.stage": "latent", "loris.coder": json.dumps(asdict(autoencoder.config))}
    write_weights(folder.last_weights, autoencoder.state_dict(), metadata)


def pad_weights(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pad the weights of a network for one with more condition channels.

    New channels come last in every input. Their matrix columns are zero, so they initially have
    no effect. New elements of norms, and parameters that the old network lacks, keep their
    initial values.

    Args:
        old: weights of the old network, by name.
        new: initial weights of the new network, by name.

    Raises:
        InputError: a tensor of the new network is smaller or has another rank.
    """
    state = dict(new)
    for name in sorted(old.keys() & new.keys()):
        source, target = old[name], new[name]
        pairs = zip(source.shape, target.shape, strict=False)
        if source.ndim != target.ndim or any(a > b for a, b in pairs):
            raise InputError(
                f"backbone {name} is {tuple(source.shape)}, expected {tuple(target.shape)}",
                hint="pass a backbone of the same preset",
            )
        padded = target.clone() if target.ndim == 1 else torch.zeros_like(target)
        padded[tuple(map(slice, source.shape))] = source
        state[name] = padded
    return state

"""Stages of the ``mini`` preset: the autoencoder, then the denoiser of its latents.

clips -> log-mel -> LatentStage -> latents of all clips -> DenoiserStage -> mini.safetensors
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from loris_cli.array_types import Float32Array, Samples
from loris_cli.audio import mel
from loris_cli.audio.magnitudes import compute_log_magnitude
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import (
    read_clip_audio,
    read_rhythm_features,
    read_video_features,
)
from loris_cli.errors import InputError
from loris_cli.models.condition_routes import CONDITIONINGS
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoder, MelAutoencoderConfig
from loris_cli.models.mini_checkpoint import MiniCheckpoint
from loris_cli.models.mini_config import MiniDenoiserConfig
from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.soundtrack.conditioning import HARMONY_CHANNELS
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.training import datasets
from loris_cli.training.checkpoints import Weights, is_complete_model
from loris_cli.training.datasets import VALIDATION_SEED, MelCropDataset, TrainingClips
from loris_cli.training.latent_cache import LATENTS_HINT, LatentCache
from loris_cli.training.loop import TrainingStage
from loris_cli.training.losses import DenoiserLoss, LatentLoss, checkpoint_activations
from loris_cli.training.mini_weights import (
    list_backbone_parameters,
    load_complete_model,
    read_autoencoder,
    read_mini_backbone,
)
from loris_cli.training.settings import TrainingSettings
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
    conditionings=CONDITIONINGS,
    window_frames=512,
)
MEL_STATISTICS_CLIPS = 64
"""Number of clips used to measure the mean and standard deviation of spectrograms."""


class LatentStage(TrainingStage):
    """Training of the autoencoder, or of the decoder alone of an existing one.

    The encoder is then frozen, so that the latents still fit the denoiser of the model.
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
        self.autoencoder = build_autoencoder(backbone_path)
        self.autoencoder.requires_grad_(True)
        self.autoencoder.encoder.requires_grad_(not self._has_backbone)
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
        magnitudes = (
            compute_log_magnitude(samples, config.n_fft) for samples in read_samples()
        )
        _measure_frames(magnitudes, network.output_mean, network.output_std)

    def export_weights(self, module: nn.Module) -> Weights:
        """Return the weights of the autoencoder, and metadata with its configuration."""
        assert isinstance(module, LatentLoss)
        metadata = {"loris.coder": json.dumps(asdict(self.autoencoder.config))}
        return module.autoencoder.state_dict(), metadata


def build_autoencoder(backbone_path: Path | None) -> MelAutoencoder:
    """Return a new autoencoder, or that of a model or a latent stage."""
    if backbone_path is not None:
        return read_autoencoder(backbone_path)
    return MelAutoencoder(MINI_LATENT_CONFIG)


def choose_denoiser_config(backbone_path: Path | None) -> MiniDenoiserConfig:
    """Return the configuration of a complete model to fine-tune, else that of new networks."""
    if backbone_path is not None and is_complete_model(backbone_path):
        return load_complete_model(backbone_path).denoiser.config
    return MINI_DENOISER_CONFIG


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
        config = choose_denoiser_config(backbone_path)
        build_dataset = partial(_build_latent_dataset, clips.data_dir, cache, config=config)
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
        torch.manual_seed(settings.seed)
        if config is MINI_DENOISER_CONFIG:  # a model to fine-tune has been trained with them
            config = _note_trained_conditions(config, train_set)
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


def _note_trained_conditions(
    config: MiniDenoiserConfig, train_set: datasets.LatentDataset
) -> MiniDenoiserConfig:
    """Return a configuration that records whether any training clip has chords or notes."""
    scores = [annotations.annotated_features for annotations in train_set.annotations]
    return replace(
        config,
        trained_with_harmony=any(score.harmony is not None for score in scores),
        trained_with_notes=any(score.note_latent is not None for score in scores),
    )


def _build_latent_dataset(
    data_dir: Path,
    cache: LatentCache,
    clips: Sequence[Clip],
    *,
    config: MiniDenoiserConfig,
    **options: Any,
) -> datasets.LatentDataset:
    """Build the data set of all clips that are at least as long as a window."""
    n_frames = config.window_frames
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
        config=config,
        **options,
    )

"""The stages of the ``mini`` preset: its latent code first, then what denoises it.

clips -> log-mel -> LatentStage -> codes of all clips -> DenoiserStage -> mini.safetensors
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import Dataset

from loris_cli.audio import mel
from loris_cli.audio.mel import FINE_MEL_CONFIG
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_clip_audio, read_rhythm_features
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoder, MelAutoencoderConfig
from loris_cli.models.mini_checkpoint import MiniCheckpoint
from loris_cli.models.mini_unet import MiniDenoiser, MiniDenoiserConfig
from loris_cli.soundtrack.conditioning import HARMONY_CHANNELS
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.training.checkpoints import read_weights
from loris_cli.training.datasets import (
    ClipAnnotations,
    Example,
    LatentDataset,
    MelCropDataset,
    read_clip_annotations,
)
from loris_cli.training.latent_cache import Latents
from loris_cli.training.losses import (
    DenoiserLoss,
    LatentLoss,
    checkpoint_activations,
)
from loris_cli.training.settings import TrainingSettings
from loris_cli.training.validation_samples import render_validation_samples

MINI_LATENT_CONFIG = MelAutoencoderConfig(
    n_mels=FINE_MEL_CONFIG.n_mels,
    n_fft=FINE_MEL_CONFIG.n_fft,
    latent_channels=64,
    width=448,
    n_blocks=3,
)
MINI_DENOISER_CONFIG = MiniDenoiserConfig(
    latent_channels=MINI_LATENT_CONFIG.latent_channels,
    harmony_channels=HARMONY_CHANNELS,
    note_latent_channels=MINI_LATENT_CONFIG.latent_channels,
    motion_width=32,
    timing_jitter_channels=1,
    window_frames=512,
)
MEL_CROP_FRAMES = 256
"""Log-mel frames of a crop: 3 s."""
MINI_LOG_SIGMA = (-0.4, 1.2)
"""Karras et al. (2022), Table 1; LORIS's own are for a waveform of deviation 0.1."""
VALIDATION_SEED = 1
MEL_STATISTICS_CLIPS = 64
"""As many tell the mean and deviation of log-mel."""


class LatentStage:
    """Learns the code of log-mel frames."""

    backbone_parameter_names: frozenset[str] = frozenset()

    def __init__(
        self,
        data_dir: Path,
        train_clips: Sequence[Clip],
        val_clips: Sequence[Clip],
        settings: TrainingSettings,
        *,
        config: MelAutoencoderConfig = MINI_LATENT_CONFIG,
        crop_frames: int = MEL_CROP_FRAMES,
    ) -> None:
        """Take clips of a data set."""
        torch.manual_seed(settings.seed)
        self._data, self._clips = data_dir, train_clips
        self.coder = MelAutoencoder(config)
        self.loss_module: nn.Module = LatentLoss(self.coder)
        code = (config.latent_channels, crop_frames // config.stride)
        self.train_set: Dataset[Example] = MelCropDataset(
            data_dir,
            train_clips,
            crop_frames=crop_frames,
            latent_shape=code,
            bands=config.bands,
            seed=settings.seed,
        )
        self.val_set: Dataset[Example] = MelCropDataset(
            data_dir,
            val_clips,
            crop_frames=crop_frames,
            latent_shape=code,
            bands=config.bands,
            seed=VALIDATION_SEED,
        )
        self.n_clips = len(train_clips)

    def initialize(self) -> None:
        """Measure log-mel over some clips."""
        chosen = self._clips[:: max(len(self._clips) // MEL_STATISTICS_CLIPS, 1)]
        bands_of = self.coder.config.bands
        frames = np.concatenate(
            [
                mel.compute_log_mel(read_clip_audio(self._data, clip), bands_of)
                for clip in chosen
            ],
            axis=1,
        )
        bands = torch.from_numpy(frames.mean(axis=1))[:, None]
        self.coder.mel_mean.copy_(bands)
        self.coder.mel_std.fill_(float((frames - bands.numpy()).std()))

    def export_weights(
        self, loss_module: nn.Module
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The coder alone."""
        assert isinstance(loss_module, LatentLoss)
        return loss_module.coder.state_dict(), {
            "loris.coder": json.dumps(asdict(self.coder.config))
        }

    def render_validation_samples(
        self, loss_module: nn.Module, folder: Path, step: int
    ) -> dict[str, float]:
        """Nothing: a code alone makes no music."""
        return {}


def read_latent_coder(path: Path) -> MelAutoencoder:
    """A coder that `LatentStage` learned.

    Raises:
        InputError: the file is not one.
    """
    tensors = read_weights(path)
    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get("loris.coder")
    try:
        coder = MelAutoencoder(MelAutoencoderConfig(**json.loads(told or "")))
        coder.load_state_dict(tensors)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{path.name} holds no latent", hint="train one with --stage latent"
        ) from error
    return coder.eval().requires_grad_(False)


class DenoiserStage:
    """Learns to denoise codes, with what is told of their clips or (unconditional) without."""

    def __init__(
        self,
        data_dir: Path,
        train_clips: Sequence[Clip],
        val_clips: Sequence[Clip],
        settings: TrainingSettings,
        *,
        coder: MelAutoencoder,
        latents: Latents,
        note_latents: Latents,
        pseudo_rhythms: Mapping[str, ClipFeatures],
        backbone_path: Path | None = None,
        config: MiniDenoiserConfig = MINI_DENOISER_CONFIG,
    ) -> None:
        """Take clips with their codes.

        Args:
            data_dir: folder of the data set.
            train_clips: to learn from.
            val_clips: to validate on.
            settings: of the stage.
            coder: of the codes.
            latents: of all these clips, by id.
            note_latents: codes of the notes of some of them.
            pseudo_rhythms: the rhythm of the sound itself, of some of these clips, by id.
            backbone_path: weights of an unconditional stage to begin with.
            config: sizes.

        Raises:
            InputError: no clip is as long as a window, or the backbone does not fit.
        """
        self._data, self._coder = data_dir, coder

        def long_enough(chosen: Sequence[Clip]) -> list[Clip]:
            long = [
                clip for clip in chosen if latents[clip.id].shape[1] >= config.window_frames
            ]
            if not long:
                raise InputError(
                    "no clip is as long as the network's window",
                    hint=f"clips of {config.window_frames * 1024 / SAMPLE_RATE_HZ:.0f} s are needed",
                )
            return long

        def examples(
            long: Sequence[Clip], lessons: Sequence[ClipAnnotations], seed: int, drop: float
        ) -> LatentDataset:
            return LatentDataset(
                [latents[clip.id] for clip in long],
                lessons,
                window_frames=config.window_frames,
                seed=seed,
                condition_dropout=drop,
                log_sigma=MINI_LOG_SIGMA,
                note_latent_channels=config.note_latent_channels,
            )

        long = long_enough(train_clips)
        lessons = read_clip_annotations(data_dir, long, pseudo_rhythms, note_latents)
        unheard = long_enough(val_clips)
        self.train_set: Dataset[Example] = examples(
            long, lessons, settings.seed, settings.condition_dropout
        )
        unconditional = settings.stage == "unconditional"
        self.val_set: Dataset[Example] = examples(
            unheard,
            read_clip_annotations(data_dir, unheard, pseudo_rhythms, note_latents),
            VALIDATION_SEED,
            float(unconditional),
        )
        torch.manual_seed(settings.seed)
        self.denoiser = MiniDenoiser(
            replace(
                config,
                trained_with_harmony=any(lesson.has_chords for lesson in lessons),
                trained_with_notes=any(lesson.has_notes for lesson in lessons),
            )
        )
        self.loss_module: nn.Module = DenoiserLoss(self.denoiser)
        self.backbone_parameter_names: frozenset[str] = frozenset()
        self._backbone_path = backbone_path
        if backbone_path is not None:
            known = {f"denoiser.{key}" for key in read_weights(backbone_path)}
            unet = {name for name, _ in self.loss_module.named_parameters() if ".unet." in name}
            if not unet <= known:
                raise InputError(
                    f"{backbone_path.name} is no backbone of this preset",
                    hint="train one with --stage unconditional",
                )
            self.backbone_parameter_names = frozenset(unet)
        if settings.checkpoint_activations:
            checkpoint_activations(self.denoiser)

        self._sample_clips = (
            [] if unconditional else list(val_clips[: settings.validation_samples])
        )
        self.n_clips = len(train_clips)

    def initialize(self) -> None:
        """Take the weights of the backbone, if there is one."""
        if self._backbone_path is not None:
            known = read_weights(self._backbone_path)
            self.denoiser.load_state_dict(pad_weights(known, self.denoiser.state_dict()))

    def export_weights(
        self, loss_module: nn.Module
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The denoiser alone."""
        assert isinstance(loss_module, DenoiserLoss)
        told = {"loris.denoiser": json.dumps(asdict(self.denoiser.config))}
        return loss_module.denoiser.state_dict(), told

    def render_validation_samples(
        self, loss_module: nn.Module, folder: Path, step: int
    ) -> dict[str, float]:
        """What it makes of a few held-out clips; how many of their accents are heard."""
        assert isinstance(loss_module, DenoiserLoss)
        device = next(loss_module.parameters()).device
        model = MiniCheckpoint(
            autoencoder=self._coder.to(device),
            denoiser=loss_module.denoiser,
            name="in training",
            sha256_prefix="",
        )
        clips = [
            (clip.id, read_rhythm_features(self._data, clip)) for clip in self._sample_clips
        ]
        return render_validation_samples(
            LatentGenerator(model=model, device=device), clips, folder, step
        )


def pad_weights(
    old_state: Mapping[str, Tensor], new_state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights of a network that was told less, for one that is told more.

    What the network is newly told comes last in every input, and begins with no say: columns
    of zeros in matrices. Norms and what the older network has not at all stay as they are.

    Args:
        old_state: its weights, by name.
        new_state: those of the new one, as it begins.

    Raises:
        InputError: a tensor of the new network is smaller, or of another rank.
    """
    state = dict(new_state)
    for name in old_state.keys() & new_state.keys():
        old, new = old_state[name], new_state[name]
        if old.ndim != new.ndim or any(
            a > b for a, b in zip(old.shape, new.shape, strict=True)
        ):
            raise InputError(
                f"the backbone's {name} is {tuple(old.shape)}, not {tuple(new.shape)}",
                hint="it is of another preset",
            )
        fresh = new.clone() if new.ndim == 1 else torch.zeros_like(new)
        fresh[tuple(slice(size) for size in old.shape)] = old
        state[name] = fresh
    return state

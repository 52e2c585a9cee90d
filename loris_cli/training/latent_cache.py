"""Cache of the latents and pseudo-rhythms of all clips, computed after the latent stage.

clips -> log-mel, pseudo-rhythm -> latents.safetensors -> latents of unit variance
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from loris_cli.array_types import Float32Array
from loris_cli.audio import mel
from loris_cli.audio.accents import compute_audio_energy
from loris_cli.audio.onsets import ONSET_HOP_LENGTH, compute_onset_envelope, detect_onsets
from loris_cli.composition.note_spectrogram import NOTE_MEL_CONFIG, render_note_spectrogram
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_annotations, read_clip_audio
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.soundtrack.clip_features import MIN_ACCENT_STRENGTH
from loris_cli.soundtrack.latent_generator import ATTACK_LATENCY_S
from loris_cli.system.progress import Reporter
from loris_cli.training.checkpoints import damaged_file_errors, read_weights, write_weights
from loris_cli.training.datasets import TrainingClips

LATENT, NOTE_LATENT = "latent.", "note_latent."
"""Prefixes of tensor names; the clip id follows."""
RHYTHM_FIELDS = ("peaks_s", "strengths", "energy")
"""`ClipFeatures` fields of a pseudo-rhythm, stored as ``<field>.<clip id>``."""

LATENTS_HINT = "delete latents.safetensors: the next run computes it again"

Latents = Mapping[str, Float32Array]
"""Latents by clip id, ``(channels, frames)`` each."""


@dataclass(frozen=True, kw_only=True)
class LatentCache:
    """Latents normalized to unit variance, with their autoencoder."""

    autoencoder: MelAutoencoder
    """Autoencoder with the mean and standard deviation of the latents."""
    latents: Latents
    note_latents: Latents = field(default_factory=dict)
    """Latents of the note spectrograms on the same scale, for clips with a score."""
    pseudo_rhythms: Mapping[str, ClipFeatures] = field(default_factory=dict)
    """Pseudo-rhythms by clip id."""


def extract_pseudo_rhythm(samples: Float32Array) -> ClipFeatures:
    """Return a pseudo-rhythm: the onsets of the audio in place of visual peaks.

    Used for clips without annotations, and in one of ten examples of the others.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``, at least half a second.

    Returns:
        peaks at all note onsets, minus the attack latency, whereas `loris_cli.audio.accents`
        selects accents only; strengths from the onset envelope; energy from the loudness.
    """
    envelope = compute_onset_envelope(samples)
    onsets_s = detect_onsets(samples, onset_envelope=envelope)
    frames = np.round(onsets_s * SAMPLE_RATE_HZ / ONSET_HOP_LENGTH).astype(int)
    # The detector subtracts its delay: the rise of the envelope is a frame or two later.
    starts = frames.clip(max=len(envelope) - 1)
    strengths = np.array([float(envelope[k : k + 4].max()) for k in starts])
    return ClipFeatures(
        duration_s=len(samples) / SAMPLE_RATE_HZ,
        peaks_s=np.maximum(onsets_s - ATTACK_LATENCY_S, 0.0),
        strengths=MIN_ACCENT_STRENGTH
        + (1 - MIN_ACCENT_STRENGTH) * strengths / max(strengths.max(initial=0.0), 1e-9),
        energy=compute_audio_energy(samples),
    )


@dataclass(frozen=True)
class _ClipTensors(Dataset[dict[str, Tensor]]):
    """Log-mel, note spectrogram and pseudo-rhythm fields of complete clips."""

    data_dir: Path
    clips: Sequence[Clip]
    bands: mel.MelConfig
    stride: int

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        clip = self.clips[index]
        samples = read_clip_audio(self.data_dir, clip)
        log_mel = mel.compute_log_mel(samples, self.bands)
        n_frames = log_mel.shape[1] // self.stride * self.stride
        rhythm = extract_pseudo_rhythm(samples)
        tensors = {key: torch.from_numpy(getattr(rhythm, key)).float() for key in RHYTHM_FIELDS}
        tensors[LATENT] = torch.from_numpy(log_mel[:, :n_frames])
        arrangement = read_annotations(self.data_dir, clip).arrangement
        if arrangement is not None and self.bands == NOTE_MEL_CONFIG:
            spectrogram = render_note_spectrogram(arrangement, 0, n_frames)
            tensors[NOTE_LATENT] = torch.from_numpy(spectrogram)
        return tensors


@torch.inference_mode()
def write_latent_cache(
    path: Path,
    autoencoder: MelAutoencoder,
    clips: TrainingClips,
    *,
    device: torch.device,
    workers: int,
    reporter: Reporter,
) -> None:
    """Write the unnormalized latents of clips and notes, with mean and standard deviation.

    Those of a model are not measured again, because its denoiser was trained with them.

    Args:
        path: safetensors file.
        autoencoder: network that encodes the clips.
        clips: clips of both partitions.
        device: device of the encoder.
        workers: processes that read and transform audio; 0 uses this process.
        reporter: receives progress.
    """
    autoencoder = autoencoder.to(device)
    tensors: dict[str, Tensor] = {}
    dataset = _ClipTensors(
        clips.data_dir, clips.all, autoencoder.config.bands, autoencoder.config.stride
    )
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    with reporter.stage("latents", len(dataset)) as advance:
        for clip, clip_tensors in zip(clips.all, loader, strict=True):
            for name, value in clip_tensors.items():
                if name in RHYTHM_FIELDS:
                    tensors[f"{name}.{clip.id}"] = value
                else:
                    mean, _ = autoencoder.encode_posterior(value[None].to(device))
                    tensors[name + clip.id] = mean[0].cpu()
            advance(1)
    latents = [value for name, value in tensors.items() if name.startswith(LATENT)]
    statistics = {"mean": autoencoder.code_mean.cpu(), "std": autoencoder.code_std.cpu()}
    if not has_latent_statistics(autoencoder):
        frames = torch.cat(latents, dim=1)
        statistics = {"mean": frames.mean(dim=1)[:, None], "std": frames.std(dim=1)[:, None]}
    halves = {k: v if k.startswith(RHYTHM_FIELDS) else v.half() for k, v in tensors.items()}
    write_weights(path, {**halves, **statistics}, {})


def has_latent_statistics(autoencoder: MelAutoencoder) -> bool:
    """Return whether the statistics of the latents have been measured, as in a model."""
    return not bool((autoencoder.code_std == 1).all())


def set_latent_statistics(autoencoder: MelAutoencoder, path: Path) -> dict[str, Tensor]:
    """Copy latent mean and deviation from a cache to its autoencoder; return all tensors.

    Raises:
        InputError: the file is damaged or that of another autoencoder.
    """
    tensors, _ = read_weights(path)
    with damaged_file_errors(path, hint=LATENTS_HINT):
        for name, buffer in (("mean", autoencoder.code_mean), ("std", autoencoder.code_std)):
            if tensors[name].shape != buffer.shape or not tensors[name].isfinite().all():
                raise ValueError(f"invalid {name}")
            buffer.copy_(tensors[name])
        for name, tensor in tensors.items():
            is_latent = name.startswith((LATENT, NOTE_LATENT))
            if is_latent and (tensor.ndim != 2 or len(tensor) != len(autoencoder.code_mean)):
                raise ValueError(f"invalid {name}")
    return tensors


def read_latent_cache(
    path: Path, autoencoder: MelAutoencoder, clips: Iterable[Clip]
) -> LatentCache:
    """Read the normalized latents of all clips, and the pseudo-rhythms of some.

    Args:
        path: safetensors file.
        autoencoder: network of the latents; its latent mean and standard deviation are set.
        clips: clips whose pseudo-rhythms are read.

    Raises:
        InputError: the file is damaged or that of another autoencoder.
    """
    tensors = set_latent_statistics(autoencoder, path)
    mean, std = tensors["mean"], tensors["std"]

    def normalized(prefix: str) -> dict[str, Float32Array]:
        return {
            name.removeprefix(prefix): ((latent.float() - mean) / std).numpy()
            for name, latent in tensors.items()
            if name.startswith(prefix)
        }

    def read_rhythm(clip: Clip) -> ClipFeatures:
        arrays: dict[str, Any] = {
            name: tensors[f"{name}.{clip.id}"].double().numpy() for name in RHYTHM_FIELDS
        }
        ndims = {array.ndim for array in arrays.values()}
        if ndims != {1} or len(arrays["peaks_s"]) != len(arrays["strengths"]):
            raise ValueError(f"invalid rhythm of {clip.id}")
        return ClipFeatures(duration_s=clip.duration_s, genre=clip.genre, **arrays)

    with damaged_file_errors(path, hint=LATENTS_HINT):
        return LatentCache(
            autoencoder=autoencoder,
            latents=normalized(LATENT),
            note_latents=normalized(NOTE_LATENT),
            pseudo_rhythms={clip.id: read_rhythm(clip) for clip in clips},
        )

"""What is computed once of every clip's sound: its code, and the rhythm that it has of its own.

clips -> log-mel, own rhythm -> codes.safetensors -> codes of unit variance
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from loris_cli.audio import mel
from loris_cli.composition.note_spectrogram import NOTE_MEL_CONFIG, render_note_spectrogram
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_annotations, read_clip_audio
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.system.progress import Reporter
from loris_cli.training.audio_analysis import extract_pseudo_rhythm
from loris_cli.training.checkpoints import read_weights, write_weights

RhythmTensors = tuple[Tensor, Tensor, Tensor]
"""Peaks in seconds, their strengths, energy at 16 Hz."""


class _ClipAudioDataset(Dataset[tuple[Tensor, Tensor | None, RhythmTensors]]):
    """Log-mel frames of whole clips, sketches of their notes, the rhythm of their sound."""

    def __init__(
        self, data_dir: Path, clips: Sequence[Clip], bands: mel.MelConfig, stride: int
    ) -> None:
        self._data, self._clips, self._bands, self._stride = data_dir, clips, bands, stride

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | None, RhythmTensors]:
        clip = self._clips[index]
        samples = read_clip_audio(self._data, clip)
        frames = mel.compute_log_mel(samples, self._bands)
        whole = frames.shape[1] // self._stride * self._stride
        own = extract_pseudo_rhythm(samples)
        parts = (own.peaks_s, own.strengths, own.energy)
        peaks, strengths, energy = (torch.from_numpy(part).float() for part in parts)
        notes = read_annotations(self._data, clip).arrangement
        drawn = None
        if notes is not None and self._bands == NOTE_MEL_CONFIG:
            drawn = torch.from_numpy(render_note_spectrogram(notes, 0, whole))
        return torch.from_numpy(frames[:, :whole]), drawn, (peaks, strengths, energy)


@torch.inference_mode()
def write_latent_cache(
    path: Path,
    coder: MelAutoencoder,
    data_dir: Path,
    clips: Sequence[Clip],
    *,
    device: torch.device,
    workers: int,
    reporter: Reporter,
) -> None:
    """Codes of clips and their notes, not yet of unit variance, with mean and deviation.

    Args:
        path: of the safetensors file.
        coder: what codes.
        data_dir: folder of the data set.
        clips: of it.
        device: where it codes.
        workers: processes that read and transform sound, 0 for none.
        reporter: hears how far it is.
    """
    coder = coder.to(device)
    tensors: dict[str, Tensor] = {}
    sounds = _ClipAudioDataset(data_dir, clips, coder.config.bands, coder.config.stride)
    loader = DataLoader(sounds, batch_size=None, num_workers=workers)
    with reporter.stage("codes", len(clips)) as advance:
        for clip, (frames, drawn, own) in zip(clips, loader, strict=True):
            for name, part in (("code", frames), ("sketch", drawn)):
                if part is not None:
                    mean, _ = coder.encode_posterior(part[None].to(device))
                    tensors[f"{name}.{clip.id}"] = mean[0].cpu()
            for name, part in zip(("peaks", "strengths", "energy"), own, strict=True):
                tensors[f"{name}.{clip.id}"] = part
            advance(1)
    codes = [value for name, value in tensors.items() if name.startswith("code.")]
    every = torch.cat(codes, dim=1)
    statistics = {"mean": every.mean(dim=1)[:, None], "std": every.std(dim=1)[:, None]}
    halves = {
        name: value.half() if name.startswith(("code.", "sketch.")) else value
        for name, value in tensors.items()
    }
    write_weights(path, {**halves, **statistics}, {})


Latents = dict[str, NDArray[np.float32]]
"""By the clip's id, ``(channels, frames)`` each."""


def read_latents(path: Path, coder: MelAutoencoder) -> tuple[Latents, Latents]:
    """Codes of clips, of unit variance, and on the same scale those of their notes.

    The coder learns to make such. A clip whose notes are not known has no second.
    """
    tensors = read_weights(path)
    mean, deviation = tensors["mean"], tensors["std"]
    coder.code_mean.copy_(mean)
    coder.code_std.copy_(deviation)

    def scaled(kind: str) -> Latents:
        return {
            name.removeprefix(kind): ((code.float() - mean) / deviation).numpy()
            for name, code in tensors.items()
            if name.startswith(kind)
        }

    return scaled("code."), scaled("sketch.")


def read_pseudo_rhythms(path: Path, clips: Sequence[Clip]) -> dict[str, ClipFeatures]:
    """The rhythm of each clip's own sound, by the clip's id."""
    tensors = read_weights(path)

    def part(name: str, clip: Clip) -> NDArray[np.float64]:
        return tensors[f"{name}.{clip.id}"].double().numpy()

    return {
        clip.id: ClipFeatures(
            duration_s=clip.duration_s,
            peaks_s=part("peaks", clip),
            strengths=part("strengths", clip),
            energy=part("energy", clip),
            genre=clip.genre,
        )
        for clip in clips
    }

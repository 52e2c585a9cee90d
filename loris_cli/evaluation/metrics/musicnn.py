"""Music tagger musicnn in torch: features for the Frechet distance, and tag probabilities.

    audio -> 16 kHz log-mel -> timbre and rhythm filters -> layers -> 200 features per 3 s

Model MTT_musicnn of Pons and Serra (2019), trained on MagnaTagATune. The weights are from the
musicnn package (ISC licence, `musicnn.LICENSE.md`), converted by `tools/convert_musicnn.py`.
The network follows `musicnn/models.py` and does not require TensorFlow.
"""

from functools import cache
from importlib.resources import as_file, files

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from loris_cli.array_types import Float32Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.librosa_import import librosa

RATE_HZ, N_FFT, HOP_SAMPLES, N_MELS = 16_000, 512, 256, 96
PATCH_FRAMES = 187
"""Input length of the network in frames (3 s)."""
BN_EPS = 1e-3
"""TensorFlow's default."""

TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast",
    "piano", "ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male",
    "singing", "vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman",
    "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man", "classic", "choir",
    "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello",
    "no voice", "weird", "country", "metal", "female voice", "choral",
)  # fmt: skip
"""Tags in the order of the network outputs."""


@cache
def _load_weights() -> dict[str, Tensor]:
    with as_file(files("loris_cli.evaluation.metrics").joinpath("musicnn.safetensors")) as path:
        return load_file(path)


def _batch_norm(x: Tensor, layer_index: int) -> Tensor:
    name = f"batch_normalization_{layer_index}" if layer_index else "batch_normalization"
    names = ("moving_mean", "moving_variance", "gamma", "beta")
    mean, variance, gamma, beta = (_load_weights()[f"{name}/{key}"] for key in names)
    return functional.batch_norm(x, mean, variance, gamma, beta, eps=BN_EPS)


def _conv_weights(layer_index: int) -> tuple[Tensor, Tensor]:
    """Return weights, ``(out, in, time, band)``, and bias of a convolution."""
    name = f"conv2d_{layer_index}" if layer_index else "conv2d"
    weights = _load_weights()
    return weights[f"{name}/kernel"].permute(3, 2, 0, 1), weights[f"{name}/bias"]


def _frontend(x: Tensor) -> Tensor:
    """Timbre and rhythm filters: ``(batch, 1, frames, 96)`` to ``(batch, 561, frames)``."""
    outputs = []
    for number in range(5):
        kernel, bias = _conv_weights(number)
        length = kernel.shape[2]
        # For even kernel lengths TensorFlow pads one frame more at the end than at the start.
        padded = functional.pad(x, (0, 0, (length - 1) // 2, length // 2))
        filtered = _batch_norm(functional.conv2d(padded, kernel, bias).relu(), number + 1)
        outputs.append(filtered.amax(dim=3))
    return torch.cat(outputs, dim=1)


def _midend(front: Tensor) -> Tensor:
    """Apply three layers along time and concatenate them with their input: 753 channels."""
    outputs, x = [front], front
    for number in range(5, 8):
        kernel, bias = _conv_weights(number)
        # The kernel spans all bands, which are treated as channels here.
        flat = kernel.permute(0, 3, 2, 1).squeeze(3)
        filtered = _batch_norm(functional.conv1d(x, flat, bias, padding=3).relu(), number + 1)
        x = filtered if number == 5 else x + filtered
        outputs.append(x)
    return torch.cat(outputs, dim=1)


@torch.inference_mode()
def embed(samples: Samples) -> tuple[Float32Array, Float32Array]:
    """Compute features and tag probabilities of a recording in patches of 3 s.

    Args:
        samples: mono, 22,050 Hz, at least 3 s; an incomplete last patch is dropped.

    Returns:
        output of the penultimate layer, ``(patches, 200)``; probabilities of `TAGS`,
        ``(patches, 50)``, 0..1.

    Raises:
        InputError: the audio is shorter than 3 s.
    """
    y = librosa.resample(samples, orig_sr=SAMPLE_RATE_HZ, target_sr=RATE_HZ, res_type="soxr_hq")
    mel = librosa.feature.melspectrogram(
        y=y, sr=RATE_HZ, hop_length=HOP_SAMPLES, n_fft=N_FFT, n_mels=N_MELS
    ).T
    frames = np.log10(10_000 * mel + 1).astype(np.float32)
    n_patches = len(frames) // PATCH_FRAMES
    if not n_patches:
        raise InputError("musicnn needs at least 3 s of audio")
    patches = frames[: n_patches * PATCH_FRAMES].reshape(n_patches, 1, PATCH_FRAMES, N_MELS)
    weights = _load_weights()
    hidden = _midend(_frontend(_batch_norm(torch.from_numpy(patches), 0)))
    pooled = torch.stack([hidden.amax(dim=2), hidden.mean(dim=2)], dim=2).flatten(1)
    dense = _batch_norm(pooled, 9) @ weights["dense/kernel"] + weights["dense/bias"]
    last = _batch_norm(dense.relu(), 10)
    tags = (last @ weights["dense_1/kernel"] + weights["dense_1/bias"]).sigmoid()
    return last.numpy(), tags.numpy()

"""A learned ear for the Frechet distance: musicnn, a tagger of music, in torch.

    sound -> 16 kHz log-mel -> filters of timbre and rhythm -> layers -> 200 numbers each 3 s

MTT_musicnn of Pons and Serra (2019), trained on MagnaTagATune, whose weights its package ships
(ISC licence, `musicnn.LICENSE.md`); `tools/convert_musicnn.py` made our file from theirs. The
network is written anew after `musicnn/models.py`: TensorFlow is not needed.
"""

from functools import cache
from importlib.resources import as_file, files

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.librosa_import import librosa

Samples = NDArray[np.float32]
Features = NDArray[np.float32]

MUSICNN_RATE_HZ, N_FFT, HOP_SAMPLES, N_MELS = 16_000, 512, 256, 96
PATCH_FRAMES = 187
"""Frames that the network was trained on: 3 s."""
BN_EPS = 1e-3
"""TensorFlow's."""

TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast",
    "piano", "ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male",
    "singing", "vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman",
    "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man", "classic", "choir",
    "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello",
    "no voice", "weird", "country", "metal", "female voice", "choral",
)  # fmt: skip


@cache
def _load_weights() -> dict[str, Tensor]:
    with as_file(files("loris_cli.evaluation.metrics").joinpath("musicnn.safetensors")) as path:
        return load_file(path)


def _batch_norm(x: Tensor, layer_index: int) -> Tensor:
    name = f"batch_normalization_{layer_index}" if layer_index else "batch_normalization"
    weights = _load_weights()
    return functional.batch_norm(
        x,
        weights[f"{name}/moving_mean"],
        weights[f"{name}/moving_variance"],
        weights[f"{name}/gamma"],
        weights[f"{name}/beta"],
        eps=BN_EPS,
    )


def _conv_weights(layer_index: int) -> tuple[Tensor, Tensor]:
    """Weights ``(out, in, time, band)`` and bias of a convolution."""
    name = f"conv2d_{layer_index}" if layer_index else "conv2d"
    weights = _load_weights()
    return weights[f"{name}/kernel"].permute(3, 2, 0, 1), weights[f"{name}/bias"]


def _frontend(x: Tensor) -> Tensor:
    """Filters of timbre and of rhythm over ``(batch, 1, frames, 96)``: 561 a frame."""
    parts = []
    for number in range(5):
        kernel, bias = _conv_weights(number)
        length = kernel.shape[2]
        # Of an even length TensorFlow pads one more behind than before.
        padded = functional.pad(x, (0, 0, (length - 1) // 2, length // 2))
        seen = _batch_norm(functional.conv2d(padded, kernel, bias).relu(), number + 1)
        parts.append(seen.amax(dim=3))
    return torch.cat(parts, dim=1)


def _midend(front: Tensor) -> Tensor:
    """Three layers along time, each heard beside the ones before: 753 a frame."""
    heard, x = [front], front
    for number in range(5, 8):
        kernel, bias = _conv_weights(number)
        # The kernel spans all bands, which here are channels.
        flat = kernel.permute(0, 3, 2, 1).squeeze(3)
        seen = _batch_norm(functional.conv1d(x, flat, bias, padding=3).relu(), number + 1)
        x = seen if number == 5 else x + seen
        heard.append(x)
    return torch.cat(heard, dim=1)


@torch.inference_mode()
def embed(samples: Samples) -> tuple[Features, Features]:
    """What musicnn hears in a sound, each 3 s of it.

    Args:
        samples: mono, 22,050 Hz, 3 s or more; what is left over at the end is not heard.

    Returns:
        the 200 numbers of its last layer but one, ``(patches, 200)``, and how likely each of
        `TAGS` is, ``(patches, 50)``, 0..1.

    Raises:
        InputError: it is too short.
    """
    slow = librosa.resample(
        samples, orig_sr=SAMPLE_RATE_HZ, target_sr=MUSICNN_RATE_HZ, res_type="soxr_hq"
    )
    mel = librosa.feature.melspectrogram(
        y=slow, sr=MUSICNN_RATE_HZ, hop_length=HOP_SAMPLES, n_fft=N_FFT, n_mels=N_MELS
    ).T
    frames = np.log10(10_000 * mel + 1).astype(np.float32)
    n_patches = len(frames) // PATCH_FRAMES
    if not n_patches:
        raise InputError("musicnn listens to 3 s of sound or more")
    patches = frames[: n_patches * PATCH_FRAMES].reshape(n_patches, 1, PATCH_FRAMES, N_MELS)
    weights = _load_weights()
    heard = _midend(_frontend(_batch_norm(torch.from_numpy(patches), 0)))
    pooled = torch.stack([heard.amax(dim=2), heard.mean(dim=2)], dim=2).flatten(1)
    dense = _batch_norm(pooled, 9) @ weights["dense/kernel"] + weights["dense/bias"]
    last = _batch_norm(dense.relu(), 10)
    tags = (last @ weights["dense_1/kernel"] + weights["dense_1/bias"]).sigmoid()
    return last.numpy(), tags.numpy()

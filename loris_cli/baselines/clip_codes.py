"""Codes of an entire clip, encoded in blocks so that the memory does not grow with it.

samples -> blocks with margins -> encoder -> vectors without margins -> nearest codes
codes -> blocks with margins -> decoder -> samples without margins
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loris_cli.array_types import Float32Array, Samples
from loris_cli.models.vqvae import VqVae

BLOCK_FRAMES = 1024
"""Codes encoded at a time, 6 s: about 40 MB for Jukebox's sizes."""


@torch.inference_mode()
def encode_clip(
    codec: VqVae, samples: Samples
) -> tuple[NDArray[np.int16], NDArray[np.float16]]:
    """Return the codes of a clip, and the vectors before quantization.

    The margins cover the receptive field of the encoder, so the result is that of one block up
    to rounding errors.

    Args:
        codec: trained VQ-VAE.
        samples: mono audio at 22,050 Hz, ``(samples,)``.

    Returns:
        codes, ``(frames,)``, and vectors, ``(code_width, frames)``; one frame per
        ``codec.config.hop`` samples, the last one padded with zeros.
    """
    codes, vectors = [], []
    for block in _encode_blocks(codec, samples):
        codes.append(codec.nearest_codes(block)[0].cpu().numpy().astype(np.int16))
        vectors.append(block[0].cpu().numpy().astype(np.float16))
    return np.concatenate(codes), np.concatenate(vectors, axis=1)


def _encode_blocks(codec: VqVae, samples: Samples) -> Iterator[Tensor]:
    """Yield the vectors ``(1, code_width, frames)`` of consecutive blocks."""
    hop, margin = codec.config.hop, codec.config.receptive_margin_frames
    device = codec.quantizer.codebook.device
    n_frames = -(-len(samples) // hop)
    for first in range(0, n_frames, BLOCK_FRAMES):
        start, last = max(first - margin, 0), min(first + BLOCK_FRAMES, n_frames)
        block = torch.from_numpy(samples[start * hop : (last + margin) * hop]).to(device)
        yield codec.encode_vectors(block[None].float())[:, :, first - start : last - start]


@torch.inference_mode()
def reconstruct_clip(codec: VqVae, samples: Samples) -> Float32Array:
    """Return a clip encoded and decoded by the codec.

    It shows the loss in the codec: music of its codes cannot sound better.

    Args:
        codec: trained VQ-VAE.
        samples: mono audio at 22,050 Hz, ``(samples,)``, at least one.

    Returns:
        ``(samples,)``
    """
    codes = torch.from_numpy(encode_clip(codec, samples)[0].astype(np.int64))
    hop, margin = codec.config.hop, codec.config.receptive_margin_frames
    device = codec.quantizer.codebook.device
    blocks = []
    for first in range(0, len(codes), BLOCK_FRAMES):
        start, last = max(first - margin, 0), min(first + BLOCK_FRAMES, len(codes))
        decoded = codec.decode_codes(codes[None, start : last + margin].to(device))[0]
        blocks.append(decoded[(first - start) * hop : (last - start) * hop].cpu().numpy())
    return np.concatenate(blocks)[: len(samples)]

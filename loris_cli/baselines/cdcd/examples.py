"""Training examples of CDCD: codes of a window, its condition, and the random numbers.

    clip -> codes, normalized poses, visual rows, genre -> random window -> example

The random numbers of the noise are part of the example, so the loss of a batch is
deterministic.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.baselines.cdcd.condition import CdcdCondition
from loris_cli.baselines.cdcd.config import (
    N_CHUNKS,
    N_GENRES,
    TOKEN_HOP_SAMPLES,
    CdcdConfig,
)
from loris_cli.baselines.learned_method import Example, PreparedClip, TrainingClip
from loris_cli.baselines.windows import VISUAL_ROWS_PER_S
from loris_cli.config import GENRES, POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.pose.normalization import normalize_keypoints

CHUNK_FRAMES = 2048
"""Codes that are computed at once: 12 s."""


def prepare_clip(clip: TrainingClip, config: CdcdConfig, codec: nn.Module) -> PreparedClip:
    """Return the codes of a clip and its condition.

    Args:
        clip: clip with poses.
        config: configuration of the network.
        codec: VQ-VAE (`loris_cli.models.vqvae`).

    Returns:
        ``codes`` ``(frames,)``, ``pose`` ``(pose_frames, 17, 3)``, ``visual`` ``(rows, width)``
        and ``genre`` ``()``.

    Raises:
        InputError: the clip has no poses, or visual features of another width.
    """
    poses = normalize_keypoints(clip.features.keypoints)
    if poses is None:
        raise InputError(
            f"{clip.clip_id} has no poses to train CDCD on",
            hint="extract the poses again: loris dataset prep",
        )
    return {
        "codes": encode_samples(clip.read_samples(), codec, n_min=config.n_tokens),
        "pose": poses.astype(np.float32),
        "visual": select_visual(clip.features.visual, config, name=clip.clip_id),
        "genre": np.array(index_genre(clip.features.genre), dtype=np.int64),
    }


def encode_samples(samples: Samples, codec: Any, *, n_min: int) -> NDArray[np.int16]:
    """Encode audio to codes, in chunks with margins, so that the chunks have no effect.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``.
        codec: VQ-VAE.
        n_min: smallest number of codes; shorter audio is padded with silence, as in the
            release.

    Returns:
        ``(frames,)``
    """
    hop = TOKEN_HOP_SAMPLES
    n_frames = max(len(samples) // hop, n_min)
    padded = np.pad(samples[: n_frames * hop], (0, max(n_frames * hop - len(samples), 0)))
    device = next(codec.parameters()).device
    margin = codec.config.receptive_margin_frames
    parts: list[NDArray[np.int16]] = []
    with torch.no_grad():
        for start in range(0, n_frames, CHUNK_FRAMES):
            end = min(start + CHUNK_FRAMES, n_frames)
            first, last = max(start - margin, 0), min(end + margin, n_frames)
            chunk = torch.from_numpy(padded[first * hop : last * hop]).float().to(device)
            codes = codec.encode(chunk[None])[0, start - first : end - first]
            parts.append(codes.cpu().numpy().astype(np.int16))
    return np.concatenate(parts)


def select_visual(visual: Array | None, config: CdcdConfig, *, name: str) -> Float32Array:
    """Return the visual features that the network uses, ``(rows, width)``; zeros without any.

    Raises:
        InputError: the features have another width.
    """
    width = config.visual_features
    if not width or visual is None or not len(visual):
        return np.zeros((1, width), dtype=np.float32)
    if visual.shape[1] != width:
        raise InputError(
            f"{name} has visual features of width {visual.shape[1]}, CDCD needs {width}",
            hint="use features of the encoder that the network was trained with",
        )
    return visual.astype(np.float32)


def index_genre(genre: str | None) -> int:
    """Return the index of a genre; the last one stands for an unknown genre."""
    return GENRES.index(genre) if genre in GENRES else N_GENRES - 1


def slice_condition(prepared: PreparedClip, start_s: float, config: CdcdConfig) -> Example:
    """Return the condition of the window from ``start_s`` on; after the end, rows repeat."""

    def slice_rows(name: str, rate_hz: float, n_rows: int) -> Tensor:
        values = prepared[name]
        index = round(start_s * rate_hz) + np.arange(n_rows)
        return torch.from_numpy(values[index.clip(max=len(values) - 1)])

    return {
        "pose": slice_rows("pose", POSE_FPS, config.n_frames),
        "visual": slice_rows("visual", VISUAL_ROWS_PER_S, config.n_visual_rows),
        "genre": torch.from_numpy(prepared["genre"].copy()),
    }


def draw_example(
    prepared: PreparedClip, config: CdcdConfig, rng: np.random.Generator
) -> Example:
    """Return a random window with the random numbers of its noise.

    Args:
        prepared: arrays of `prepare_clip`.
        config: configuration of the network.
        rng: random generator of the example.

    Returns:
        ``codes`` ``(n_tokens,)``; ``pose``, ``visual`` and ``genre``; ``step_quantile`` ``()``
        and ``uniform`` ``(n_tokens,)``, random numbers in 0..1; ``random_codes``
        ``(n_tokens,)``; ``chunk_orders`` ``(n_negatives, 8)``, permutations.
    """
    n_tokens = config.n_tokens
    start = int(rng.integers(len(prepared["codes"]) - n_tokens + 1))
    codes = prepared["codes"][start : start + n_tokens].astype(np.int64)
    chunks = np.tile(np.arange(N_CHUNKS), (config.n_negatives, 1))
    return {
        "codes": torch.from_numpy(codes),
        **slice_condition(prepared, start * TOKEN_HOP_SAMPLES / SAMPLE_RATE_HZ, config),
        "step_quantile": torch.tensor(rng.random(), dtype=torch.float32),
        "uniform": torch.from_numpy(rng.random(n_tokens, dtype=np.float32)),
        "random_codes": torch.from_numpy(rng.integers(config.n_codes, size=n_tokens)),
        "chunk_orders": torch.from_numpy(rng.permuted(chunks, axis=1)),
    }


def batch_condition(batch: Example) -> CdcdCondition:
    """Return the condition of a batch of examples."""
    return CdcdCondition(batch["pose"], batch["visual"], batch["genre"])


def permute_chunks(codes: Tensor, orders: Tensor) -> Tensor:
    """Return the negative samples: the chunks of the codes in another order.

    The release cuts a sequence into eight chunks of equal length; the remainder is unchanged.

    Args:
        codes: ``(batch, tokens)``.
        orders: permutations of the chunks, ``(batch, negatives, 8)``.

    Returns:
        ``(batch, negatives, tokens)``
    """
    n_tokens = codes.shape[1]
    length = n_tokens // N_CHUNKS
    within = torch.arange(length, device=codes.device)
    index = (orders[..., None] * length + within).flatten(2)
    n_rest = n_tokens - N_CHUNKS * length
    index = functional.pad(index, (0, n_rest))
    if n_rest:
        index[..., -n_rest:] = torch.arange(n_tokens - n_rest, n_tokens, device=codes.device)
    expanded = codes[:, None].expand(-1, orders.shape[1], -1)
    return expanded.gather(2, index)

"""Training examples of CDCD: codes of a window, its condition, and the random numbers.

    clip -> codes, motion, visual rows, genre -> random window -> example

The random numbers of the noise are part of the example, so the loss of a batch is
deterministic.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from loris_cli.array_types import Array, Float32Array
from loris_cli.baselines.cdcd.condition import CdcdCondition
from loris_cli.baselines.cdcd.config import (
    N_CHUNKS,
    N_GENRES,
    TOKEN_HOP_SAMPLES,
    CdcdConfig,
)
from loris_cli.baselines.clip_codes import encode_clip
from loris_cli.baselines.d2mgan.motion import compute_motion, slice_motion
from loris_cli.baselines.learned_method import Example, PreparedClip, TrainingClip
from loris_cli.baselines.windows import VISUAL_ROWS_PER_S
from loris_cli.config import GENRES, POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.models.vqvae import VqVae
from loris_cli.pose.normalization import normalize_keypoints


def prepare_clip(clip: TrainingClip, config: CdcdConfig, codec: VqVae) -> PreparedClip:
    """Return the codes of a clip and its condition.

    Args:
        clip: clip with poses.
        config: configuration of the network.
        codec: trained VQ-VAE.

    Returns:
        ``codes`` ``(frames,)``, at least a window; ``motion`` ``(pose_frames, 68)``, ``visual``
        ``(rows, visual_width)`` and ``genre`` ``()``.

    Raises:
        InputError: the clip has no poses, no music, or not the visual features of the network.
    """
    poses = normalize_keypoints(clip.features.keypoints)
    if poses is None:
        raise InputError(f"{clip.clip_id} has no poses", hint="add the poses of the clip")
    visual = select_visual(clip.features.visual, config, name=clip.clip_id)
    if visual is None:
        raise InputError(
            f"{clip.clip_id} has no visual features of width {config.visual_width}",
            hint="extract the features, or train without them",
        )
    samples = clip.read_samples()
    if not samples.any():
        raise InputError(
            f"{clip.clip_id} has no music to encode", hint="remove the clip from the data set"
        )
    # Short clips are padded with silence, as in the release.
    n_missing = max(config.n_tokens * TOKEN_HOP_SAMPLES - len(samples), 0)
    codes, _ = encode_clip(codec, np.pad(samples, (0, n_missing)))
    return {
        "codes": codes,
        "motion": compute_motion(poses),
        "visual": visual,
        "genre": np.array(index_genre(clip.features.genre), dtype=np.int64),
    }


def select_visual(
    visual: Array | None, config: CdcdConfig, *, name: str
) -> Float32Array | None:
    """Return the visual features that the network uses, ``(rows, visual_width)``, or None.

    Args:
        visual: visual features of a clip, or None.
        config: configuration of the network; with a width of 0 the result has no columns.
        name: name of the clip for messages.

    Raises:
        InputError: the features have another width.
    """
    width = config.visual_width
    if not width:
        return np.zeros((1, 0), dtype=np.float32)
    if visual is None or not len(visual):
        return None
    if visual.shape[1] != width:
        raise InputError(
            f"{name} has visual features of width {visual.shape[1]}, CDCD needs {width}",
            hint="use features of the encoder that the network was trained with",
        )
    return visual.astype(np.float32)


def index_genre(genre: str | None) -> int:
    """Return the index of a genre; the last one stands for an unknown genre."""
    return GENRES.index(genre) if genre in GENRES else N_GENRES - 1


def slice_condition(
    motion: Float32Array, visual: Float32Array, first_pose: int, config: CdcdConfig
) -> Example:
    """Return ``motion`` and ``visual`` of the window that starts at a pose frame.

    After the end of the clip the last frame and the last row repeat.
    """
    rows = round(first_pose / POSE_FPS * VISUAL_ROWS_PER_S) + np.arange(config.n_visual_rows)
    return {
        "motion": torch.from_numpy(slice_motion(motion, first_pose, config)),
        "visual": torch.from_numpy(visual[rows.clip(max=len(visual) - 1)]),
    }


def draw_example(
    prepared: PreparedClip, config: CdcdConfig, rng: np.random.Generator
) -> Example:
    """Return a window that starts at a random pose frame, and the random numbers of its noise.

    Args:
        prepared: arrays of `prepare_clip`.
        config: configuration of the network.
        rng: random generator of the example.

    Returns:
        ``codes`` ``(n_tokens,)``; ``motion``, ``visual`` and ``genre``; ``step_quantile``
        ``()`` and ``uniform`` ``(n_tokens,)``, random numbers in 0..1; ``random_codes``
        ``(n_tokens,)``; ``chunk_orders`` ``(n_negatives, 8)``, permutations.
    """
    n_tokens = config.n_tokens
    tokens_per_pose = SAMPLE_RATE_HZ / TOKEN_HOP_SAMPLES / POSE_FPS
    last_token = len(prepared["codes"]) - n_tokens
    first_pose = int(rng.integers(int(last_token / tokens_per_pose) + 1))
    first_token = min(round(first_pose * tokens_per_pose), last_token)
    codes = prepared["codes"][first_token : first_token + n_tokens].astype(np.int64)
    chunks = np.tile(np.arange(N_CHUNKS), (config.n_negatives, 1))
    return {
        "codes": torch.from_numpy(codes),
        **slice_condition(prepared["motion"], prepared["visual"], first_pose, config),
        "genre": torch.from_numpy(prepared["genre"].copy()),
        "step_quantile": torch.tensor(rng.random(), dtype=torch.float32),
        "uniform": torch.from_numpy(rng.random(n_tokens, dtype=np.float32)),
        "random_codes": torch.from_numpy(rng.integers(config.n_codes, size=n_tokens)),
        "chunk_orders": torch.from_numpy(rng.permuted(chunks, axis=1)),
    }


def batch_condition(batch: Example) -> CdcdCondition:
    """Return the condition of a batch of examples."""
    return CdcdCondition(batch["motion"], batch["visual"], batch["genre"])


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

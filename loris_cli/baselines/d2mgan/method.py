"""D2M-GAN as a trained baseline: arrays of a clip, examples, loss and generator."""

import numpy as np
import torch
from torch import nn

from loris_cli.baselines.clip_codes import encode_clip
from loris_cli.baselines.d2mgan.config import FULL_CONFIG, D2mGanConfig, require_codec
from loris_cli.baselines.d2mgan.generator import D2mGanGenerator
from loris_cli.baselines.d2mgan.loss import D2mGanLoss
from loris_cli.baselines.d2mgan.motion import (
    compute_motion,
    encode_genre,
    has_visual_features,
    slice_motion,
)
from loris_cli.baselines.d2mgan.networks import D2mGanNetwork
from loris_cli.baselines.learned_method import (
    Example,
    LearnedMethod,
    PreparedClip,
    TrainingClip,
)
from loris_cli.baselines.windows import VISUAL_ROWS_PER_S
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.pose.normalization import normalize_keypoints


def _build_loss(network: nn.Module, codec: nn.Module | None) -> D2mGanLoss:
    assert isinstance(network, D2mGanNetwork)
    return D2mGanLoss(network, codec)


def _prepare_clip(
    clip: TrainingClip, config: D2mGanConfig, codec: nn.Module | None
) -> PreparedClip:
    """Return the motion, genre, codes and vectors of a clip, and its visual features.

    The released code encodes audio with a random gain (docs/differences.md, N6).

    Raises:
        InputError: the clip has no poses, no music, or not the visual features of the network.
        WeightsError: the codec does not fit the network.
    """
    poses = normalize_keypoints(clip.features.keypoints)
    if poses is None:
        raise InputError(f"{clip.clip_id} has no poses", hint="add the poses of the clip")
    if config.visual_width and not has_visual_features(clip.features, config):
        raise InputError(
            f"{clip.clip_id} has no visual features of width {config.visual_width}",
            hint="extract the features, or train with visual_width 0",
        )
    samples = clip.read_samples()
    if len(samples) < config.hop or not samples.any():
        raise InputError(
            f"{clip.clip_id} has no music to encode", hint="remove the clip from the data set"
        )
    codes, vectors = encode_clip(require_codec(config, codec), samples)
    prepared = {
        "motion": compute_motion(poses),
        "genre": encode_genre(clip.features.genre, config).numpy(),
        "codes": codes,
        "vectors": vectors,
    }
    if config.visual_width:
        assert clip.features.visual is not None
        prepared["visual"] = clip.features.visual.astype(np.float32)
    return prepared


def _draw_example(
    prepared: PreparedClip, config: D2mGanConfig, rng: np.random.Generator
) -> Example:
    """Return a window that starts at a random pose frame; short clips are padded."""
    duration_s = len(prepared["codes"]) * config.hop / SAMPLE_RATE_HZ
    n_starts = max(int((duration_s - config.window_s) * POSE_FPS), 0) + 1
    first_pose = int(rng.integers(n_starts))
    start_s = first_pose / POSE_FPS
    first_code = round(start_s * SAMPLE_RATE_HZ / config.hop)
    index = (first_code + np.arange(config.n_frames)).clip(max=len(prepared["codes"]) - 1)
    example = {
        "motion": torch.from_numpy(slice_motion(prepared["motion"], first_pose, config)),
        "genre": torch.from_numpy(prepared["genre"]),
        "codes": torch.from_numpy(prepared["codes"][index].astype(np.int64)),
        "vectors": torch.from_numpy(prepared["vectors"][:, index].astype(np.float32)),
    }
    if config.visual_width:
        n_rows = int(np.ceil(config.window_s * VISUAL_ROWS_PER_S))
        rows = round(start_s * VISUAL_ROWS_PER_S) + np.arange(n_rows)
        visual = prepared["visual"][rows.clip(max=len(prepared["visual"]) - 1)]
        example["visual"] = torch.from_numpy(visual.mean(axis=0))
    return example


D2MGAN = LearnedMethod(
    name="d2mgan",
    citation="D2M-GAN (Zhu et al., 2022a)",
    configs={"compact": D2mGanConfig(), "full": FULL_CONFIG},
    build_network=D2mGanNetwork,
    build_loss=_build_loss,
    prepare_clip=_prepare_clip,
    draw_example=_draw_example,
    build_generator=D2mGanGenerator,
    uses_codec=True,
    # Batch, learning rate, betas, no clipping and no average of the weights as released. The
    # authors train for 3,000 epochs; these steps take 75 minutes on a core.
    training_defaults={
        "batch_size": 16, "steps": 4000, "learning_rate": 1e-4, "warmup_steps": 100,
        "beta1": 0.5, "beta2": 0.9, "weight_decay": 0.0, "max_grad_norm": 1e6,
        "ema_decay": 0.0,
    },
)  # fmt: skip

"""Clips and networks for the tests of Foley Music."""

import numpy as np
import torch
from tiny_models import TINY_FOLEY

from loris_cli.baselines.foley.config import FoleyConfig
from loris_cli.baselines.foley.network import FoleyNetwork
from loris_cli.baselines.learned_method import TrainingClip
from loris_cli.composition.arrangement import DRUM_CHANNEL, KEYS_CHANNEL, Arrangement
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import VideoFeatures


def make_features(duration_s: float, *, has_pose: bool = True) -> VideoFeatures:
    """Features of a person who moves at random."""
    n_frames = round(duration_s * POSE_FPS)
    steps = np.random.default_rng(3).normal(size=(n_frames, 17, 2))
    keypoints = np.concatenate([200 + steps.cumsum(axis=0), np.ones((n_frames, 17, 1))], axis=2)
    return VideoFeatures(
        duration_s=duration_s,
        peaks_s=np.empty(0),
        strengths=np.empty(0),
        energy=np.zeros(n_frames),
        keypoints=keypoints if has_pose else None,
    )


def make_clip(duration_s: float = 8.0, *, has_pose: bool = True) -> TrainingClip:
    """Clip with a rising scale of piano notes and a kick on every note."""
    onsets_s = np.arange(0.4, duration_s - 1, 0.5)
    rows = [(t, 0.3, KEYS_CHANNEL, 60 + k, 40 + 4 * k) for k, t in enumerate(onsets_s)]
    drums = [(t, 0.1, DRUM_CHANNEL, 36, 90) for t in onsets_s]
    arrangement = Arrangement(
        note_array=np.array(sorted(rows + drums), dtype=np.float64),
        channel_programs={KEYS_CHANNEL: 0, DRUM_CHANNEL: 0},
    )
    return TrainingClip(
        clip_id="scale",
        features=make_features(duration_s, has_pose=has_pose),
        read_samples=lambda: np.zeros(round(duration_s * SAMPLE_RATE_HZ), np.float32),
        arrangement=arrangement,
    )


def make_network(config: FoleyConfig = TINY_FOLEY, seed: int = 0) -> FoleyNetwork:
    torch.manual_seed(seed)
    return FoleyNetwork(config).eval()

"""Soundtracks of a trained D2M-GAN.

features -> windows of two seconds -> vectors -> nearest codes -> decoder -> joined samples
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from loris_cli.array_types import Samples
from loris_cli.baselines.d2mgan.config import require_codec
from loris_cli.baselines.d2mgan.motion import (
    compute_motion,
    compute_visual_vector,
    encode_genre,
    slice_motion,
)
from loris_cli.baselines.d2mgan.networks import D2mGanNetwork
from loris_cli.baselines.windows import generate_windows
from loris_cli.models.generator_interface import ProgressCallback, VideoFeatures
from loris_cli.pose.keypoints import COCO_17
from loris_cli.pose.normalization import normalize_keypoints

OVERLAP_S = 0.05
"""Crossfade of windows (docs/differences.md, N4)."""


class D2mGanGenerator:
    """Generator of music for clips of any length."""

    def __init__(
        self, network: nn.Module, codec: nn.Module | None, device: torch.device
    ) -> None:
        """Set the networks to evaluation mode.

        Raises:
            WeightsError: the codec does not fit the network.
        """
        assert isinstance(network, D2mGanNetwork)
        self.network, self.device = network.to(device).eval(), device
        self.codec = require_codec(network.config, codec).to(device).eval()

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Generate the soundtrack of a clip; see `MusicGenerator`.

        The network has no noise input, so the seed has no effect, and takes do not differ
        (docs/differences.md, N8). Without poses the motion is zero.
        """
        config = self.network.config
        poses = normalize_keypoints(features.keypoints)
        if poses is None:
            poses = np.zeros((max(len(features.energy), 1), len(COCO_17), 3))
        normalized = replace(features.without_score(), keypoints=poses)
        yield from generate_windows(
            self._generate_window,
            normalized,
            window_s=config.window_s,
            overlap_s=0.0 if config.compat == "official" else OVERLAP_S,
            progress=progress,
        )

    @torch.inference_mode()
    def _generate_window(self, window: VideoFeatures, index: int) -> Samples:
        """Return the samples of a window of normalized features."""
        config = self.network.config
        assert window.keypoints is not None
        motion = torch.from_numpy(slice_motion(compute_motion(window.keypoints), 0, config))
        genre = encode_genre(window.genre, config)
        visual = compute_visual_vector(window, config)
        vectors = self.network(
            motion[None].to(self.device),
            genre[None].to(self.device),
            None if visual is None else torch.from_numpy(visual)[None].to(self.device),
        )
        samples = self.codec.decode_codes(self.codec.nearest_codes(vectors))
        return np.asarray(samples[0].cpu().numpy())

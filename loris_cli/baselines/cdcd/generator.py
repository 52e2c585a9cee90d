"""Generation with CDCD: windows of tokens, denoised from the full mask, and decoded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from loris_cli.array_types import Samples
from loris_cli.baselines.cdcd.condition import CdcdCondition
from loris_cli.baselines.cdcd.config import CdcdConfig
from loris_cli.baselines.cdcd.discrete_diffusion import (
    NoiseSchedule,
    sample_earlier_tokens,
    sample_start,
)
from loris_cli.baselines.cdcd.examples import index_genre, select_visual, slice_condition
from loris_cli.baselines.cdcd.network import CdcdNetwork
from loris_cli.baselines.d2mgan.motion import compute_motion
from loris_cli.baselines.windows import generate_windows
from loris_cli.config import POSE_FPS
from loris_cli.models.generator_interface import ProgressCallback, VideoFeatures
from loris_cli.models.stgcn import N_JOINTS
from loris_cli.models.vqvae import VqVae
from loris_cli.pose.normalization import normalize_keypoints

TRUNCATION = 0.86
"""Total probability of the codes that remain in each step, as in the release."""
PAPER_OVERLAP_S = 0.05
"""Crossfade between windows; the release has windows of 6 s only (docs/differences.md, X7)."""


@dataclass(frozen=True, kw_only=True)
class CdcdGenerator:
    """A `MusicGenerator` of a trained network and its codec."""

    network: CdcdNetwork
    codec: VqVae
    device: torch.device
    n_steps: int
    """Denoising steps, at most those of the network."""
    truncation: float = TRUNCATION

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Yield the audio of a clip in blocks ``(1, samples)`` at 22,050 Hz."""
        config = self.network.config
        # Normalized by the entire clip, as in training.
        keypoints = normalize_keypoints(features.keypoints)
        normalized = replace(features.without_score(), keypoints=keypoints)

        def generate_window(window: VideoFeatures, index: int) -> Samples:
            generator = torch.Generator().manual_seed(_derive_seed(seed, index))
            codes = self.sample_codes(build_condition(window, config), generator)
            with torch.inference_mode():
                decoded = self.codec.decode_codes(codes)
            return decoded[0].float().cpu().numpy()

        overlap_s = PAPER_OVERLAP_S if config.compat == "paper" else 0.0
        return generate_windows(
            generate_window,
            normalized,
            window_s=config.window_s,
            overlap_s=min(overlap_s, config.window_s / 2),
            progress=progress,
        )

    @torch.inference_mode()
    def sample_codes(self, condition: CdcdCondition, generator: torch.Generator) -> Tensor:
        """Sample the codes of windows.

        All tokens start as [MASK]. The release starts from the reference's own tokens, which is
        not available here (docs/differences.md, X4).

        Args:
            condition: inputs of the condition encoder.
            generator: random generator on the CPU.

        Returns:
            ``(batch, n_tokens)``, int64.
        """
        config, device = self.network.config, self.device
        schedule = NoiseSchedule(config.n_codes, config.n_steps)
        encoded = self.network.encode_condition(
            CdcdCondition(*(x.to(device) for x in condition))
        )
        n_windows = len(encoded.tokens)
        tokens = torch.full((n_windows, config.n_tokens), config.n_codes, device=device)
        times = [round(k * config.n_steps / self.n_steps) for k in range(self.n_steps, -1, -1)]
        for current, earlier in pairwise(times):
            step = torch.full((n_windows,), current, device=device)
            log_start = self.network(tokens, encoded, step - 1)
            codes = sample_start(log_start, self.truncation, generator)
            pair = schedule.transition_pair(torch.full_like(step, earlier), step)
            tokens = sample_earlier_tokens(codes, tokens, pair, generator)
        return tokens


def build_condition(window: VideoFeatures, config: CdcdConfig) -> CdcdCondition:
    """Return the condition of a window whose keypoints are normalized.

    Without poses or visual features these are zero.

    Raises:
        InputError: the visual features have another width than those of the network.
    """
    poses = window.keypoints
    if poses is None:
        poses = np.zeros((max(round(config.window_s * POSE_FPS), 1), N_JOINTS, 3))
    visual = select_visual(window.visual, config, name="the video")
    if visual is None:
        visual = np.zeros((1, config.visual_width), dtype=np.float32)
    inputs = slice_condition(compute_motion(poses), visual, 0, config)
    genre = torch.tensor([index_genre(window.genre)])
    return CdcdCondition(inputs["motion"][None], inputs["visual"][None], genre)


def _derive_seed(seed: int, index: int) -> int:
    """Return the seed of a window."""
    state = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)
    return int(state[0]) >> 1  # torch takes 63 bits on all platforms

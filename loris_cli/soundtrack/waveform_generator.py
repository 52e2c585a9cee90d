"""Long-form generator of the paper's model: windows of the waveform.

    features -> windows on a grid of half seconds -> samples

The released code generates a single window. A longer video has several windows, each with the
conditions of its own time range. For inpainting, the denoised signal outside the region is the
original at every step, so that the regenerated audio is consistent with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from loris_cli.array_types import Samples
from loris_cli.config import GENRES, SAMPLE_RATE_HZ, SamplerName
from loris_cli.models.diffusion import precondition
from loris_cli.models.generator_interface import ClipFeatures, ProgressCallback, VideoFeatures
from loris_cli.models.load_model import PaperCheckpoint
from loris_cli.models.paper_condition import PaperCondition
from loris_cli.soundtrack import windowed_sampling
from loris_cli.soundtrack.inpainting import InpaintRegion
from loris_cli.soundtrack.paper_conditioning import encode_window, extract_window
from loris_cli.soundtrack.visual_features import VISUAL_FPS
from loris_cli.soundtrack.window_layout import WindowLayout, count_evaluations, window_starts
from loris_cli.system.device import autocast

SIGMA_DATA = 0.1
SAMPLES_PER_ROW = round(SAMPLE_RATE_HZ / VISUAL_FPS)
"""Samples per half second, the grid of window starts: eight poses, one row of features."""
OUTPUT_BLOCK_SAMPLES = 1 << 20
"""Samples per output block."""
MAX_CACHE_BYTES = 2**31
"""Largest size of the cached keys and values of all windows: those of ten windows at full size
with guidance, 0.2 GB each."""
CLIP_DURATION_TOLERANCE_S = 0.5
"""A video may exceed the clip length by this much and still be generated as a single window,
because containers round durations."""


@dataclass(frozen=True, kw_only=True)
class WaveformGenerator(windowed_sampling.WindowedGenerator[PaperCondition]):
    """The paper's model as a `MusicGenerator` for clips of any length."""

    # Schedule of the released code (Karras et al., 2022, Eq. 5; docs/differences.md, M14).
    noise_schedule = {"sigma_min": 1e-4, "sigma_max": 3.0, "rho": 9.0}  # noqa: RUF012
    fade_length = 2048
    noise_block = 1 << 16

    model: PaperCheckpoint
    steps: int = 50
    guidance: float = 20.0
    sampler: SamplerName = "adpm2"

    @property
    def traits(self) -> windowed_sampling.ModelTraits:
        """Properties of the model."""
        config = self.model.network.config
        has_visual = config.visual_projection != "none"
        return windowed_sampling.ModelTraits(
            n_channels=config.in_channels,
            rhythm_compat=config.compat,
            visual_width=config.visual_features if has_visual else None,
            genres=GENRES[: config.n_genres],
            max_timing_clip_s=config.clip_duration_s,  # one window is enough for a timing
        )

    @property
    def signal_channels(self) -> int:
        """Channels of the audio."""
        return self.model.network.config.in_channels

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Generate the soundtrack of a clip, in consecutive blocks.

        Args:
            features: features of the entire clip.
            seed: seed of the take.
            progress: called after each network evaluation.

        Yields:
            ``(2, samples)`` blocks at 22,050 Hz, ``round(duration_s * 22050)`` samples in all.
        """
        sampled = self._draw(ClipFeatures.from_video(features), seed=seed, progress=progress)
        audio = sampled.clamp(-1, 1).cpu().numpy()
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        if n_samples > audio.shape[1]:
            # The audio ends before the clip; repeat its end as in the released code
            # (docs/differences.md, D6).
            n_missing = n_samples - audio.shape[1]
            audio = np.concatenate([audio, audio[:, -n_missing:]], axis=1)
        yield from self._merge_inpaint(
            audio[:, first : min(first + OUTPUT_BLOCK_SAMPLES, n_samples)]
            for first in range(0, n_samples, OUTPUT_BLOCK_SAMPLES)
        )

    def compute_window_layout(self, duration_s: float) -> WindowLayout:
        """Return windows of samples, and the number of network evaluations."""
        config = self.model.network.config
        starts, max_window_s = [0], config.n_samples / SAMPLE_RATE_HZ
        if config.compat == "official":
            max_window_s = config.clip_duration_s + CLIP_DURATION_TOLERANCE_S
        if duration_s > max_window_s:
            n_rows = int(np.ceil(duration_s * VISUAL_FPS - 1e-6))
            # Rows that have both audio and visual features.
            n_window_rows = min(config.n_samples // SAMPLES_PER_ROW, config.n_visual_frames)
            rows = window_starts(n_rows, n_window_rows, allow_longer=False)
            starts = [row * SAMPLES_PER_ROW for row in rows]
        n_evaluations = len(starts) * count_evaluations(self.sampler, self.steps)
        return WindowLayout(starts, config.n_samples, n_evaluations)

    def _encode_windows(
        self, features: ClipFeatures, layout: WindowLayout, seed: int
    ) -> Iterator[tuple[list[int], PaperCondition]]:
        network = self.model.network
        n_windows, cache_kv = len(layout.starts), True
        for i, start_sample in enumerate(layout.starts):
            row = start_sample // SAMPLES_PER_ROW
            window = extract_window(features, network.config, row, is_only=n_windows == 1)
            # The released Bi-LSTM has a random initial state at every call; here the seed of
            # the take determines it (docs/differences.md, M7).
            generator = torch.Generator().manual_seed(seed % 2**63)
            condition = encode_window(network, window, self.device, generator)
            if self.guidance != 1:
                null_condition = network.unet.null_condition(condition)
                condition = condition.concat(null_condition, cache_kv=False)
            if cache_kv:
                condition = replace(condition, kv_cache={})
                with autocast(self.device, self.dtype):
                    network.unet.fill_kv_cache(condition)
                cache_kv = condition.cache_bytes * n_windows <= MAX_CACHE_BYTES
            yield [i], condition if cache_kv else replace(condition, kv_cache=None)

    def _denoise(self, x: Tensor, sigma: float, pair: PaperCondition, scale: float) -> Tensor:
        forward = self.model.network.forward_guided
        network = partial(forward, condition_pair=pair, guidance=scale)
        level = torch.full((1,), sigma, device=self.device)
        with autocast(self.device, self.dtype):
            denoised = precondition(network, x, level, sigma_data=SIGMA_DATA)
        return self._limit(denoised)

    def _denoise_row(
        self, x: Tensor, sigma: float, pair: PaperCondition, *, is_null: bool
    ) -> Tensor:
        condition = pair.take(slice(1, 2) if is_null else slice(0, 1))
        forward = self.model.network.forward_guided
        network = partial(forward, condition_pair=condition, guidance=1)
        with autocast(self.device, self.dtype):
            return precondition(network, x, torch.full((1,), sigma), sigma_data=SIGMA_DATA)

    def _limit(self, denoised: Tensor) -> Tensor:
        return denoised.clamp(-1, 1)  # as in training (docs/differences.md, M13)

    def _make_inpaint_target(self, region: InpaintRegion, length: int) -> tuple[Tensor, Tensor]:
        original = region.original[:, :length] * np.float32(region.training_peak_gain)
        n_original = original.shape[1]
        padded = np.pad(original, ((0, 0), (0, length - n_original)))
        audio = torch.from_numpy(np.broadcast_to(padded, (self.signal_channels, length)).copy())
        index = torch.arange(length)
        start, end = region.start_s * SAMPLE_RATE_HZ, region.end_s * SAMPLE_RATE_HZ
        is_regenerated = (index >= start) & (index < end) | (index >= n_original)
        return audio.to(self.device), is_regenerated.to(self.device)

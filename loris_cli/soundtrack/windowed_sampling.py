"""Long-form generation: overlapping windows of a diffusion model, denoised jointly.

    features -> windows over absolute time -> shared noise -> joint denoising -> signal

The rhythm of the whole video is known in advance, so the beats of all windows are consistent.
Harmony, timbre and level must be consistent as well. At every step all windows are therefore
denoised from one shared signal, and each frame takes the result of the window whose edge is
farther away. Results are swapped rather than averaged, because averages lose detail (SaFa, ICCV
2025). The crossfade position within an overlap changes at every evaluation, so there is no
fixed seam.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from loris_cli.array_types import Samples
from loris_cli.config import GENRES, SamplerName
from loris_cli.models import diffusion
from loris_cli.models.generator_interface import ClipFeatures, ProgressCallback
from loris_cli.rhythm.directogram import Compat
from loris_cli.soundtrack.inpainting import InpaintRegion
from loris_cli.soundtrack.window_layout import WindowLayout
from loris_cli.system.device import copy_to_device
from loris_cli.system.threads import map_rows

ConditionT = TypeVar("ConditionT")

CROSSFADE_FRAMES = 4
"""Length of the crossfade between neighbouring windows."""
CROSSFADE_POSITION_STEP = 0.618
"""Shift of the crossfade between evaluations, as a fraction of the overlap: the golden ratio,
so that recent positions are avoided."""
NOISE_BLOCK = 64
"""Frames of noise per seed."""


def draw_noise(
    seed: int, n_frames: int, n_channels: int, *, draw: int = 0, block_size: int = NOISE_BLOCK
) -> Tensor:
    """Draw standard normal noise that depends only on the seed and the absolute position.

    Args:
        seed: seed of the take.
        n_frames: number of frames; a longer clip begins with the same values.
        n_channels: channels of the signal.
        draw: index of the draw within the take.
        block_size: frames per seed.

    Returns:
        ``(channels, n_frames)``
    """
    shape = (n_channels, block_size)
    blocks = [
        np.random.default_rng([seed, number, draw]).standard_normal(shape, np.float32)
        for number in range(-(-n_frames // block_size))
    ]
    return torch.from_numpy(np.concatenate(blocks, axis=1)[:, :n_frames])


def crossfade_weights(
    starts: list[int],
    window_length: int,
    crossfade_position: float,
    *,
    fade_length: int = CROSSFADE_FRAMES,
    device: torch.device | None = None,
) -> list[Tensor]:
    """Return the weight of each window's result at each of its frames.

    Args:
        starts: first frames of the windows.
        window_length: length of each window.
        crossfade_position: position of the crossfade within every overlap, from 0 to 1.
        fade_length: length of the crossfade in frames.
        device: device of the result; None is the CPU.

    Returns:
        weights ``(window_length,)`` per window; they sum to one at every frame of the clip.
    """
    result = [torch.ones(window_length, device=device) for _ in starts]
    for left in range(len(starts) - 1):
        overlap = starts[left] + window_length - starts[left + 1]
        width = min(fade_length, overlap)
        middle = width / 2 + crossfade_position * (overlap - width)
        position = torch.arange(overlap, device=device) + 0.5
        rise = ((position - middle) / width + 0.5).clamp(0, 1)
        result[left][window_length - overlap :] *= 1 - rise
        result[left + 1][:overlap] *= rise
    return result


class ModelTraits(NamedTuple):
    """Properties of a model that the pipeline depends on; the defaults are for ``mini``."""

    n_channels: int = 1
    """Channels of the generated audio."""
    rhythm_compat: Compat = "paper"
    """Variant of the rhythm extraction used in training."""
    visual_width: int | None = None
    """Width of the visual features that condition the network; None if it uses none."""
    genres: tuple[str, ...] = GENRES
    """Genres supported by the network."""
    max_timing_clip_s: float = 45.0
    """Longest clip used to time the network for a cost estimate: one full batch of windows."""


@dataclass(frozen=True, kw_only=True)
class WindowedGenerator(ABC, Generic[ConditionT]):
    """`MusicGenerator` base class: joint denoising of overlapping diffusion windows."""

    noise_schedule: ClassVar[dict[str, float]]
    """Arguments of `karras_sigmas`."""
    fade_length: ClassVar[int] = CROSSFADE_FRAMES
    noise_block: ClassVar[int] = NOISE_BLOCK

    device: torch.device
    steps: int
    guidance: float
    sampler: SamplerName
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Range of steps with guidance, see `loris_cli.models.diffusion.guidance_sigmas`."""
    inpaint_region: InpaintRegion | None = None
    dtype: torch.dtype = torch.float32
    """Precision of the network; the state of the sampler is always fp32."""

    @property
    def traits(self) -> ModelTraits:
        """Properties of the model."""
        return ModelTraits()

    @property
    @abstractmethod
    def signal_channels(self) -> int:
        """Channels of the denoised signal."""

    @abstractmethod
    def compute_window_layout(self, duration_s: float) -> WindowLayout:
        """Return the windows and the number of network evaluations of a clip."""

    @abstractmethod
    def _encode_windows(
        self, features: ClipFeatures, layout: WindowLayout, seed: int
    ) -> Iterator[tuple[list[int], ConditionT]]:
        """Yield the window indices of each batch, and its conditions and null conditions.

        A padded batch repeats its last index.
        """

    @abstractmethod
    def _denoise(self, x: Tensor, sigma: float, pair: ConditionT, scale: float) -> Tensor:
        """Return the denoised batch ``(windows, channels, length)`` at a guidance scale."""

    @abstractmethod
    def _denoise_row(
        self, x: Tensor, sigma: float, pair: ConditionT, *, is_null: bool
    ) -> Tensor:
        """Return the denoised window ``(1, channels, length)`` of one half of guidance."""

    def _denoise_batches(
        self, batches: Sequence[tuple[Tensor, ConditionT]], sigma: float, scale: float
    ) -> list[Tensor]:
        """Denoise; on a CPU, windows and both halves of guidance are rows of the pool."""
        if self.device.type != "cpu":
            return [self._denoise(x, sigma, pair, scale) for x, pair in batches]

        @torch.inference_mode()
        def denoise_row(row: tuple[Tensor, ConditionT, bool]) -> Tensor:
            x, pair, is_null = row
            return self._denoise_row(x, sigma, pair, is_null=is_null)

        halves = (False, True) if scale != 1.0 else (False,)
        rows = [(x, pair, is_null) for x, pair in batches for is_null in halves]
        denoised = list(map_rows(denoise_row, rows))
        if scale != 1.0:
            halves_of_rows = zip(denoised[::2], denoised[1::2], strict=True)
            denoised = [null + scale * (given - null) for given, null in halves_of_rows]
        return [self._limit(x) for x in denoised]

    def _limit(self, denoised: Tensor) -> Tensor:
        """Limit the denoised signal to the range of training."""
        return denoised

    @abstractmethod
    def _make_inpaint_target(self, region: InpaintRegion, length: int) -> tuple[Tensor, Tensor]:
        """Return the original signal, and the mask of regenerated positions, ``(length,)``."""

    def _merge_inpaint(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        return self.inpaint_region.merge_blocks(blocks) if self.inpaint_region else blocks

    @torch.inference_mode()
    def _draw(self, features: ClipFeatures, *, seed: int, progress: ProgressCallback) -> Tensor:
        """Draw the signal of a clip, ``(channels, length)``."""
        layout = self.compute_window_layout(features.duration_s)
        starts, length, n_evaluations = layout
        batches = list(self._encode_windows(features, layout, seed))
        sigmas = diffusion.karras_sigmas(self.steps, **self.noise_schedule)
        low, high = diffusion.guidance_sigmas(sigmas, self.guidance_interval)
        region = self.inpaint_region
        target = None if region is None else self._make_inpaint_target(region, layout.length)
        shape = (layout.length, self.signal_channels)
        positions, evaluations, draws = count(), count(1), count()

        def draw(x: Tensor | None = None) -> Tensor:
            noise = draw_noise(seed, *shape, draw=next(draws), block_size=self.noise_block)
            return copy_to_device(noise, self.device)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            position = next(positions) * CROSSFADE_POSITION_STEP % 1
            weights = crossfade_weights(
                starts, length, position, fade_length=self.fade_length, device=self.device
            )
            scale = self.guidance if low <= sigma <= high else 1.0
            denoised = torch.zeros_like(x)
            inputs = [
                (torch.stack([x[:, starts[i] : starts[i] + length] for i in indices]), pair)
                for indices, pair in batches
            ]
            all_results = self._denoise_batches(inputs, sigma, scale)
            for (indices, _), results in zip(batches, all_results, strict=True):
                for i, window in zip(dict.fromkeys(indices), results, strict=False):
                    denoised[:, starts[i] : starts[i] + length] += weights[i] * window
                progress(next(evaluations), n_evaluations)
            # Outside the region use the known signal, so that the region is consistent with it.
            return denoised if target is None else torch.where(target[1], denoised, target[0])

        start = draw() * float(sigmas[0])
        return diffusion.draw_sample(self.sampler, denoise, start, sigmas, noise_sampler=draw)

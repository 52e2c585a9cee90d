"""Windows of a clip that a diffusion model denoises jointly, and their cost.

This module does not import torch, so that costs can be estimated at once.
"""

from dataclasses import dataclass
from typing import NamedTuple

from loris_cli.config import LATENT_FPS, SamplerName

DEFAULT_STEPS = 6
"""Sampling steps of ``mini``."""
DEFAULT_SAMPLER: SamplerName = "dpmpp-2m"
"""Sampler of ``mini``."""
WINDOW_OVERLAP = 0.25
"""Overlap of neighbouring windows, as a fraction of a window. A clip that exceeds a window by
at most this much is generated as one longer window, if the network supports it."""


def window_starts(n_frames: int, window_frames: int, *, allow_longer: bool = True) -> list[int]:
    """Return the first frames of the windows that cover a clip, evenly spread.

    Args:
        n_frames: length of the clip. A clip shorter or slightly longer than a window has a
            single window of the length of the clip.
        window_frames: length of a window.
        allow_longer: whether a single window may be longer than ``window_frames``.

    Returns:
        ascending start frames; the last window ends with the clip, and no window is padded.
    """
    overlap = round(window_frames * WINDOW_OVERLAP)
    if n_frames <= window_frames + overlap * allow_longer:
        return [0]
    n_windows = -(-(n_frames - overlap) // (window_frames - overlap))
    return [round(i * (n_frames - window_frames) / (n_windows - 1)) for i in range(n_windows)]


class WindowLayout(NamedTuple):
    """Windows of a clip, in frames or samples of the denoised signal."""

    starts: list[int]
    window_length: int
    n_evaluations: int
    """Network evaluations of all windows and sampling steps."""

    @property
    def length(self) -> int:
        """Length of the clip, up to the end of the last window."""
        return self.starts[-1] + self.window_length


def count_evaluations(sampler: SamplerName, n_steps: int) -> int:
    """Return the number of calls to ``denoise`` in `loris_cli.models.diffusion.draw_sample`."""
    return {"adpm2": 2 * (n_steps - 1), "heun": 2 * n_steps - 1}.get(sampler, n_steps)


@dataclass(frozen=True, kw_only=True)
class LatentGrid:
    """Latent frames, windows and batches of ``mini``."""

    window_frames: int
    """Latent frames per window."""
    stride: int
    """Clips have a multiple of this number of latent frames."""
    windows_per_batch: int = 1

    def count_frames(self, duration_s: float) -> int:
        """Return the latent frames of a clip, rounded up to a multiple of the stride."""
        n_strides = -(-int(duration_s * LATENT_FPS + 2) // self.stride)
        return max(n_strides, 8) * self.stride

    def compute_layout(
        self, duration_s: float, sampler: SamplerName, n_steps: int
    ) -> WindowLayout:
        """Return windows of latent frames, and the number of network evaluations."""
        n_frames = self.count_frames(duration_s)
        starts = window_starts(n_frames, self.window_frames)
        n_batches = -(-len(starts) // self.windows_per_batch)
        n_evaluations = n_batches * count_evaluations(sampler, n_steps)
        length = self.window_frames if len(starts) > 1 else n_frames
        return WindowLayout(starts, length, n_evaluations)

"""Music of any length from the paper's model: windows of sound, denoised together.

    features -> windows every so many half seconds -> one noise -> joint denoising -> sound

One window is what the authors' code makes. A longer video has several, which are denoised from
one common state and hand over to each other inside their overlaps, as in `longform`; what each
is told begins at its own first frame. Sound that is kept is known at every level of noise, so
what is made beside it fits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loris_cli.config import GENRES, SAMPLE_RATE_HZ
from loris_cli.models.diffusion import (
    SamplerName,
    count_evaluations,
    draw_sample,
    guidance_sigmas,
    karras_sigmas,
    precondition,
)
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.load_model import PaperCheckpoint
from loris_cli.models.paper_condition import PaperCondition
from loris_cli.soundtrack.latent_generator import (
    CROSSFADE_POSITION_STEP,
    InpaintRegion,
    crossfade_weights,
    draw_noise,
    window_starts,
)
from loris_cli.soundtrack.paper_conditioning import encode_window, extract_window
from loris_cli.soundtrack.visual_features import VISUAL_FPS
from loris_cli.system.device import autocast, copy_to_device

Samples = NDArray[np.float32]

SIGMA_MIN, SIGMA_MAX, RHO = 1e-4, 3.0, 9.0
"""The released schedule (specification, 1.9)."""
SIGMA_DATA = 0.1
SAMPLES_PER_VISUAL_ROW = round(SAMPLE_RATE_HZ / VISUAL_FPS)
"""Samples in half a second: eight poses and one row of features, so windows begin on such."""
CROSSFADE_SAMPLES = 2048
"""Samples over which one window's answer passes into its neighbour's: 93 ms."""
NOISE_BLOCK_SAMPLES = 1 << 16
OUTPUT_BLOCK_SAMPLES = 1 << 20
"""Samples handed over at a time."""
MAX_CACHED_WINDOWS = 8
"""Windows whose keys and values are all kept, 0.2 GB each at full size; of more none are."""
CLIP_DURATION_TOLERANCE_S = 0.5
"""A video may be so much longer than a clip of the released data and still be one: containers
round."""


@dataclass(frozen=True, kw_only=True)
class WaveformGenerator:
    """The paper's model as a `MusicGenerator`, of any length."""

    model: PaperCheckpoint
    device: torch.device
    steps: int = 50
    guidance: float = 20.0
    sampler: SamplerName = "adpm2"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Part of the steps that is guided, by `loris_cli.models.diffusion.guidance_sigmas`."""
    inpaint_region: InpaintRegion | None = None
    dtype: torch.dtype = torch.float32
    """What the network computes in; the sound on its way is fp32 whatever it is."""

    @property
    def genres(self) -> tuple[str, ...]:
        """Styles that the network knows."""
        return GENRES[: self.model.network.config.n_genres]

    def compute_window_layout(self, duration_s: float) -> tuple[int, int, int]:
        """Samples, windows, and network evaluations for a clip, in this order."""
        starts = self._compute_window_starts(duration_s)
        n_samples = starts[-1] + self.model.network.config.n_samples
        return n_samples, len(starts), len(starts) * count_evaluations(self.sampler, self.steps)

    def _compute_window_starts(self, duration_s: float) -> list[int]:
        """First samples of the windows, on the grid of half seconds."""
        config = self.model.network.config
        whole_s = config.n_samples / SAMPLE_RATE_HZ
        if config.compat == "official":
            whole_s = config.clip_duration_s + CLIP_DURATION_TOLERANCE_S
        if duration_s <= whole_s:
            return [0]
        n_rows = int(np.ceil(duration_s * VISUAL_FPS - 1e-6))
        window = min(
            config.n_samples // SAMPLES_PER_VISUAL_ROW, config.n_visual_frames
        )  # that has sound and is told
        return [
            row * SAMPLES_PER_VISUAL_ROW
            for row in window_starts(n_rows, window, allow_longer_window=False)
        ]

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Sound for a clip, in consecutive blocks.

        Args:
            features: of the whole clip.
            seed: of the take.
            progress: told after each evaluation of the network.

        Yields:
            ``(2, samples)`` blocks at 22,050 Hz; in all ``round(duration_s * 22050)``.
        """
        sound = self._sample(features, seed=seed, progress=progress).cpu().numpy()
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        if n_samples > sound.shape[1]:
            # The released sound of a clip ends early and its end is played again (D6).
            again = n_samples - sound.shape[1]
            sound = np.concatenate([sound, sound[:, -again:]], axis=1)
        blocks = (
            sound[:, first : min(first + OUTPUT_BLOCK_SAMPLES, n_samples)]
            for first in range(0, n_samples, OUTPUT_BLOCK_SAMPLES)
        )
        yield from (
            blocks if self.inpaint_region is None else self.inpaint_region.merge_blocks(blocks)
        )

    @torch.inference_mode()
    def _sample(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Tensor:
        network, config = self.model.network, self.model.network.config
        starts = self._compute_window_starts(features.duration_s)
        told = [
            self._encode_condition_pair(features, start, seed, n_windows=len(starts))
            for start in starts
        ]
        sigmas = karras_sigmas(self.steps, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=RHO)
        low, high = guidance_sigmas(sigmas, self.guidance_interval)
        length, n_samples = config.n_samples, starts[-1] + config.n_samples
        total = len(starts) * count_evaluations(self.sampler, self.steps)
        known = self._build_inpaint_target(n_samples)
        done, drawn = 0, 0

        def denoise(x: Tensor, sigma: float) -> Tensor:
            nonlocal done
            answer = torch.zeros_like(x)
            border = (done // len(starts) * CROSSFADE_POSITION_STEP) % 1
            weights = crossfade_weights(
                starts, length, border, crossfade_length=CROSSFADE_SAMPLES, device=self.device
            )
            guidance = self.guidance if low <= sigma <= high else 1.0
            level = torch.full((1,), sigma, device=self.device)
            for both, start, weight in zip(told, starts, weights, strict=True):
                part = slice(start, start + length)
                guided = partial(network.forward_guided, condition_pair=both, guidance=guidance)
                with autocast(self.device, self.dtype):
                    seen = precondition(guided, x[None, :, part], level, sigma_data=SIGMA_DATA)
                # Clamped as while it was trained (M13).
                answer[:, part] += weight * seen[0].clamp(-1, 1)
                done += 1
                progress(done, total)
            # Where sound is kept the clean signal is known; the rest is led to fit it.
            return answer if known is None else torch.where(known[1], answer, known[0])

        def fresh(number: int) -> Tensor:
            drew = draw_noise(
                seed,
                n_samples,
                config.in_channels,
                draw_index=number,
                block_length=NOISE_BLOCK_SAMPLES,
            )
            return copy_to_device(drew, self.device)

        def draw(x: Tensor) -> Tensor:
            nonlocal drawn
            drawn += 1
            return fresh(drawn)

        start = fresh(0) * float(sigmas[0])
        return draw_sample(self.sampler, denoise, start, sigmas, noise_sampler=draw).clamp(
            -1, 1
        )

    def _build_inpaint_target(self, n_samples: int) -> tuple[Tensor, Tensor] | None:
        """Sound that stays, and where it is to be made anew, ``(n_samples,)``."""
        if self.inpaint_region is None:
            return None
        old = self.inpaint_region.original[:, :n_samples] * np.float32(
            self.inpaint_region.training_peak_gain
        )
        padded = np.pad(old, ((0, 0), (0, n_samples - old.shape[1])))
        channels = self.model.network.config.in_channels
        sound = torch.from_numpy(np.broadcast_to(padded, (channels, n_samples)).copy())
        place = torch.arange(n_samples)
        from_s, to_s = self.inpaint_region.start_s, self.inpaint_region.end_s
        anew = (place >= from_s * SAMPLE_RATE_HZ) & (place < to_s * SAMPLE_RATE_HZ)
        anew = anew | (place >= old.shape[1])
        return sound.to(self.device), anew.to(self.device)

    def _encode_condition_pair(
        self, features: ClipFeatures, start_sample: int, seed: int, *, n_windows: int
    ) -> PaperCondition:
        """What is told of a window and, behind it, the null."""
        network = self.model.network
        window = extract_window(
            features,
            network.config,
            start_sample // SAMPLES_PER_VISUAL_ROW,
            is_only_window=n_windows == 1,
        )
        # The released Bi-LSTM begins with noise at every call: here the take's (M7).
        generator = torch.Generator().manual_seed(seed % 2**63)
        told = encode_window(network, window, self.device, generator)
        return told.concat(
            network.unet.null_condition(told), cache_kv=n_windows <= MAX_CACHED_WINDOWS
        )

"""Music of any length from a network of one length: windows denoised together.

    features -> windows over absolute time -> one noise -> joint denoising -> code -> sound, in
    blocks

The rhythm is known for the whole video before the first window is made, so beats are right by
construction; what windows must agree on is harmony, timbre and level. At every step all windows
are denoised from one common state, and each frame takes the answer of the window in which it
lies deeper (a swap rather than an average, which dulls detail: SaFa, ICCV 2025); where the
border lies changes from step to step, so no place is a seam throughout.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loris_cli.audio import mel
from loris_cli.composition.note_spectrogram import render_note_spectrogram
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.diffusion import (
    SamplerName,
    count_evaluations,
    draw_sample,
    guidance_sigmas,
    karras_sigmas,
    precondition,
)
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mini_checkpoint import MiniCheckpoint
from loris_cli.models.mini_unet import MiniCondition
from loris_cli.soundtrack.conditioning import (
    LATENT_FPS,
    build_condition,
    collate_conditions,
    seed_from_rhythm,
    with_arrangement,
)
from loris_cli.system.device import autocast, copy_to_device

Samples = NDArray[np.float32]
ProgressCallback = Callable[[int, int], None]
"""Called with what is done and what there is to do, in units of the generator's choice."""

WINDOW_OVERLAP = 0.25
"""Neighbours share a quarter of a window, so each has context on both sides; and a clip longer
than a window by no more than that is one window: the network stretches so far."""
CROSSFADE_FRAMES = 4
"""Frames over which one window's answer passes into its neighbour's."""
BATCH_FRAMES = 1024
"""Frames in one call of the network, always as many windows: equal shapes give equal bytes."""
CROSSFADE_POSITION_STEP = 0.618
"""How far a border moves from one evaluation to the next, in an overlap: the golden section, so
that no place is visited twice soon."""
NOISE_BLOCK_FRAMES = 64
"""Frames of noise drawn from one seed."""
ATTACK_LATENCY_S = 0.0185
"""The instruments of the training music speak this long after their note begins, by the
detector of `evaluation.onsets`, median over its clips; peaks are told that much earlier."""
DEFAULT_GUIDANCE = 1.3
"""How strictly rhythm is followed: less misses strikes, more widens the range of loudness
beyond true music's (chosen for ``mini`` on validation clips, docs/mini.md)."""
SIGMA_MIN, SIGMA_MAX, RHO = 0.02, 30.0, 7.0
SAMPLES_PER_LATENT_FRAME = mel.HOP_LENGTH * 4
DECODE_BLOCK_FRAMES = 480
"""Frames of the code that become sound at a time: 22 s."""
BLOCK_CROSSFADE_S = 0.06
"""Cross-fade between blocks of sound, whose phases are estimated apart."""


def window_starts(
    n_frames: int, window_frames: int, *, allow_longer_window: bool = True
) -> list[int]:
    """First frames of the windows that cover a clip, evenly spread.

    Args:
        n_frames: of the clip. If it is little more than a window, or less, there is one, as
            long as the clip.
        window_frames: frames of one.
        allow_longer_window: whether one may be longer than that.

    Returns:
        rising starts; the last window ends with the clip, none is padded.
    """
    overlap = round(window_frames * WINDOW_OVERLAP)
    if n_frames <= window_frames + overlap * allow_longer_window:
        return [0]
    n_windows = -(-(n_frames - overlap) // (window_frames - overlap))
    return [round(i * (n_frames - window_frames) / (n_windows - 1)) for i in range(n_windows)]


def draw_noise(
    seed: int,
    n_frames: int,
    n_channels: int,
    *,
    draw_index: int = 0,
    block_length: int = NOISE_BLOCK_FRAMES,
) -> Tensor:
    """Standard normal noise that depends on seed and absolute position alone.

    Args:
        seed: of the take.
        n_frames: from the start of the clip; a longer clip begins with the same values.
        n_channels: of the code.
        draw_index: tells one noise of the take from another.
        block_length: frames drawn from one seed.

    Returns:
        ``(channels, n_frames)``
    """
    blocks = [
        np.random.default_rng([seed, number, draw_index]).standard_normal(
            (n_channels, block_length), np.float32
        )
        for number in range(-(-n_frames // block_length))
    ]
    return torch.from_numpy(np.concatenate(blocks, axis=1)[:, :n_frames])


def crossfade_weights(
    starts: list[int],
    window_length: int,
    crossfade_position: float,
    *,
    crossfade_length: int = CROSSFADE_FRAMES,
    device: torch.device | None = None,
) -> list[Tensor]:
    """How much of each frame's answer comes from each window.

    Args:
        starts: of the windows.
        window_length: of each.
        crossfade_position: where in every overlap one window hands over, from 0 to 1.
        crossfade_length: over so many frames.
        device: where to make them; None is the CPU.

    Returns:
        one ``(length,)`` for each window; for every frame of the clip they sum to one.
    """
    result = [torch.ones(window_length, device=device) for _ in starts]
    for left in range(len(starts) - 1):
        overlap = starts[left] + window_length - starts[left + 1]
        width = min(crossfade_length, overlap)
        middle = width / 2 + crossfade_position * (overlap - width)
        position = torch.arange(overlap, device=device) + 0.5
        rise = ((position - middle) / width + 0.5).clamp(0, 1)
        result[left][window_length - overlap :] *= 1 - rise
        result[left + 1][:overlap] *= rise
    return result


@dataclass(frozen=True, kw_only=True)
class InpaintRegion:
    """Sound that is to stay, around a stretch to be made anew."""

    original: Samples
    """22,050 Hz, from the clip's second 0, ``(channels, samples)``."""
    start_s: float
    end_s: float

    @property
    def training_peak_gain(self) -> float:
        """Gain that brings the sound to the peak of the clips the networks know."""
        return 0.9 / max(float(np.abs(self.original).max(initial=0.0)), 1e-3)

    def merge_blocks(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        """Old samples as they were, new ones faded in and out inside the stretch made anew.

        Args:
            blocks: consecutive, ``(channels, samples)``, at `training_peak_gain`.
        """
        start, n_old = 0, self.original.shape[1]
        for block in blocks:
            moment_s = (start + np.arange(block.shape[1])) / SAMPLE_RATE_HZ
            inside = (
                np.minimum(moment_s - self.start_s, self.end_s - moment_s) / BLOCK_CROSSFADE_S
            )
            share = np.clip(inside, 0, 1).astype(np.float32)
            share[start + np.arange(block.shape[1]) >= n_old] = 1
            old = self.original[:, start : start + block.shape[1]]
            old = np.pad(old, ((0, 0), (0, block.shape[1] - old.shape[1])))
            yield np.where(
                share > 0, old * (1 - share) + block * (share / self.training_peak_gain), old
            )
            start += block.shape[1]


@dataclass(frozen=True, kw_only=True)
class LatentGenerator:
    """The ``mini`` model as a `MusicGenerator`, of any length."""

    model: MiniCheckpoint
    device: torch.device
    steps: int = 16
    guidance: float = DEFAULT_GUIDANCE
    sampler: SamplerName = "dpmpp-2m"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Part of the steps that is guided, by `loris_cli.models.diffusion.guidance_sigmas`."""
    inpaint_region: InpaintRegion | None = field(default=None)
    dtype: torch.dtype = torch.float32
    """What the denoiser computes in; state and code are fp32 whatever it is."""

    def compute_window_layout(self, duration_s: float) -> tuple[int, int, int]:
        """Frames of code, windows, and network evaluations for a clip, in this order."""
        n_frames = self._count_latent_frames(duration_s)
        n_windows = len(window_starts(n_frames, self.window_frames))
        calls = -(-n_windows // self._windows_per_batch)
        return n_frames, n_windows, calls * count_evaluations(self.sampler, self.steps)

    @property
    def window_frames(self) -> int:
        """Frames of the code in a window: the length the network was trained on."""
        return self.model.denoiser.config.window_frames

    @property
    def _windows_per_batch(self) -> int:
        return max(BATCH_FRAMES // self.window_frames, 1)

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Sound for a clip, in consecutive blocks.

        Args:
            features: of the whole clip.
            seed: of the take.
            progress: told after each call of the network.

        Yields:
            ``(1, samples)`` blocks at 22,050 Hz; in all ``round(duration_s * 22050)``.
        """
        config = self.model.denoiser.config
        seed = seed_from_rhythm(seed, features.peaks_s)
        early = replace(features, peaks_s=features.peaks_s - ATTACK_LATENCY_S)
        chords = config.harmony_channels and config.trained_with_harmony
        notes = config.note_latent_channels and config.trained_with_notes
        if chords or notes:
            early = with_arrangement(early, seed=seed)
        if notes:
            early = self._with_note_latent(early)
        if not chords:
            early = replace(early, harmony=None)
        code = self._sample(early, seed=seed, progress=progress)
        blocks = self._decode_blocks(code, round(features.duration_s * SAMPLE_RATE_HZ), seed)
        yield from (
            blocks if self.inpaint_region is None else self.inpaint_region.merge_blocks(blocks)
        )

    @torch.inference_mode()
    def _with_note_latent(self, features: ClipFeatures) -> ClipFeatures:
        """Features with the code of what their notes would about sound like."""
        assert features.arrangement is not None
        n_frames = self._count_latent_frames(features.duration_s)
        coder, stride = self.model.autoencoder, self.model.autoencoder.config.stride
        blocks = []
        for first in range(0, n_frames, DECODE_BLOCK_FRAMES):
            left, last = (
                max(first - coder.receptive_margin_frames, 0),
                min(first + DECODE_BLOCK_FRAMES, n_frames),
            )
            right = min(last + coder.receptive_margin_frames, n_frames)
            frames = render_note_spectrogram(
                features.arrangement, left * stride, (right - left) * stride
            )
            code = coder.encode(torch.from_numpy(frames)[None].to(self.device))[0]
            blocks.append(code[:, first - left : last - left].cpu().numpy())
        return replace(features, note_latent=np.concatenate(blocks, axis=1))

    def _count_latent_frames(self, duration_s: float) -> int:
        """Frames of code for a clip: a little more than it lasts, as the strides ask."""
        stride = self.model.denoiser.config.stride
        return max(-(-int(duration_s * LATENT_FPS + 2) // stride) * stride, 8 * stride)

    @torch.inference_mode()
    def _sample(
        self, features: ClipFeatures, *, seed: int, progress: ProgressCallback
    ) -> Tensor:
        n_frames = self._count_latent_frames(features.duration_s)
        starts = window_starts(n_frames, self.window_frames)
        length = self.window_frames if len(starts) > 1 else n_frames
        drawn = self.model.denoiser.config.note_latent_channels
        told = [
            build_condition(features, start, length, note_latent_channels=drawn)
            for start in starts
        ]
        groups = [
            self._batch_conditions(
                told, range(first, min(first + self._windows_per_batch, len(starts)))
            )
            for first in range(0, len(starts), self._windows_per_batch)
        ]
        sigmas = karras_sigmas(self.steps, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=RHO)
        low, high = guidance_sigmas(sigmas, self.guidance_interval)
        calls = -(-len(starts) // self._windows_per_batch)
        total = calls * count_evaluations(self.sampler, self.steps)
        known = self._build_inpaint_target(n_frames)
        channels = self.model.autoencoder.config.latent_channels
        done = 0
        drawn = 0

        def denoise(x: Tensor, sigma: float) -> Tensor:
            nonlocal done
            answer = torch.zeros_like(x)
            border = (done // calls * CROSSFADE_POSITION_STEP) % 1
            weights = crossfade_weights(starts, length, border, device=self.device)
            guidance = self.guidance if low <= sigma <= high else 1.0
            for rows, both in groups:
                seen = self._denoise_windows(
                    torch.stack([x[:, starts[i] : starts[i] + length] for i in rows]),
                    sigma,
                    both,
                    guidance,
                )
                for i, window in zip(dict.fromkeys(rows), seen, strict=False):
                    answer[:, starts[i] : starts[i] + length] += weights[i] * window
                done += 1
                progress(done, total)
            # Where sound is kept the clean signal is known; the rest is led to fit it.
            return answer if known is None else torch.where(known[1], answer, known[0])

        def draw(x: Tensor) -> Tensor:
            nonlocal drawn
            drawn += 1
            return copy_to_device(
                draw_noise(seed, n_frames, channels, draw_index=drawn), self.device
            )

        start = (
            copy_to_device(draw_noise(seed, n_frames, channels), self.device)
            * sigmas[0].float()
        )
        return draw_sample(self.sampler, denoise, start, sigmas, noise_sampler=draw)

    def _batch_conditions(
        self, conditions: list[MiniCondition], window_indices: range
    ) -> tuple[list[int], MiniCondition]:
        """Windows of one call of the network, and what is told of them, twice, on its device.

        A short last batch is filled up with its own last window.
        """
        n_rows = self._windows_per_batch if len(conditions) > 1 else 1
        rows = [*window_indices, *[window_indices[-1]] * (n_rows - len(window_indices))]
        parts = collate_conditions([conditions[i] for i in rows])
        both = (copy_to_device(torch.cat([part, part]), self.device) for part in parts)
        return rows, MiniCondition(*both)

    def _denoise_windows(
        self, x: Tensor, sigma: float, condition_pair: MiniCondition, guidance: float
    ) -> Tensor:
        """One guided evaluation: with and without the condition, in one batch.

        Guidance of 1 asks nothing of the network without it.
        """
        n = len(x)
        guided = guidance != 1.0
        dropped = torch.arange(2 * n if guided else n, device=self.device) >= n
        told = (
            condition_pair if guided else MiniCondition(*(part[:n] for part in condition_pair))
        )

        def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
            with autocast(self.device, self.dtype):
                seen: Tensor = self.model.denoiser(scaled, c_noise, told, dropped)
            return seen

        seen = precondition(
            network,
            torch.cat([x, x]) if guided else x,
            torch.full((len(dropped),), sigma, device=self.device),
            sigma_data=1.0,
        )
        if not guided:
            return seen
        with_it, without = seen.chunk(2)
        return without + guidance * (with_it - without)

    def _build_inpaint_target(self, n_frames: int) -> tuple[Tensor, Tensor] | None:
        """Code of the sound that stays, and where it is to be made anew, ``(n_frames,)``."""
        if self.inpaint_region is None:
            return None
        samples = np.zeros(n_frames * SAMPLES_PER_LATENT_FRAME, dtype=np.float32)
        old = self.inpaint_region.original.mean(axis=0)
        take = min(len(samples), len(old))
        samples[:take] = old[:take] * self.inpaint_region.training_peak_gain
        bands = self.model.autoencoder.config.bands
        frames = torch.from_numpy(mel.compute_log_mel(samples, bands)[:, : n_frames * 4])[None]
        code = self.model.autoencoder.encode(frames.to(self.device))[0]
        moment_s = torch.arange(n_frames) / LATENT_FPS
        anew = (moment_s >= self.inpaint_region.start_s) & (
            moment_s < self.inpaint_region.end_s
        )
        anew = anew | (torch.arange(n_frames) * SAMPLES_PER_LATENT_FRAME >= take)
        return code, anew.to(self.device)

    def _decode_blocks(self, latent: Tensor, n_samples: int, seed: int) -> Iterator[Samples]:
        """Decode and invert in blocks that overlap by a short cross-fade."""
        fade = round(BLOCK_CROSSFADE_S * SAMPLE_RATE_HZ)
        rise = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
        tail: Samples | None = None
        for first in range(0, latent.shape[1], DECODE_BLOCK_FRAMES):
            start_sample = first * SAMPLES_PER_LATENT_FRAME
            if start_sample >= n_samples:
                break
            samples = self._decode_block(latent, first, seed)
            stop = min(n_samples - start_sample, DECODE_BLOCK_FRAMES * SAMPLES_PER_LATENT_FRAME)
            if tail is not None:
                samples[:fade] = samples[:fade] * rise + tail * rise[::-1]
            tail = samples[stop : stop + fade]
            yield samples[None, :stop]

    @torch.inference_mode()
    def _decode_block(self, latent: Tensor, first_frame: int, seed: int) -> Samples:
        """Samples of one block, from its start to some way past its end."""
        margin = self.model.autoencoder.receptive_margin_frames + 8
        left = max(first_frame - margin, 0)
        stretch = latent[None, :, left : first_frame + DECODE_BLOCK_FRAMES + margin].to(
            self.device
        )
        frames = self.model.autoencoder.decode(stretch)[0].cpu().numpy()
        # Phases are estimated over some frames more on either side than are used.
        bands = self.model.autoencoder.config.bands
        samples = mel.invert_log_mel(frames, bands, seed=(seed * 7919 + first_frame) % 2**32)
        skip = (first_frame - left) * SAMPLES_PER_LATENT_FRAME
        need = DECODE_BLOCK_FRAMES * SAMPLES_PER_LATENT_FRAME + round(
            BLOCK_CROSSFADE_S * SAMPLE_RATE_HZ
        )
        return np.pad(samples[skip : skip + need], (0, max(0, need - len(samples) + skip)))

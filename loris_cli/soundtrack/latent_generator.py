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
from loris_cli.composition.note_spectrogram import sketch
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.diffusion import (
    Sampler,
    between,
    karras_sigmas,
    n_evaluations,
    precondition,
    sample,
)
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mini_checkpoint import MiniModel
from loris_cli.models.mini_unet import Condition
from loris_cli.soundtrack.conditioning import CODE_HZ, batch, condition, own_seed, planned
from loris_cli.system.device import moved, working

Array = NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do, in units of the generator's choice."""

OVERLAP = 0.25
"""Neighbours share a quarter of a window, so each has context on both sides; and a clip longer
than a window by no more than that is one window: the network stretches so far."""
RAMP = 4
"""Frames over which one window's answer passes into its neighbour's."""
MICRO_BATCH = 1024
"""Frames in one call of the network, always as many windows: equal shapes give equal bytes."""
BORDER_STEP = 0.618
"""How far a border moves from one evaluation to the next, in an overlap: the golden section, so
that no place is visited twice soon."""
NOISE_BLOCK = 64
"""Frames of noise drawn from one seed."""
ATTACK_S = 0.0185
"""The instruments of the training music speak this long after their note begins, by the
detector of `evaluation.onsets`, median over its clips; peaks are told that much earlier."""
GUIDANCE = 1.3
"""How strictly rhythm is followed: less misses strikes, more widens the range of loudness
beyond true music's (chosen for ``mini`` on validation clips, docs/mini.md)."""
SIGMA_MIN, SIGMA_MAX, RHO = 0.02, 30.0, 7.0
SAMPLES_PER_FRAME = mel.HOP * 4
BLOCK = 480
"""Frames of the code that become sound at a time: 22 s."""
FADE_S = 0.06
"""Cross-fade between blocks of sound, whose phases are estimated apart."""


def window_starts(n_frames: int, window: int, *, stretch: bool = True) -> list[int]:
    """First frames of the windows that cover a clip, evenly spread.

    Args:
        n_frames: of the clip. If it is little more than a window, or less, there is one, as
            long as the clip.
        window: frames of one.
        stretch: whether one may be longer than that.

    Returns:
        rising starts; the last window ends with the clip, none is padded.
    """
    overlap = round(window * OVERLAP)
    if n_frames <= window + overlap * stretch:
        return [0]
    n_windows = -(-(n_frames - overlap) // (window - overlap))
    return [round(i * (n_frames - window) / (n_windows - 1)) for i in range(n_windows)]


def noise(
    seed: int, n_frames: int, channels: int, *, draw: int = 0, block: int = NOISE_BLOCK
) -> Tensor:
    """Standard normal noise that depends on seed and absolute position alone.

    Args:
        seed: of the take.
        n_frames: from the start of the clip; a longer clip begins with the same values.
        channels: of the code.
        draw: tells one noise of the take from another.
        block: frames drawn from one seed.

    Returns:
        ``(channels, n_frames)``
    """
    blocks = [
        np.random.default_rng([seed, number, draw]).standard_normal(
            (channels, block), np.float32
        )
        for number in range(-(-n_frames // block))
    ]
    return torch.from_numpy(np.concatenate(blocks, axis=1)[:, :n_frames])


def shares(
    starts: list[int],
    length: int,
    border: float,
    *,
    ramp: int = RAMP,
    device: torch.device | None = None,
) -> list[Tensor]:
    """How much of each frame's answer comes from each window.

    Args:
        starts: of the windows.
        length: of each.
        border: where in every overlap one window hands over, from 0 to 1.
        ramp: over so many frames.
        device: where to make them; None is the CPU.

    Returns:
        one ``(length,)`` for each window; for every frame of the clip they sum to one.
    """
    result = [torch.ones(length, device=device) for _ in starts]
    for left in range(len(starts) - 1):
        overlap = starts[left] + length - starts[left + 1]
        width = min(ramp, overlap)
        middle = width / 2 + border * (overlap - width)
        position = torch.arange(overlap, device=device) + 0.5
        rise = ((position - middle) / width + 0.5).clamp(0, 1)
        result[left][length - overlap :] *= 1 - rise
        result[left + 1][:overlap] *= rise
    return result


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Sound that is to stay, around a stretch to be made anew."""

    samples: Array
    """22,050 Hz, from the clip's second 0, ``(channels, samples)``."""
    from_s: float
    to_s: float

    @property
    def scale(self) -> float:
        """Gain that brings the sound to the peak of the clips the networks know."""
        return 0.9 / max(float(np.abs(self.samples).max(initial=0.0)), 1e-3)

    def join(self, blocks: Iterator[Array]) -> Iterator[Array]:
        """Old samples as they were, new ones faded in and out inside the stretch made anew.

        Args:
            blocks: consecutive, ``(channels, samples)``, at `scale`.
        """
        start, n_old = 0, self.samples.shape[1]
        for block in blocks:
            moment_s = (start + np.arange(block.shape[1])) / SAMPLE_RATE_HZ
            inside = np.minimum(moment_s - self.from_s, self.to_s - moment_s) / FADE_S
            share = np.clip(inside, 0, 1).astype(np.float32)
            share[start + np.arange(block.shape[1]) >= n_old] = 1
            old = self.samples[:, start : start + block.shape[1]]
            old = np.pad(old, ((0, 0), (0, block.shape[1] - old.shape[1])))
            yield np.where(share > 0, old * (1 - share) + block * (share / self.scale), old)
            start += block.shape[1]


@dataclass(frozen=True, kw_only=True)
class LatentGenerator:
    """The ``mini`` model as a `MusicGenerator`, of any length."""

    model: MiniModel
    device: torch.device
    steps: int = 16
    guidance: float = GUIDANCE
    sampler: Sampler = "dpmpp-2m"
    interval: tuple[float, float] = (0.0, 1.0)
    """Part of the steps that is guided, by `loris_cli.models.diffusion.between`."""
    kept: Kept | None = field(default=None)
    dtype: torch.dtype = torch.float32
    """What the denoiser computes in; state and code are fp32 whatever it is."""

    def windows(self, duration_s: float) -> tuple[int, int, int]:
        """Frames of code, windows, and network evaluations for a clip, in this order."""
        n_frames = self._frames(duration_s)
        n_windows = len(window_starts(n_frames, self.window))
        calls = -(-n_windows // self._rows)
        return n_frames, n_windows, calls * n_evaluations(self.sampler, self.steps)

    @property
    def window(self) -> int:
        """Frames of the code in a window: the length the network was trained on."""
        return self.model.denoiser.config.window

    @property
    def _rows(self) -> int:
        return max(MICRO_BATCH // self.window, 1)

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Progress
    ) -> Iterator[Array]:
        """Sound for a clip, in consecutive blocks.

        Args:
            features: of the whole clip.
            seed: of the take.
            progress: told after each call of the network.

        Yields:
            ``(1, samples)`` blocks at 22,050 Hz; in all ``round(duration_s * 22050)``.
        """
        config = self.model.denoiser.config
        seed = own_seed(seed, features.peaks_s)
        early = replace(features, peaks_s=features.peaks_s - ATTACK_S)
        chords = config.harmony_channels and config.learned_chords
        notes = config.sketch_channels and config.learned_notes
        if chords or notes:
            early = planned(early, seed=seed)
        if notes:
            early = self._sketched(early)
        if not chords:
            early = replace(early, harmony=None)
        code = self._sample(early, seed=seed, progress=progress)
        blocks = self._sound(code, round(features.duration_s * SAMPLE_RATE_HZ), seed)
        yield from blocks if self.kept is None else self.kept.join(blocks)

    @torch.inference_mode()
    def _sketched(self, features: ClipFeatures) -> ClipFeatures:
        """Features with the code of what their notes would about sound like."""
        assert features.arrangement is not None
        n_frames = self._frames(features.duration_s)
        coder, stride = self.model.coder, self.model.coder.config.stride
        blocks = []
        for first in range(0, n_frames, BLOCK):
            left, last = max(first - coder.margin, 0), min(first + BLOCK, n_frames)
            right = min(last + coder.margin, n_frames)
            frames = sketch(features.arrangement, left * stride, (right - left) * stride)
            code = coder.encode(torch.from_numpy(frames)[None].to(self.device))[0]
            blocks.append(code[:, first - left : last - left].cpu().numpy())
        return replace(features, sketch=np.concatenate(blocks, axis=1))

    def _frames(self, duration_s: float) -> int:
        """Frames of code for a clip: a little more than it lasts, as the strides ask."""
        stride = self.model.denoiser.config.stride
        return max(-(-int(duration_s * CODE_HZ + 2) // stride) * stride, 8 * stride)

    @torch.inference_mode()
    def _sample(self, features: ClipFeatures, *, seed: int, progress: Progress) -> Tensor:
        n_frames = self._frames(features.duration_s)
        starts = window_starts(n_frames, self.window)
        length = self.window if len(starts) > 1 else n_frames
        drawn = self.model.denoiser.config.sketch_channels
        told = [condition(features, start, length, sketch_channels=drawn) for start in starts]
        groups = [
            self._group(told, range(first, min(first + self._rows, len(starts))))
            for first in range(0, len(starts), self._rows)
        ]
        sigmas = karras_sigmas(self.steps, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=RHO)
        low, high = between(sigmas, self.interval)
        calls = -(-len(starts) // self._rows)
        total = calls * n_evaluations(self.sampler, self.steps)
        known = self._kept_code(n_frames)
        channels = self.model.coder.config.channels
        done = 0
        drawn = 0

        def denoise(x: Tensor, sigma: float) -> Tensor:
            nonlocal done
            answer = torch.zeros_like(x)
            border = (done // calls * BORDER_STEP) % 1
            weights = shares(starts, length, border, device=self.device)
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
            return moved(noise(seed, n_frames, channels, draw=drawn), self.device)

        start = moved(noise(seed, n_frames, channels), self.device) * sigmas[0].float()
        return sample(self.sampler, denoise, start, sigmas, draw=draw)

    def _group(self, told: list[Condition], chosen: range) -> tuple[list[int], Condition]:
        """Windows of one call of the network, and what is told of them, twice, on its device.

        A short last batch is filled up with its own last window.
        """
        n_rows = self._rows if len(told) > 1 else 1
        rows = [*chosen, *[chosen[-1]] * (n_rows - len(chosen))]
        parts = batch([told[i] for i in rows])
        both = (moved(torch.cat([part, part]), self.device) for part in parts)
        return rows, Condition(*both)

    def _denoise_windows(
        self, x: Tensor, sigma: float, both: Condition, guidance: float
    ) -> Tensor:
        """One guided evaluation: with and without the condition, in one batch.

        Guidance of 1 asks nothing of the network without it.
        """
        n = len(x)
        guided = guidance != 1.0
        dropped = torch.arange(2 * n if guided else n, device=self.device) >= n
        told = both if guided else Condition(*(part[:n] for part in both))

        def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
            with working(self.device, self.dtype):
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

    def _kept_code(self, n_frames: int) -> tuple[Tensor, Tensor] | None:
        """Code of the sound that stays, and where it is to be made anew, ``(n_frames,)``."""
        if self.kept is None:
            return None
        samples = np.zeros(n_frames * SAMPLES_PER_FRAME, dtype=np.float32)
        old = self.kept.samples.mean(axis=0)
        take = min(len(samples), len(old))
        samples[:take] = old[:take] * self.kept.scale
        bands = self.model.coder.config.bands
        frames = torch.from_numpy(mel.log_mel(samples, bands)[:, : n_frames * 4])[None]
        code = self.model.coder.encode(frames.to(self.device))[0]
        moment_s = torch.arange(n_frames) / CODE_HZ
        anew = (moment_s >= self.kept.from_s) & (moment_s < self.kept.to_s)
        anew = anew | (torch.arange(n_frames) * SAMPLES_PER_FRAME >= take)
        return code, anew.to(self.device)

    def _sound(self, code: Tensor, n_samples: int, seed: int) -> Iterator[Array]:
        """Decode and invert in blocks that overlap by a short cross-fade."""
        fade = round(FADE_S * SAMPLE_RATE_HZ)
        rise = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
        tail: Array | None = None
        for first in range(0, code.shape[1], BLOCK):
            start_sample = first * SAMPLES_PER_FRAME
            if start_sample >= n_samples:
                break
            samples = self._block(code, first, seed)
            stop = min(n_samples - start_sample, BLOCK * SAMPLES_PER_FRAME)
            if tail is not None:
                samples[:fade] = samples[:fade] * rise + tail * rise[::-1]
            tail = samples[stop : stop + fade]
            yield samples[None, :stop]

    @torch.inference_mode()
    def _block(self, code: Tensor, first: int, seed: int) -> Array:
        """Samples of one block, from its start to some way past its end."""
        margin = self.model.coder.margin + 8
        left = max(first - margin, 0)
        stretch = code[None, :, left : first + BLOCK + margin].to(self.device)
        frames = self.model.coder.decode(stretch)[0].cpu().numpy()
        # Phases are estimated over some frames more on either side than are used.
        bands = self.model.coder.config.bands
        samples = mel.invert(frames, bands, seed=(seed * 7919 + first) % 2**32)
        skip = (first - left) * SAMPLES_PER_FRAME
        need = BLOCK * SAMPLES_PER_FRAME + round(FADE_S * SAMPLE_RATE_HZ)
        return np.pad(samples[skip : skip + need], (0, max(0, need - len(samples) + skip)))

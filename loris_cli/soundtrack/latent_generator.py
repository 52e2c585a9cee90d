"""Long-form generator of the ``mini`` model: windows of latent frames, decoded in blocks.

features -> chords and notes -> windows of latents -> log-mel -> samples
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from loris_cli.array_types import Float32Array, Samples
from loris_cli.audio import mel
from loris_cli.composition.note_spectrogram import render_note_spectrogram
from loris_cli.composition.production import NEUTRAL_PRODUCTION
from loris_cli.config import LATENT_FPS, SAMPLE_RATE_HZ, SAMPLES_PER_LATENT_FRAME, SamplerName
from loris_cli.models.condition_routes import ROUTES_OF_CONDITIONING, Conditioning
from loris_cli.models.diffusion import precondition
from loris_cli.models.generator_interface import ClipFeatures, ProgressCallback, VideoFeatures
from loris_cli.models.mini_checkpoint import MiniCheckpoint, decode_latents
from loris_cli.models.mini_unet import EncodedMiniCondition, MiniCondition
from loris_cli.soundtrack import windowed_sampling
from loris_cli.soundtrack.clip_features import add_arrangement, seed_from_rhythm
from loris_cli.soundtrack.conditioning import build_condition, collate_conditions
from loris_cli.soundtrack.inpainting import BLOCK_CROSSFADE_S, InpaintRegion
from loris_cli.soundtrack.window_layout import (
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    LatentGrid,
    WindowLayout,
)
from loris_cli.system.device import autocast, copy_to_device
from loris_cli.system.threads import map_rows

GPU_BATCH_FRAMES = 1024
"""Latent frames per network call on a GPU; constant, because results depend on the batch shape.
On a CPU, each call has one window of one half of guidance."""
ATTACK_LATENCY_S = 0.0185
"""Median delay from a note to its detected onset (`audio.onsets`) in the clips of
the training music. Conditions are shifted earlier by this delay."""
DEFAULT_GUIDANCE = 2.0
"""Guidance scale. With lower values the loudness follows the motion less; with higher ones the
music repeats less. Chosen on validation clips (docs/experiments/mini.md)."""
MAX_DECODE_BLOCK_FRAMES = 140
"""Longest decoded block, in latent frames: 6.5 s. A clip is divided into equal blocks.
Blocks of 13 s take 95 MB more for two threads, and 15 % less time."""
ENCODE_BLOCK_FRAMES = 480
"""Latent frames per encoded block of the note spectrogram: 22 s."""


@dataclass(frozen=True, kw_only=True)
class LatentGenerator(windowed_sampling.WindowedGenerator[EncodedMiniCondition]):
    """The ``mini`` model as a `MusicGenerator` for clips of any length."""

    # With six steps, latents differ by 5 % from those of 48 steps; with levels from 0.02 to 20
    # and rho 7 it is 14 % (docs/experiments/mini.md).
    noise_schedule = {"sigma_min": 0.15, "sigma_max": 20.0, "rho": 10.0}  # noqa: RUF012

    model: MiniCheckpoint
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    sampler: SamplerName = DEFAULT_SAMPLER
    conditioning: Conditioning = "score"

    @property
    def _routes(self) -> frozenset[str]:
        return ROUTES_OF_CONDITIONING[self.conditioning]

    @property
    def window_frames(self) -> int:
        """Latent frames per window, the length of the training examples."""
        return self.model.denoiser.config.window_frames

    @property
    def _windows_per_batch(self) -> int:
        if self.device.type == "cpu":
            return 1
        return max(GPU_BATCH_FRAMES // self.window_frames, 1)

    @property
    def _grid(self) -> LatentGrid:
        return LatentGrid(
            window_frames=self.window_frames,
            stride=self.model.denoiser.config.stride,
            windows_per_batch=self._windows_per_batch,
        )

    @property
    def signal_channels(self) -> int:
        """Channels of the latents."""
        return self.model.autoencoder.config.latent_channels

    @property
    def has_notes(self) -> bool:
        """Whether notes condition the model."""
        config = self.model.denoiser.config
        is_trained = config.note_latent_channels and config.trained_with_notes
        return bool(is_trained and "notes" in self._routes)

    @property
    def _has_chords(self) -> bool:
        config = self.model.denoiser.config
        is_trained = config.harmony_channels and config.trained_with_harmony
        return bool(is_trained and "harmony" in self._routes)

    def compose(self, features: VideoFeatures, *, seed: int) -> ClipFeatures:
        """Return the features with the chords and notes that condition the model in a take.

        The notes are at the times at which they are audible, later than in the condition.
        """
        advanced = add_arrangement(
            replace(features, peaks_s=features.peaks_s - ATTACK_LATENCY_S),
            seed=seed_from_rhythm(seed, features.peaks_s),
        )
        assert advanced.harmony is not None
        assert advanced.arrangement is not None
        return replace(
            advanced,
            peaks_s=features.peaks_s,
            harmony=advanced.harmony.shift(ATTACK_LATENCY_S),
            arrangement=advanced.arrangement.shift(ATTACK_LATENCY_S),
        )

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Generate the soundtrack of a clip, in consecutive blocks.

        Args:
            features: features of the entire clip.
            seed: seed of the take.
            progress: called after each network evaluation.

        Yields:
            ``(1, samples)`` blocks at 22,050 Hz, ``round(duration_s * 22050)`` samples in all.
        """
        latent = self.draw_latents(features, seed=seed, progress=progress)
        seed = seed_from_rhythm(seed, features.peaks_s)
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        yield from self._merge_inpaint(self._decode_blocks(latent, n_samples))

    def draw_latents(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Tensor:
        """Return the latents of a take, ``(channels, frames)``; arguments as in `generate`."""
        seed = seed_from_rhythm(seed, features.peaks_s)
        advanced = ClipFeatures.from_video(
            replace(features, peaks_s=features.peaks_s - ATTACK_LATENCY_S),
            production=NEUTRAL_PRODUCTION,
        )
        if self._has_chords or self.has_notes:
            advanced = add_arrangement(advanced, seed=seed)
        if self.has_notes:
            advanced = self._with_note_latent(advanced)
        if not self._has_chords:
            advanced = replace(advanced, harmony=None)
        return self._draw(advanced, seed=seed, progress=progress)

    def _with_note_latent(self, features: ClipFeatures) -> ClipFeatures:
        """Return the features with the latents of their note spectrogram."""
        assert features.arrangement is not None
        render = partial(render_note_spectrogram, features.arrangement)
        latent = self._encode_blocks(render, self._grid.count_frames(features.duration_s))
        return replace(features, note_latent=latent.cpu().numpy())

    def _encode_blocks(
        self, render: Callable[[int, int], Float32Array], n_frames: int
    ) -> Tensor:
        """Encode a spectrogram in blocks, so that memory does not depend on its length.

        Args:
            render: return log-mel frames, ``(bands, frames)``, from the first one and their
                number.
            n_frames: number of latent frames.

        Returns:
            ``(channels, n_frames)``, on the device of the model.
        """
        autoencoder, stride = self.model.autoencoder, self.model.autoencoder.config.stride
        margin = autoencoder.receptive_margin_frames

        @torch.inference_mode()
        def encode(first: int) -> Tensor:
            last = min(first + ENCODE_BLOCK_FRAMES, n_frames)
            left, right = max(first - margin, 0), min(last + margin, n_frames)
            frames = render(left * stride, (right - left) * stride)
            latent = autoencoder.encode(torch.from_numpy(frames)[None].to(self.device))[0]
            return latent[:, first - left : last - left]

        return torch.cat([*map_rows(encode, range(0, n_frames, ENCODE_BLOCK_FRAMES))], dim=1)

    def compute_window_layout(self, duration_s: float) -> WindowLayout:
        """Return windows of latent frames, and the number of network evaluations."""
        return self._grid.compute_layout(duration_s, self.sampler, self.steps)

    def _encode_windows(
        self, features: ClipFeatures, layout: WindowLayout, seed: int
    ) -> Iterator[tuple[list[int], EncodedMiniCondition]]:
        """Yield batches of windows; a short last batch is padded with its last window."""
        n_frames = layout.window_length
        n_channels = self.model.denoiser.config.note_latent_channels
        conditions = [
            build_condition(
                features,
                start,
                n_frames,
                note_latent_channels=n_channels,
                routes=self._routes,
            )
            for start in layout.starts
        ]
        n_windows = len(conditions)
        n_rows = self._windows_per_batch if n_windows > 1 else 1
        for first in range(0, n_windows, self._windows_per_batch):
            rows = [min(first + i, n_windows - 1) for i in range(n_rows)]
            batch = collate_conditions([conditions[i] for i in rows])
            batch = MiniCondition(*(copy_to_device(value, self.device) for value in batch))
            with autocast(self.device, self.dtype):
                encoded = self.model.denoiser.encode_condition(batch)
            yield rows, EncodedMiniCondition(*(torch.cat([v, v]) for v in encoded))

    def _denoise(
        self, x: Tensor, sigma: float, pair: EncodedMiniCondition, scale: float
    ) -> Tensor:
        """Denoise with guidance; conditional and unconditional passes share one batch.

        A guidance scale of 1 skips the unconditional pass.
        """
        n_windows = len(x)
        x = torch.cat([x, x]) if scale != 1.0 else x
        dropped = torch.arange(len(x), device=self.device) >= n_windows
        condition = EncodedMiniCondition(*(value[: len(x)] for value in pair))

        def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
            with autocast(self.device, self.dtype):
                output: Tensor = self.model.denoiser(scaled, c_noise, condition, dropped)
            return output

        level = torch.full((len(x),), sigma, device=self.device)
        denoised = precondition(network, x, level, sigma_data=1.0)
        if scale == 1.0:
            return denoised
        conditional, unconditional = denoised.chunk(2)
        return unconditional + scale * (conditional - unconditional)

    def _denoise_row(
        self, x: Tensor, sigma: float, pair: EncodedMiniCondition, *, is_null: bool
    ) -> Tensor:
        condition = EncodedMiniCondition(*(value[:1] for value in pair))
        dropped = torch.tensor([is_null])

        def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
            with autocast(self.device, self.dtype):
                output: Tensor = self.model.denoiser(scaled, c_noise, condition, dropped)
            return output

        return precondition(network, x, torch.full((1,), sigma), sigma_data=1.0)

    def _make_inpaint_target(self, region: InpaintRegion, length: int) -> tuple[Tensor, Tensor]:
        original = region.original.mean(axis=0)[: length * SAMPLES_PER_LATENT_FRAME]
        original *= region.training_peak_gain
        config = self.model.autoencoder.config

        def render(first: int, n_frames: int) -> Float32Array:
            """Return log-mel frames of the original, which are centred on their samples."""
            hop, margin = mel.HOP_LENGTH, -(-config.bands.n_fft // mel.HOP_LENGTH)
            left = max(first - margin, 0)
            samples = np.zeros((first - left + n_frames + margin) * hop, dtype=np.float32)
            part = original[left * hop :][: len(samples)]
            samples[: len(part)] = part
            return mel.compute_log_mel(samples, config.bands)[:, first - left :][:, :n_frames]

        latent = self._encode_blocks(render, length)
        index = torch.arange(length)
        time_s = index / LATENT_FPS
        is_regenerated = (time_s >= region.start_s) & (time_s < region.end_s)
        is_regenerated |= index * SAMPLES_PER_LATENT_FRAME >= len(original)
        return latent, is_regenerated.to(self.device)

    def _decode_blocks(self, latent: Tensor, n_samples: int) -> Iterator[Samples]:
        """Decode the latents in blocks with a short crossfade between them."""
        fade = round(BLOCK_CROSSFADE_S * SAMPLE_RATE_HZ)
        rise = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
        n_frames = -(-n_samples // SAMPLES_PER_LATENT_FRAME)
        n_blocks = max(-(-n_frames // MAX_DECODE_BLOCK_FRAMES), 1)
        n_block_frames = -(-n_frames // n_blocks)
        firsts = range(0, n_frames, n_block_frames)
        decode = partial(self._decode_block, latent, n_block_frames)
        tail: Samples | None = None
        for first, samples in zip(firsts, map_rows(decode, firsts), strict=True):
            n_left = n_samples - first * SAMPLES_PER_LATENT_FRAME
            stop = min(n_left, n_block_frames * SAMPLES_PER_LATENT_FRAME)
            if tail is not None:
                samples[:fade] = samples[:fade] * rise + tail * rise[::-1]
            tail = samples[stop : stop + fade]
            yield samples[None, :stop]

    @torch.inference_mode()
    def _decode_block(self, latent: Tensor, n_block_frames: int, first_frame: int) -> Samples:
        """Return the samples of one block and of the crossfade after it."""
        # Phase estimation uses some extra frames on either side, which are discarded.
        margin = self.model.autoencoder.receptive_margin_frames + 8
        left = max(first_frame - margin, 0)
        block = latent[:, left : first_frame + n_block_frames + margin]
        samples = decode_latents(self.model.autoencoder, block)
        skip = (first_frame - left) * SAMPLES_PER_LATENT_FRAME
        fade = round(BLOCK_CROSSFADE_S * SAMPLE_RATE_HZ)
        need = n_block_frames * SAMPLES_PER_LATENT_FRAME + fade
        return np.pad(samples[skip : skip + need], (0, max(0, need - len(samples) + skip)))

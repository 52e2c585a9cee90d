"""Long-form generation: windows, noise, length, conditions of each window, and inpainting."""

import copy
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import make_features
from device_copies import HostToDeviceCopyCounter
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import (
    TINY_NOTES_AUTOENCODER,
    TINY_NOTES_DENOISER,
)

from loris_cli.composition.note_spectrogram import render_note_spectrogram
from loris_cli.config import SamplerName
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import load_mini_checkpoint, save_mini_checkpoint
from loris_cli.models.mini_unet import EncodedMiniCondition, MiniCondition, MiniDenoiser
from loris_cli.soundtrack import latent_generator
from loris_cli.soundtrack.clip_features import add_arrangement, seed_from_rhythm
from loris_cli.soundtrack.inpainting import InpaintRegion
from loris_cli.soundtrack.latent_generator import (
    ATTACK_LATENCY_S,
    ENCODE_BLOCK_FRAMES,
    LatentGenerator,
)
from loris_cli.soundtrack.window_layout import window_starts
from loris_cli.soundtrack.windowed_sampling import crossfade_weights, draw_noise
from loris_cli.system.threads import configure_threads

WINDOW = 256
CPU, META = torch.device("cpu"), torch.device("meta")
MAX_BF16_ERROR = 0.02
"""Relative to the norm of the latent. One rounding to bf16 is at most 0.004."""


@settings(deadline=None)
@given(n_frames=st.integers(8, 5000))
def test_windows_cover_the_clip_exactly_and_overlap(n_frames: int) -> None:
    starts = window_starts(n_frames, WINDOW)

    assert starts[0] == 0
    if n_frames <= WINDOW * 1.25:
        assert starts == [0]
        return
    covered = np.zeros(n_frames, dtype=int)
    for start in starts:
        covered[start : start + WINDOW] += 1
    assert (covered > 0).all()
    assert starts[-1] + WINDOW == n_frames
    overlaps = [a + WINDOW - b for a, b in pairwise(starts)]
    assert min(overlaps) >= WINDOW / 4 - 1


@settings(deadline=None)
@given(n_frames=st.integers(WINDOW * 5 // 4 + 1, 1500), position=st.floats(0, 1))
def test_crossfade_weights_sum_to_one_in_every_frame(n_frames: int, position: float) -> None:
    starts = window_starts(n_frames, WINDOW)

    total = torch.zeros(n_frames)
    for start, weight in zip(starts, crossfade_weights(starts, WINDOW, position), strict=True):
        total[start : start + WINDOW] += weight

    torch.testing.assert_close(total, torch.ones(n_frames))


def test_noise_depends_only_on_seed_and_position() -> None:
    short, long = draw_noise(3, 100, 4), draw_noise(3, 500, 4)

    assert torch.equal(short, long[:, :100])
    assert not torch.equal(draw_noise(4, 100, 4), short)
    assert long.std() == pytest.approx(1, abs=0.1)
    assert not torch.equal(long[:, :64], long[:, 64:128])


def load_generator(path: Path) -> LatentGenerator:
    model = load_mini_checkpoint(str(path), device=CPU)
    return LatentGenerator(model=model, device=CPU, steps=2)


@pytest.fixture(scope="module")
def generator(small_model: Path) -> LatentGenerator:
    """Generator with random weights."""
    return load_generator(small_model)


@pytest.fixture(scope="module")
def note_generator(tmp_path_factory: pytest.TempPathFactory) -> LatentGenerator:
    """Generator with random weights, conditioned on the note spectrogram."""
    path = tmp_path_factory.mktemp("weights") / "notes.safetensors"
    torch.manual_seed(0)
    save_mini_checkpoint(
        path, MelAutoencoder(TINY_NOTES_AUTOENCODER), MiniDenoiser(TINY_NOTES_DENOISER)
    )
    return load_generator(path)


def generate_from_features(
    generator: LatentGenerator, features: ClipFeatures, seed: int = 0
) -> np.ndarray:
    blocks = list(
        generator.generate(features, seed=seed, progress=lambda n_done, n_total: None)
    )
    samples: np.ndarray = np.concatenate(blocks, axis=1)[0]
    return samples


def generate_samples(
    generator: LatentGenerator, duration_s: float, seed: int = 0
) -> np.ndarray:
    return generate_from_features(generator, make_features(duration_s), seed)


@settings(deadline=None, max_examples=4)
@given(duration_s=st.floats(1.0, 50.0))
def test_decoded_audio_has_the_duration_of_the_clip(duration_s: float) -> None:
    class ConstantGenerator(LatentGenerator):
        def _decode_block(
            self, latent: torch.Tensor, n_block_frames: int, first_frame: int
        ) -> np.ndarray:
            return np.full(n_block_frames * 1024 + 1323, first_frame, dtype=np.float32)

    constant = ConstantGenerator(model=None, device=CPU)  # type: ignore[arg-type]
    n_frames = int(duration_s * 22_050 / 1024) + 10
    blocks = constant._decode_blocks(torch.zeros(32, n_frames), round(duration_s * 22_050))
    assert sum(block.shape[1] for block in blocks) == round(duration_s * 22_050)


@pytest.mark.slow
def test_audio_is_bit_identical_for_the_same_seed_only(generator: LatentGenerator) -> None:
    first, repeated, other = (generate_samples(generator, 3, seed=seed) for seed in (0, 0, 1))

    assert first.tobytes() == repeated.tobytes()
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [2, 3])
def test_audio_does_not_depend_on_the_number_of_threads(
    note_generator: LatentGenerator, n_threads: int
) -> None:
    takes = []
    for count in (1, n_threads):
        configure_threads(count)
        takes.append(generate_samples(note_generator, 17))  # two windows, two blocks
    configure_threads(1)

    assert takes[0].tobytes() == takes[1].tobytes()


@pytest.mark.slow
def test_audio_does_not_depend_on_the_load_of_the_machine(
    note_generator: LatentGenerator,
) -> None:
    configure_threads(2)
    idle = generate_samples(note_generator, 17)
    loads = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        loaded = generate_samples(note_generator, 17)
        assert all(load.poll() is None for load in loads)
    finally:
        for load in loads:
            load.kill()
            load.wait()
        configure_threads(1)

    assert idle.tobytes() == loaded.tobytes()


def record_conditions(monkeypatch: pytest.MonkeyPatch) -> list[MiniCondition]:
    """Return a list to which denoisers append every condition that they encode."""
    recorded: list[MiniCondition] = []
    encode = MiniDenoiser.encode_condition

    def record_condition(
        network: MiniDenoiser, condition: MiniCondition
    ) -> EncodedMiniCondition:
        recorded.append(condition)
        return encode(network, condition)

    monkeypatch.setattr(MiniDenoiser, "encode_condition", record_condition)
    return recorded


@pytest.mark.slow
def test_note_latents_of_windows_are_slices_of_the_latents_of_the_clip(
    note_generator: LatentGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = record_conditions(monkeypatch)
    generate_samples(replace(note_generator, guidance=1.0), 24.0)
    windows = [row for condition in conditions for row in condition.note_latent]

    layout = note_generator.compute_window_layout(24.0)
    n_frames = layout.length
    assert n_frames > ENCODE_BLOCK_FRAMES
    features = make_features(24.0)
    advanced = replace(features, peaks_s=features.peaks_s - ATTACK_LATENCY_S)
    seed = seed_from_rhythm(0, features.peaks_s)
    arrangement = add_arrangement(advanced, seed=seed).arrangement
    assert arrangement is not None
    frames = torch.from_numpy(render_note_spectrogram(arrangement, 0, n_frames * 4))[None]
    full = note_generator.model.autoencoder.encode(frames)[0]
    assert full.std() > 0.1
    for start, window in zip(layout.starts, windows, strict=False):
        torch.testing.assert_close(window, full[:, start : start + 64], atol=1e-4, rtol=1e-4)
    assert len(windows) >= len(layout.starts)


@pytest.mark.parametrize("has_harmony", [True, False])
@pytest.mark.parametrize("has_notes", [True, False])
def test_conditions_are_those_that_the_network_was_trained_with(
    note_generator: LatentGenerator,
    monkeypatch: pytest.MonkeyPatch,
    has_harmony: bool,
    has_notes: bool,
) -> None:
    model = copy.deepcopy(note_generator.model)
    model.denoiser.config = replace(
        model.denoiser.config, trained_with_harmony=has_harmony, trained_with_notes=has_notes
    )
    conditions = record_conditions(monkeypatch)
    generate_samples(replace(note_generator, model=model, guidance=1.0), 3.0)
    assert conditions
    for condition in conditions:
        assert bool(condition.aligned_harmony.any()) == has_harmony
        assert bool(condition.note_latent.any()) == has_notes
        assert condition.aligned_rhythm.any()


@pytest.mark.slow
def test_audio_depends_on_the_notes(
    note_generator: LatentGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = make_features(3.0)
    first, repeated = (generate_from_features(note_generator, features) for _ in range(2))
    other = add_arrangement(features, seed=2)
    monkeypatch.setattr(latent_generator, "add_arrangement", lambda *args, **options: other)
    changed = generate_from_features(note_generator, features)
    assert first.tobytes() == repeated.tobytes()
    assert np.abs(first - changed).max() > 1e-3


def test_guidance_of_one_skips_the_unconditional_evaluation(
    generator: LatentGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_sizes: list[int] = []
    forward = MiniDenoiser.forward

    def counting_forward(network: MiniDenoiser, x: torch.Tensor, *args: object) -> torch.Tensor:
        batch_sizes.append(len(x))
        output: torch.Tensor = forward(network, x, *args)  # type: ignore[arg-type]
        return output

    monkeypatch.setattr(MiniDenoiser, "forward", counting_forward)
    unguided = generate_samples(replace(generator, guidance=1.0), 3)
    assert batch_sizes == [1, 1]
    guided = generate_samples(replace(generator, guidance=1.0 + 1e-6), 3)
    assert batch_sizes[2:] == [1, 1, 1, 1]
    # Phases are estimated from spectra that differ slightly, so the samples are only close.
    np.testing.assert_allclose(unguided, guided, atol=1e-2)


@pytest.mark.slow
def test_progress_counts_every_evaluation(generator: LatentGenerator) -> None:
    layout = generator.compute_window_layout(16)
    n_evaluations = layout.n_evaluations
    recorded: list[tuple[int, int]] = []

    list(
        generator.generate(
            make_features(16),
            seed=0,
            progress=lambda n_done, n_total: recorded.append((n_done, n_total)),
        )
    )

    assert n_evaluations == len(layout.starts) * generator.steps > generator.steps
    assert recorded == [(k, n_evaluations) for k in range(1, n_evaluations + 1)]


def test_inpainting_keeps_every_sample_outside_the_region(generator: LatentGenerator) -> None:
    original = np.random.default_rng(0).normal(0, 0.1, 22_050 * 6).astype(np.float32)
    region = InpaintRegion(original=original[None], start_s=2.0, end_s=4.0)

    inpainted = generate_samples(replace(generator, inpaint_region=region), 6)

    inside = slice(2 * 22_050, 4 * 22_050)
    outside = np.ones(len(original), dtype=bool)
    outside[inside] = False
    assert np.array_equal(inpainted[outside], original[outside])
    assert np.abs(inpainted[inside] - original[inside]).mean() > 1e-3


def test_inpaint_target_does_not_depend_on_the_block_length(
    generator: LatentGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = np.random.default_rng(0).normal(0, 0.1, (1, 22_050 * 11)).astype(np.float32)
    region = InpaintRegion(original=original, start_s=2.0, end_s=4.0)
    length = 12 * 22_050 // 1024  # the last second is after the end of the original
    targets = []
    for n_frames in (length, 50):
        monkeypatch.setattr(latent_generator, "ENCODE_BLOCK_FRAMES", n_frames)
        targets.append(generator._make_inpaint_target(region, length))
    (whole, mask), (blocks, same_mask) = targets
    assert whole.shape == blocks.shape == (generator.signal_channels, length)
    torch.testing.assert_close(whole, blocks, atol=1e-5, rtol=1e-4)
    assert torch.equal(mask, same_mask)


def sample_latent(
    generator: LatentGenerator, duration_s: float, sampler: SamplerName
) -> torch.Tensor:
    return replace(generator, sampler=sampler)._draw(
        make_features(duration_s), seed=0, progress=lambda n_done, n_total: None
    )


@pytest.mark.parametrize("duration_s", [3, 16])
def test_latent_in_bf16_is_close_to_that_in_fp32(
    generator: LatentGenerator, duration_s: float
) -> None:
    expected = sample_latent(generator, duration_s, "dpmpp-2m")
    bf16 = sample_latent(replace(generator, dtype=torch.bfloat16), duration_s, "dpmpp-2m")

    assert bf16.dtype == torch.float32
    assert 0 < (bf16 - expected).norm() / expected.norm() < MAX_BF16_ERROR


def test_fp32_generation_uses_no_autocast(
    generator: LatentGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", None)
    assert np.isfinite(generate_samples(generator, 3)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "duration_s"),
    [("dpmpp-2m", 3), ("dpmpp-2m", 16), ("adpm2", 3), ("dpmpp-2m-sde", 3), ("heun", 3)],
)
def test_sampling_step_copies_at_most_its_noise_to_the_device(
    generator: LatentGenerator, sampler: SamplerName, duration_s: float
) -> None:
    """The meta device has no values, so reading a value or copying it to the CPU fails."""
    denoiser = copy.deepcopy(generator.model.denoiser).to(META)
    meta_generator = replace(
        generator, model=replace(generator.model, denoiser=denoiser), device=META
    )
    n_copies = []
    for steps in (2, 3):
        counter = HostToDeviceCopyCounter(META)
        with counter:
            latent = sample_latent(replace(meta_generator, steps=steps), duration_s, sampler)
        assert latent.device == META
        assert latent.shape[1] == generator.compute_window_layout(duration_s).length
        n_copies.append(counter.n_copies)
    # Stochastic samplers draw the noise of each step on the CPU.
    assert n_copies[1] - n_copies[0] == (sampler in ("adpm2", "dpmpp-2m-sde"))
    assert n_copies[0] > 0

"""Music of any length: windows, noise, seams, and the promise of length."""

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from device_copies import HostToDeviceCopyCounter
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import (
    TINY_AUTOENCODER,
    TINY_DENOISER,
    TINY_NOTES_AUTOENCODER,
    TINY_NOTES_DENOISER,
)

from loris_cli.composition.note_spectrogram import render_note_spectrogram
from loris_cli.models.diffusion import SamplerName
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import load_mini_checkpoint, save_mini_checkpoint
from loris_cli.models.mini_unet import MiniCondition, MiniDenoiser
from loris_cli.soundtrack.clip_features import seed_from_rhythm, with_arrangement
from loris_cli.soundtrack.inpainting import InpaintRegion
from loris_cli.soundtrack.latent_generator import (
    ATTACK_LATENCY_S,
    DECODE_BLOCK_FRAMES,
    LatentGenerator,
)
from loris_cli.soundtrack.windowed_sampling import crossfade_weights, draw_noise, window_starts

WINDOW = 256
META = torch.device("meta")
BF16_OFF = 0.02
"""Of the code's norm: a rounding to bf16 is 0.004 at most, and there are many."""


@settings(deadline=None)
@given(n_frames=st.integers(8, 5000))
def test_windows_cover_the_clip_and_no_more(n_frames: int) -> None:
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
def test_every_frame_gets_one_whole_answer(n_frames: int, position: float) -> None:
    starts = window_starts(n_frames, WINDOW)

    total = torch.zeros(n_frames)
    for start, weight in zip(starts, crossfade_weights(starts, WINDOW, position), strict=True):
        total[start : start + WINDOW] += weight

    torch.testing.assert_close(total, torch.ones(n_frames))


def test_noise_depends_on_seed_and_place_alone() -> None:
    short, long = draw_noise(3, 100, 4), draw_noise(3, 500, 4)

    assert torch.equal(short, long[:, :100])
    assert not torch.equal(draw_noise(4, 100, 4), short)
    assert long.std() == pytest.approx(1, abs=0.1)
    assert not torch.equal(long[:, :64], long[:, 64:128])


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> LatentGenerator:
    """A small random network: enough for shapes, bytes and seams."""
    path: Path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(0)
    save_mini_checkpoint(path, MelAutoencoder(TINY_AUTOENCODER), MiniDenoiser(TINY_DENOISER))
    device = torch.device("cpu")
    return LatentGenerator(
        model=load_mini_checkpoint(str(path), device=device), device=device, steps=2
    )


@pytest.fixture(scope="module")
def note_generator(tmp_path_factory: pytest.TempPathFactory) -> LatentGenerator:
    """A generator conditioned on the note spectrogram."""
    path: Path = tmp_path_factory.mktemp("weights") / "sketching.safetensors"
    torch.manual_seed(0)
    save_mini_checkpoint(
        path, MelAutoencoder(TINY_NOTES_AUTOENCODER), MiniDenoiser(TINY_NOTES_DENOISER)
    )
    device = torch.device("cpu")
    return LatentGenerator(
        model=load_mini_checkpoint(str(path), device=device), device=device, steps=2
    )


def features(duration_s: float) -> ClipFeatures:
    peaks = np.arange(0.5, duration_s, 0.8)
    return ClipFeatures(
        duration_s=duration_s,
        peaks_s=peaks,
        strengths=np.ones(len(peaks)),
        energy=np.full(max(round(duration_s * 16), 1), 0.5),
    )


def generate_samples(
    generator: LatentGenerator, duration_s: float, seed: int = 0
) -> np.ndarray:
    blocks = list(
        generator.generate(features(duration_s), seed=seed, progress=lambda d, t: None)
    )
    samples: np.ndarray = np.concatenate(blocks, axis=1)[0]
    return samples


@settings(deadline=None, max_examples=4)
@given(duration_s=st.floats(1.0, 50.0))
def test_the_sound_is_as_long_as_the_clip(duration_s: float) -> None:
    class Copy(LatentGenerator):
        def _decode_block(
            self, latent: torch.Tensor, first_frame: int, seed: int
        ) -> np.ndarray:
            return np.full(480 * 1024 + 1323, first_frame, dtype=np.float32)

    copy = Copy(model=None, device=torch.device("cpu"))  # type: ignore[arg-type]
    n_frames = int(duration_s * 22_050 / 1024) + 10
    blocks = copy._decode_blocks(torch.zeros(32, n_frames), round(duration_s * 22_050), 0)
    assert sum(block.shape[1] for block in blocks) == round(duration_s * 22_050)


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(
    generator: LatentGenerator,
) -> None:
    first, again, other = (
        generate_samples(generator, 3),
        generate_samples(generator, 3),
        generate_samples(generator, 3, seed=1),
    )

    assert first.tobytes() == again.tobytes()
    assert np.abs(first - other).max() > 1e-3


def record_conditions(monkeypatch: pytest.MonkeyPatch) -> list[MiniCondition]:
    """The list to which networks append their conditions from now on."""
    recorded: list[MiniCondition] = []
    forward = MiniDenoiser.forward

    def recording_forward(
        network: MiniDenoiser,
        x: torch.Tensor,
        level: torch.Tensor,
        given: MiniCondition,
        *more: object,
    ) -> torch.Tensor:
        recorded.append(given)
        output: torch.Tensor = forward(network, x, level, given, *more)  # type: ignore[arg-type]
        return output

    monkeypatch.setattr(MiniDenoiser, "forward", recording_forward)
    return recorded


def test_every_window_is_told_the_sketch_of_its_own_stretch(
    note_generator: LatentGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of all notes at once, cut up: however long the piece and its blocks are."""
    conditions = record_conditions(monkeypatch)
    generate_samples(replace(note_generator, guidance=1.0), 40.0)
    recorded = [row for condition in conditions for row in condition.note_latent]

    layout = note_generator.compute_window_layout(40.0)
    n_frames = layout.length
    assert n_frames > DECODE_BLOCK_FRAMES
    clip = features(40.0)
    advanced = replace(clip, peaks_s=clip.peaks_s - ATTACK_LATENCY_S)
    plan = with_arrangement(advanced, seed=seed_from_rhythm(0, clip.peaks_s))
    assert plan.arrangement is not None
    frames = torch.from_numpy(render_note_spectrogram(plan.arrangement, 0, n_frames * 4))[None]
    full = note_generator.model.autoencoder.encode(frames)[0]
    assert full.std() > 0.1
    for start, window in zip(layout.starts, recorded, strict=False):
        torch.testing.assert_close(window, full[:, start : start + 64], atol=1e-4, rtol=1e-4)
    assert len(recorded) >= len(layout.starts)


@pytest.mark.parametrize("chords", [True, False])
@pytest.mark.parametrize("notes", [True, False])
def test_a_network_is_told_what_it_learned_of_and_no_more(
    note_generator: LatentGenerator, monkeypatch: pytest.MonkeyPatch, chords: bool, notes: bool
) -> None:
    model = copy.deepcopy(note_generator.model)
    model.denoiser.config = replace(
        model.denoiser.config, trained_with_harmony=chords, trained_with_notes=notes
    )
    conditions = record_conditions(monkeypatch)
    generate_samples(replace(note_generator, model=model, guidance=1.0), 3.0)
    for condition in conditions:
        assert bool(condition.aligned_harmony.any()) == chords
        assert bool(condition.note_latent.any()) == notes
        assert condition.aligned_rhythm.any()


def test_other_notes_are_another_sound(note_generator: LatentGenerator) -> None:
    clip = features(6.0)
    notes = with_arrangement(clip, seed=1)
    other = with_arrangement(clip, seed=2)
    assert notes.arrangement is not None
    one, again, two = (
        np.concatenate(
            list(note_generator.generate(recorded, seed=0, progress=lambda done, total: None)),
            axis=1,
        )
        for recorded in (notes, notes, replace(notes, arrangement=other.arrangement))
    )
    assert one.tobytes() == again.tobytes()
    assert np.abs(one - two).max() > 1e-3


def test_guidance_of_one_does_not_ask_what_there_is_without_the_rhythm(
    generator: LatentGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    forward = MiniDenoiser.forward

    def counted(network: MiniDenoiser, x: torch.Tensor, *recorded: object) -> torch.Tensor:
        rows.append(len(x))
        output: torch.Tensor = forward(network, x, *recorded)  # type: ignore[arg-type]
        return output

    monkeypatch.setattr(MiniDenoiser, "forward", counted)
    one = generate_samples(replace(generator, guidance=1.0), 3)
    assert rows == [1, 1]
    nearly = generate_samples(replace(generator, guidance=1.0 + 1e-6), 3)
    assert rows[2:] == [2, 2]
    # Phases are estimated from nearly the same spectrum: the same sound, not the same bytes.
    np.testing.assert_allclose(one, nearly, atol=1e-2)


def test_progress_ends_at_the_whole(generator: LatentGenerator) -> None:
    recorded: list[tuple[int, int]] = []

    list(
        generator.generate(features(30), seed=0, progress=lambda d, t: recorded.append((d, t)))
    )

    assert (
        recorded[-1][0] == recorded[-1][1] == generator.compute_window_layout(30).n_evaluations
    )
    assert [done for done, _ in recorded] == list(range(1, len(recorded) + 1))


def test_what_is_kept_stays_to_the_sample(generator: LatentGenerator) -> None:
    old = np.random.default_rng(0).normal(0, 0.1, 22_050 * 6).astype(np.float32)
    region = InpaintRegion(original=old[None], start_s=2.0, end_s=4.0)

    new = generate_samples(replace(generator, inpaint_region=region), 6)

    inside = slice(2 * 22_050, 4 * 22_050)
    outside = np.ones(len(old), dtype=bool)
    outside[inside] = False
    assert np.array_equal(new[outside], old[outside])
    assert np.abs(new[inside] - old[inside]).mean() > 1e-3


def code(generator: LatentGenerator, duration_s: float, sampler: SamplerName) -> torch.Tensor:
    sampled = replace(generator, sampler=sampler)
    return sampled._draw(features(duration_s), seed=0, progress=lambda d, t: None)


@pytest.mark.parametrize("duration_s", [3, 16])
def test_in_bf16_the_code_is_nearly_that_of_fp32(
    generator: LatentGenerator, duration_s: float
) -> None:
    exact = code(generator, duration_s, "dpmpp-2m")
    rough = code(replace(generator, dtype=torch.bfloat16), duration_s, "dpmpp-2m")

    assert rough.dtype == torch.float32
    off = (rough - exact).norm() / exact.norm()
    assert 0 < off < BF16_OFF


def test_in_fp32_nothing_is_cast(
    generator: LatentGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", None)
    assert np.isfinite(generate_samples(generator, 3)).all()


@pytest.mark.parametrize(
    ("sampler", "duration_s"),
    [("dpmpp-2m", 3), ("dpmpp-2m", 16), ("adpm2", 3), ("dpmpp-2m-sde", 3), ("heun", 3)],
)
def test_no_step_waits_for_the_device(
    generator: LatentGenerator, sampler: SamplerName, duration_s: float
) -> None:
    """The meta device has no values: whatever would read one, or bring it back, fails."""
    denoiser = copy.deepcopy(generator.model.denoiser).to(META)
    meta_generator = replace(
        generator, model=replace(generator.model, denoiser=denoiser), device=META
    )
    n_copies = []
    for steps in (2, 3):
        counted = HostToDeviceCopyCounter(META)
        with counted:
            found = code(replace(meta_generator, steps=steps), duration_s, sampler)
        assert found.device == META
        assert found.shape[1] == generator.compute_window_layout(duration_s).length
        n_copies.append(counted.n_copies)
    # Of a step, nothing but the noise that the host draws for it is sent.
    assert n_copies[1] - n_copies[0] == (sampler in ("adpm2", "dpmpp-2m-sde"))
    assert n_copies[0] > 0

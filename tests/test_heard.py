"""Pseudo rhythms: conditioning features of audio without a dancer or a score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_lessons import COMPOSED, DANCED

from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_annotations
from loris_cli.models.mel_autoencoder import MelAutoencoder, MelAutoencoderConfig
from loris_cli.soundtrack.latent_generator import ATTACK_LATENCY_S
from loris_cli.system.progress import NullReporter
from loris_cli.training.audio_analysis import extract_pseudo_rhythm
from loris_cli.training.datasets import ClipAnnotations, sample_condition_source
from loris_cli.training.latent_cache import (
    read_latents,
    read_pseudo_rhythms,
    write_latent_cache,
)

MOMENTS_S = np.array([0.8, 1.5, 2.7, 3.4, 5.2, 6.1])
LOUD = np.array([1.0, 0.3, 1.0, 0.3, 1.0, 0.3])


def strokes() -> np.ndarray:
    samples = np.zeros(7 * 22_050)
    t = np.arange(6000) / 22_050
    for hit_s, loud in zip(MOMENTS_S, LOUD, strict=True):
        start = round(hit_s * 22_050)
        samples[start : start + len(t)] += (
            loud * np.sin(2 * np.pi * 700 * t) * np.exp(-t / 0.04)
        )
    return samples.astype(np.float32)


def test_peaks_are_the_onsets_less_the_attack() -> None:
    pseudo_rhythm = extract_pseudo_rhythm(strokes(), genre="pop")

    np.testing.assert_allclose(pseudo_rhythm.peaks_s, MOMENTS_S - ATTACK_LATENCY_S, atol=0.015)
    assert (
        pseudo_rhythm.strengths[LOUD == 1.0].min() > pseudo_rhythm.strengths[LOUD < 1.0].max()
    )
    assert pseudo_rhythm.strengths.min() >= 0.35
    assert pseudo_rhythm.strengths.max() == 1.0
    assert pseudo_rhythm.genre == "pop"


def test_energy_is_high_where_it_is_loud() -> None:
    level = np.repeat([1.0, 0.1, 0.01], 2 * 22_050)
    samples = level * np.random.default_rng(0).normal(size=len(level))

    energy = extract_pseudo_rhythm(samples.astype(np.float32)).energy

    assert len(energy) == 6 * 16
    np.testing.assert_allclose(energy[[16, 48, 80]], [1.0, 0.1, 0.01], atol=0.08)


def test_silence_has_no_peaks_and_no_energy() -> None:
    pseudo_rhythm = extract_pseudo_rhythm(np.zeros(4 * 22_050, dtype=np.float32))

    assert len(pseudo_rhythm.peaks_s) == len(pseudo_rhythm.strengths) == 0
    assert not pseudo_rhythm.energy.any()


def test_a_clip_is_now_and_then_told_by_its_sound() -> None:
    rng = np.random.default_rng(0)
    pseudo_rhythm = replace(COMPOSED, peaks_s=np.array([7.0]), strengths=np.array([0.6]))
    sources = [
        sample_condition_source(ClipAnnotations(COMPOSED, DANCED, pseudo_rhythm), rng)
        for _ in range(2000)
    ]

    from_audio = [source for source in sources if source.peaks_s.tolist() == [7.0]]

    assert len(from_audio) / len(sources) == pytest.approx(0.1, abs=0.03)
    assert all(source.keypoints is None for source in from_audio)


def test_a_clip_of_which_nothing_else_is_known_is_always_told_by_its_sound(
    tmp_path: Path,
) -> None:
    (tmp_path / "audio").mkdir()
    clip = Clip(
        id="a",
        subset="music",
        partition="train",
        duration_s=7.0,
        genre="pop",
        source="strokes",
        audio="audio/a.flac",
        rhythm="",
    )
    soundfile.write(tmp_path / clip.audio, strokes(), 22_050)
    torch.manual_seed(0)
    coder = MelAutoencoder(MelAutoencoderConfig(width=16, latent_channels=8, n_blocks=1))

    write_latent_cache(
        tmp_path / "codes.safetensors",
        coder,
        tmp_path,
        [clip],
        device=torch.device("cpu"),
        workers=0,
        reporter=NullReporter(),
    )

    codes, note_latents = read_latents(tmp_path / "codes.safetensors", coder)
    assert not note_latents  # its notes are unknown
    assert codes["a"].shape == (8, 7 * 22_050 // 1024)
    np.testing.assert_allclose(codes["a"].mean(axis=1), 0, atol=0.02)
    np.testing.assert_allclose(codes["a"].std(axis=1), 1, atol=0.02)
    pseudo_rhythm = read_pseudo_rhythms(tmp_path / "codes.safetensors", [clip])["a"]
    source = ClipAnnotations(read_annotations(tmp_path, clip), None, pseudo_rhythm)
    for seed in range(20):
        peaks_s = sample_condition_source(source, np.random.default_rng(seed)).peaks_s
        np.testing.assert_allclose(peaks_s, MOMENTS_S - ATTACK_LATENCY_S, atol=0.015)

"""Pseudo-rhythm from the audio of a clip, for training clips without poses or a score."""

from pathlib import Path

import numpy as np
import pytest
import torch
from builders import make_clip, make_features, write_clip
from tiny_models import TINY_AUTOENCODER

from loris_cli.dataset.read_clips import read_annotations
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.soundtrack.latent_generator import ATTACK_LATENCY_S
from loris_cli.system.progress import NullReporter
from loris_cli.training.datasets import ClipAnnotations, TrainingClips, sample_condition
from loris_cli.training.latent_cache import (
    extract_pseudo_rhythm,
    read_latent_cache,
    write_latent_cache,
)

ONSETS_S = np.array([0.8, 1.5, 2.7, 3.4, 5.2, 6.1])
AMPLITUDES = np.array([1.0, 0.3, 1.0, 0.3, 1.0, 0.3])


def render_decaying_tones() -> np.ndarray:
    """7 s of audio with a decaying tone at every onset time."""
    samples = np.zeros(7 * 22_050)
    t = np.arange(6000) / 22_050
    for onset_s, amplitude in zip(ONSETS_S, AMPLITUDES, strict=True):
        start = round(onset_s * 22_050)
        samples[start : start + len(t)] += (
            amplitude * np.sin(2 * np.pi * 700 * t) * np.exp(-t / 0.04)
        )
    return samples.astype(np.float32)


def test_peaks_precede_the_onsets_by_the_attack_latency() -> None:
    rhythm = extract_pseudo_rhythm(render_decaying_tones())

    np.testing.assert_allclose(rhythm.peaks_s, ONSETS_S - ATTACK_LATENCY_S, atol=0.015)
    assert rhythm.strengths[AMPLITUDES == 1.0].min() > rhythm.strengths[AMPLITUDES < 1.0].max()
    assert rhythm.strengths.min() >= 0.35
    assert rhythm.strengths.max() == 1.0


def test_energy_is_proportional_to_the_level_of_the_audio() -> None:
    level = np.repeat([1.0, 0.1, 0.01], 2 * 22_050)
    samples = level * np.random.default_rng(0).normal(size=len(level))

    energy = extract_pseudo_rhythm(samples.astype(np.float32)).energy

    assert len(energy) == 6 * 16
    np.testing.assert_allclose(energy[[16, 48, 80]], [1.0, 0.1, 0.01], atol=0.08)


def test_silence_has_no_peaks_and_no_energy() -> None:
    rhythm = extract_pseudo_rhythm(np.zeros(4 * 22_050, dtype=np.float32))

    assert len(rhythm.peaks_s) == len(rhythm.strengths) == 0
    assert not rhythm.energy.any()


def test_annotated_clip_uses_the_pseudo_rhythm_in_10_percent_of_examples() -> None:
    rng = np.random.default_rng(0)
    score_features = make_features(24.0)
    pose_features = make_features(24.0, keypoints=np.ones((384, 17, 3)))
    pseudo_rhythm = make_features(24.0, [7.0])
    annotations = ClipAnnotations(score_features, pose_features, pseudo_rhythm)
    sampled = [sample_condition(annotations, rng) for _ in range(2000)]

    from_audio = [features for features in sampled if features.peaks_s.tolist() == [7.0]]

    assert len(from_audio) / len(sampled) == pytest.approx(0.1, abs=0.03)
    assert all(features.keypoints is None for features in from_audio)


def test_clip_with_audio_alone_always_uses_the_pseudo_rhythm(tmp_path: Path) -> None:
    clip = make_clip("a", duration_s=7.0, rhythm="")
    write_clip(tmp_path, clip, render_decaying_tones(), np.empty(0))
    torch.manual_seed(0)
    autoencoder = MelAutoencoder(TINY_AUTOENCODER)

    write_latent_cache(
        tmp_path / "latents.safetensors",
        autoencoder,
        TrainingClips(data_dir=tmp_path, train=[clip], val=[]),
        device=torch.device("cpu"),
        workers=0,
        reporter=NullReporter(),
    )

    cache = read_latent_cache(tmp_path / "latents.safetensors", autoencoder, [clip])
    assert not cache.note_latents
    assert cache.latents["a"].shape == (TINY_AUTOENCODER.latent_channels, 7 * 22_050 // 1024)
    np.testing.assert_allclose(cache.latents["a"].mean(axis=1), 0, atol=0.02)
    np.testing.assert_allclose(cache.latents["a"].std(axis=1), 1, atol=0.02)
    annotations = ClipAnnotations(
        read_annotations(tmp_path, clip), None, cache.pseudo_rhythms["a"]
    )
    for seed in range(20):
        peaks_s = sample_condition(annotations, np.random.default_rng(seed)).peaks_s
        np.testing.assert_allclose(peaks_s, ONSETS_S - ATTACK_LATENCY_S, atol=0.015)

"""Clips without poses or a score: a pseudo-rhythm from their own audio."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_training_data import ANNOTATED_FEATURES, POSE_FEATURES

from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_annotations
from loris_cli.models.mel_autoencoder import MelAutoencoder, MelAutoencoderConfig
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


def make_click_audio() -> np.ndarray:
    samples = np.zeros(7 * 22_050)
    t = np.arange(6000) / 22_050
    for onset_s, amplitude in zip(ONSETS_S, AMPLITUDES, strict=True):
        start = round(onset_s * 22_050)
        samples[start : start + len(t)] += (
            amplitude * np.sin(2 * np.pi * 700 * t) * np.exp(-t / 0.04)
        )
    return samples.astype(np.float32)


def test_peaks_are_the_onsets_less_the_attack() -> None:
    rhythm = extract_pseudo_rhythm(make_click_audio())

    np.testing.assert_allclose(rhythm.peaks_s, ONSETS_S - ATTACK_LATENCY_S, atol=0.015)
    assert rhythm.strengths[AMPLITUDES == 1.0].min() > rhythm.strengths[AMPLITUDES < 1.0].max()
    assert rhythm.strengths.min() >= 0.35
    assert rhythm.strengths.max() == 1.0


def test_energy_is_high_where_it_is_loud() -> None:
    level = np.repeat([1.0, 0.1, 0.01], 2 * 22_050)
    samples = level * np.random.default_rng(0).normal(size=len(level))

    energy = extract_pseudo_rhythm(samples.astype(np.float32)).energy

    assert len(energy) == 6 * 16
    np.testing.assert_allclose(energy[[16, 48, 80]], [1.0, 0.1, 0.01], atol=0.08)


def test_silence_has_no_peaks_and_no_energy() -> None:
    rhythm = extract_pseudo_rhythm(np.zeros(4 * 22_050, dtype=np.float32))

    assert len(rhythm.peaks_s) == len(rhythm.strengths) == 0
    assert not rhythm.energy.any()


def test_a_clip_is_now_and_then_told_by_its_sound() -> None:
    rng = np.random.default_rng(0)
    rhythm = replace(ANNOTATED_FEATURES, peaks_s=np.array([7.0]), strengths=np.array([0.6]))
    sampled = [
        sample_condition(ClipAnnotations(ANNOTATED_FEATURES, POSE_FEATURES, rhythm), rng)
        for _ in range(2000)
    ]

    from_audio = [features for features in sampled if features.peaks_s.tolist() == [7.0]]

    assert len(from_audio) / len(sampled) == pytest.approx(0.1, abs=0.03)
    assert all(features.keypoints is None for features in from_audio)


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
    soundfile.write(tmp_path / clip.audio, make_click_audio(), 22_050)
    torch.manual_seed(0)
    coder = MelAutoencoder(MelAutoencoderConfig(width=16, latent_channels=8, n_blocks=1))

    write_latent_cache(
        tmp_path / "latents.safetensors",
        coder,
        TrainingClips(data_dir=tmp_path, train=[clip], val=[]),
        device=torch.device("cpu"),
        workers=0,
        reporter=NullReporter(),
    )

    cache = read_latent_cache(tmp_path / "latents.safetensors", coder, [clip])
    assert not cache.note_latents  # its notes are unknown
    assert cache.latents["a"].shape == (8, 7 * 22_050 // 1024)
    np.testing.assert_allclose(cache.latents["a"].mean(axis=1), 0, atol=0.02)
    np.testing.assert_allclose(cache.latents["a"].std(axis=1), 1, atol=0.02)
    annotations = ClipAnnotations(
        read_annotations(tmp_path, clip), None, cache.pseudo_rhythms["a"]
    )
    for seed in range(20):
        peaks_s = sample_condition(annotations, np.random.default_rng(seed)).peaks_s
        np.testing.assert_allclose(peaks_s, ONSETS_S - ATTACK_LATENCY_S, atol=0.015)

"""Experiment scores of takes: known answers for the reference audio, and its spectrogram."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from builders import make_clip, write_clip
from clip_scores import HeldOutClip
from spectrograms import ClipAudio, plot_spectrograms

from loris_cli.array_types import Array, Samples
from loris_cli.dataset.manifest import Clip
from loris_cli.evaluation.runner.audio_sources import ClickTrain, load_samples
from loris_cli.soundtrack.latent_generator import ATTACK_LATENCY_S

ONSETS_S = np.array([0.8, 1.5, 2.7, 3.4, 5.2, 6.1])
N_SAMPLES = 7 * 22_050


def render_clicks() -> Samples:
    """7 s of audio with a click at every onset time."""
    samples, _ = load_samples(
        ClickTrain(click_times_s=tuple(ONSETS_S.tolist()), n_samples=N_SAMPLES)
    )
    return samples


def write_click_clip(folder: Path, clip_id: str, accents_s: Array) -> Clip:
    clip = make_clip(clip_id, partition="test", duration_s=7.0)
    write_clip(folder, clip, render_clicks(), accents_s, energy=np.linspace(0, 1, 112))
    return clip


def test_reference_audio_matches_its_own_accents_and_no_others(tmp_path: Path) -> None:
    clip = write_click_clip(tmp_path, "a", ONSETS_S - ATTACK_LATENCY_S)
    mismatched_clip = write_click_clip(tmp_path, "b", ONSETS_S - 0.3)

    scores = HeldOutClip(tmp_path, clip, mismatched_clip=mismatched_clip).score_takes(
        [render_clicks(), render_clicks()], ONSETS_S
    )

    assert scores.mean_values["recall"] == scores.mean_values["precision"] == 1.0
    assert scores.mean_values["mismatched_recall"] == 0.0
    assert scores.values_by_take["chroma_distance"][0] < 1e-6
    assert scores.values_by_take["onset_distance"] == [0.0]
    assert len(scores.log_mels) == len(scores.musicnn_features) == 2
    assert scores.log_mels[0].shape == (128, N_SAMPLES // 256 + 1)


def test_takes_without_common_onsets_have_onset_distance_one(tmp_path: Path) -> None:
    clip = write_click_clip(tmp_path, "a", ONSETS_S)
    delayed = np.roll(render_clicks(), 4000)

    scores = HeldOutClip(tmp_path, clip, mismatched_clip=clip).score_takes(
        [render_clicks(), delayed], ONSETS_S
    )

    assert scores.values_by_take["onset_distance"] == [1.0]
    assert scores.values_by_take["recall"] == [1.0, 0.0]


@pytest.mark.slow
def test_spectrogram_of_clicks_is_bright_and_of_silence_dark(tmp_path: Path) -> None:
    clip = ClipAudio(
        title="a $ pop",
        accents_s=ONSETS_S,
        audio_by_column={
            "reference": render_clicks(),
            "generated": np.zeros(N_SAMPLES, np.float32),
        },
    )

    plot_spectrograms(tmp_path / "a.png", [clip])

    image = cv2.imread(str(tmp_path / "a.png"))
    assert image is not None
    brightness = image.astype(int).sum(axis=2)[60:-60]  # without titles and labels
    middle = image.shape[1] // 2
    left, right = brightness[:, 60 : middle - 10], brightness[:, middle + 60 : -20]
    assert (right < 40).mean() > 0.7
    # Upper half of the color map; the white background is in both columns.
    assert (left > 350).mean() > (right > 350).mean()

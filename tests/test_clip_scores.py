"""Scores of clips in the experiments: the audio of a clip scores as its reference should."""

from pathlib import Path

import cv2
import numpy as np
import soundfile
from clip_scores import HeldOutClip, render_note_spectrograms
from spectrograms import ClipAudio, plot_spectrograms
from test_pseudo_rhythm import ONSETS_S, make_click_audio

from loris_cli.dataset.manifest import Clip
from loris_cli.soundtrack.latent_generator import ATTACK_LATENCY_S


def clip_at(folder: Path, name: str, accents_s: np.ndarray) -> Clip:
    for room in ("audio", "rhythm"):
        (folder / room).mkdir(exist_ok=True)
    clip = Clip(
        id=name,
        subset="strokes",
        partition="test",
        duration_s=7.0,
        genre="pop",
        source="strokes",
        audio=f"audio/{name}.flac",
        rhythm=f"rhythm/{name}.npz",
    )
    soundfile.write(folder / clip.audio, make_click_audio(), 22_050)
    np.savez(
        folder / clip.rhythm,
        accents_s=accents_s,
        strengths=np.ones(len(accents_s)),
        energy=np.linspace(0, 1, 112),
        beats_s=np.empty(0),
    )
    return clip


def test_the_truth_hits_and_another_rhythm_does_not(tmp_path: Path) -> None:
    clip = clip_at(tmp_path, "a", ONSETS_S - ATTACK_LATENCY_S)
    other = clip_at(tmp_path, "b", ONSETS_S - 0.3)

    scored = HeldOutClip(tmp_path, clip, mismatched_clip=other).score_takes(
        [make_click_audio(), make_click_audio()], ONSETS_S
    )

    assert scored.mean_values["recall"] == scored.mean_values["precision"] == 1.0
    assert scored.mean_values["mismatched_recall"] == 0.0
    assert scored.values_by_take["chroma_distance"][0] < 1e-6
    assert scored.values_by_take["onset_distance"] == [0.0]
    assert len(scored.log_mels) == len(scored.musicnn_features) == 2
    assert scored.log_mels[0].shape == (128, 7 * 22_050 // 256 + 1)


def test_sketched_notes_are_heard_when_they_are_to_land(tmp_path: Path) -> None:
    clip = clip_at(tmp_path, "a", ONSETS_S)
    case = HeldOutClip(tmp_path, clip, mismatched_clip=clip)

    takes = render_note_spectrograms(case.features, 2)

    assert [len(take) for take in takes] == [7 * 22_050] * 2
    assert case.score_takes(takes, ONSETS_S).mean_values["recall"] == 1.0
    assert np.abs(takes[0] - takes[1]).max() > 0.01


def test_takes_of_different_rhythms_are_apart(tmp_path: Path) -> None:
    clip = clip_at(tmp_path, "a", ONSETS_S)
    late = np.roll(make_click_audio(), 4000)

    scored = HeldOutClip(tmp_path, clip, mismatched_clip=clip).score_takes(
        [make_click_audio(), late], ONSETS_S
    )

    assert scored.values_by_take["onset_distance"] == [1.0]
    assert scored.values_by_take["recall"] == [1.0, 0.0]


def test_a_stroke_is_seen_where_it_is_and_only_in_its_own_column(tmp_path: Path) -> None:
    silence = np.zeros(7 * 22_050, dtype=np.float32)
    shown = ClipAudio(
        title="a $ pop",
        accents_s=ONSETS_S,
        audio_by_column={"truth": make_click_audio(), "made": silence},
    )

    plot_spectrograms(tmp_path / "a.png", [shown])

    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture is not None
    bright = picture.astype(int).sum(axis=2) > 350  # magma's upper half; the paper is white
    middle = picture.shape[1] // 2
    inside = bright[60:-60]  # off titles and labels
    dark = picture.astype(int).sum(axis=2) < 40
    assert dark[60:-60, middle + 60 : -20].mean() > 0.7
    left, right = inside[:, 60 : middle - 10].mean(), inside[:, middle + 60 : -20].mean()
    assert left > right

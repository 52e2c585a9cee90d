"""Conditioning signals: the rhythm at the frame rate of the latent."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.composition.chords import SCALES, Harmony
from loris_cli.config import GENRES
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.soundtrack.clip_features import (
    COMPOSED_ENERGY_RANGE,
    choose_genre,
    seed_from_rhythm,
    select_accents,
    smoothed_energy,
    with_arrangement,
)
from loris_cli.soundtrack.conditioning import (
    HARMONY_CHANNELS,
    LATENT_FPS,
    MAX_PEAK_INTERVAL_S,
    align_harmony_to_latent,
    align_rhythm_to_latent,
    build_condition,
    collate_conditions,
    normalize_pose,
    rhythm_tokens,
)

CLIP = ClipFeatures(
    duration_s=20.0,
    peaks_s=np.array([1.0, 2.5, 7.25]),
    strengths=np.array([1.0, 0.5, 0.8]),
    energy=np.linspace(0, 1, 320),
    genre="skate",
)


def curve(features: ClipFeatures, index: int, start: int, frames: int) -> np.ndarray:
    """One of the five curves at its own rate of 86 Hz."""
    folded = align_rhythm_to_latent(features, start, frames).reshape(5, 4, frames)
    values: np.ndarray = folded[index].T.ravel()
    return values


def test_bumps_stand_at_the_peaks() -> None:
    bumps = curve(CLIP, 0, 0, 400)

    times_s = np.arange(len(bumps)) / (LATENT_FPS * 4)
    tops = times_s[1:-1][(bumps[1:-1] > bumps[:-2]) & (bumps[1:-1] >= bumps[2:])]
    np.testing.assert_allclose(tops, CLIP.peaks_s, atol=0.5 / (LATENT_FPS * 4))


def test_the_wide_bump_is_as_high_as_the_peak_is_strong() -> None:
    wide = curve(CLIP, 2, 0, 400)

    at = np.round(CLIP.peaks_s * LATENT_FPS * 4).astype(int)
    np.testing.assert_allclose(wide[at], CLIP.strengths, atol=0.01)


def test_the_trace_falls_from_each_peak_and_is_none_before_the_first() -> None:
    trace = curve(CLIP, 3, 0, 400)

    times_s = np.arange(len(trace)) / (LATENT_FPS * 4)
    assert (trace[times_s < 0.99] == 0).all()
    falling = (times_s > 1.02) & (times_s < 2.45)
    assert (np.diff(trace[falling]) < 0).all()


def test_energy_is_read_at_the_right_second() -> None:
    energy = curve(CLIP, 4, 0, 400)

    times_s = np.arange(len(energy)) / (LATENT_FPS * 4)
    inside = times_s < 19.9
    np.testing.assert_allclose(energy[inside], times_s[inside] * 16 / 319, atol=1e-6)


@settings(deadline=None)
@given(start=st.integers(0, 300), frames=st.sampled_from([8, 64, 120]))
def test_a_window_is_told_what_the_whole_clip_is_told_there(start: int, frames: int) -> None:
    full = align_rhythm_to_latent(CLIP, 0, 430)

    np.testing.assert_allclose(
        align_rhythm_to_latent(CLIP, start, frames), full[:, start : start + frames], atol=1e-5
    )


def test_tokens_are_the_paper_s_sequence() -> None:
    peaks, interval_s = rhythm_tokens(CLIP, 0, 256)

    assert np.flatnonzero(peaks).tolist() == [16, 40, 116]
    assert interval_s[:15].tolist() == [0.0] * 15
    assert interval_s[15] == 0.0  # the moment of the peak itself
    np.testing.assert_allclose(interval_s[16:39], np.arange(1, 24) / 16)


def test_a_long_pause_is_no_longer_than_the_network_knows() -> None:
    sparse = replace(CLIP, peaks_s=np.array([0.5]), strengths=np.ones(1), duration_s=3600.0)

    _, interval_s = rhythm_tokens(sparse, 40_000, 256)

    assert set(interval_s) == {MAX_PEAK_INTERVAL_S}


def test_a_clip_without_peaks_is_told_so() -> None:
    calm = replace(CLIP, peaks_s=np.zeros(0), strengths=np.zeros(0))

    condition = build_condition(calm, 0, 64)

    assert not condition.peaks.any()
    assert torch.isfinite(condition.aligned_rhythm).all()
    assert not curve(calm, 0, 0, 64).any()


def test_genre_is_a_one_hot_and_nothing_where_it_is_free() -> None:
    condition = collate_conditions(
        [build_condition(CLIP, 0, 64), build_condition(replace(CLIP, genre=None), 0, 64)]
    )

    assert condition.genre[0].nonzero().ravel().tolist() == [GENRES.index("skate")]
    assert not condition.genre[1].any()


def test_videos_of_a_batch_share_no_key_for_sharing_a_seed() -> None:
    """Bodies that strike at other times get other keys; the same body the same, every time."""
    rng = np.random.default_rng(2)
    videos = [np.cumsum(rng.gamma(3, 0.3, 20)) for _ in range(40)]
    keys = []
    for peaks_s in videos:
        clip = replace(CLIP, peaks_s=peaks_s, strengths=np.ones(20), duration_s=40.0)
        one, again = (
            with_arrangement(clip, seed=seed_from_rhythm(0, peaks_s.copy())) for _ in range(2)
        )
        assert one.harmony is not None
        assert again.harmony is not None
        assert one.harmony.tonic == again.harmony.tonic
        keys.append(one.harmony.tonic)
    assert len(set(keys)) > 8
    assert (
        seed_from_rhythm(0, videos[0])
        != seed_from_rhythm(1, videos[0])
        != seed_from_rhythm(1, videos[1])
    )
    assert seed_from_rhythm(3, np.empty(0)) == seed_from_rhythm(3, np.empty(0))


def test_who_dances_to_a_beat_gets_a_dance_and_who_does_not_a_sport() -> None:
    beat = np.arange(1.0, 25.0, 0.5)
    free = np.cumsum(np.random.default_rng(1).gamma(3, 0.3, 25))

    assert {choose_genre(beat, seed=seed) for seed in range(60)} == set(GENRES[:10])
    assert {choose_genre(free, seed=seed) for seed in range(60)} == {"floor", "skate"}


def test_a_weak_peak_is_left_out_beside_a_strong_one_and_stays_where_it_is_alone() -> None:
    times = np.array([1.0, 1.5, 5.0, 9.0])
    strengths = np.array([0.9, 0.1, 0.1, 0.25])

    selected, loud = select_accents(times, strengths)

    assert selected.tolist() == [1.0, 5.0, 9.0]
    assert (np.diff(loud) != 0).all()
    assert loud.min() >= 0.35
    assert loud.max() <= 1


def test_no_peaks_are_no_accents() -> None:
    selected, loud = select_accents(np.zeros(0), np.zeros(0))

    assert len(selected) == len(loud) == 0


PLAN = Harmony(
    tonic=0,
    scale=SCALES["major"],
    chord_starts_s=np.array([0.0, 4.0]),
    chord_degrees=np.array([0, 4]),
    subdivisions_s=np.array([1.0, 2.0, 3.0]),
)


def test_chords_and_pulse_stand_at_their_times() -> None:
    condition = align_harmony_to_latent(PLAN, 0, 200)
    change = 4.0 * LATENT_FPS

    assert condition.shape == (HARMONY_CHANNELS, 200)
    assert np.flatnonzero(condition[:12, 10]).tolist() == [0, 4, 7]
    assert np.flatnonzero(condition[:12, 150]).tolist() == [2, 7, 11]
    assert np.flatnonzero(condition[12:24, 150]).tolist() == [7]
    between = condition[[4, 11], int(change)]
    assert between.sum() == 1  # shares of the frame in which the chord changes
    bumps = condition[28:].T.ravel()
    tops = np.flatnonzero((bumps[1:-1] > bumps[:-2]) & (bumps[1:-1] >= bumps[2:])) + 1
    np.testing.assert_allclose(
        tops / (LATENT_FPS * 4), PLAN.subdivisions_s, atol=0.5 / (LATENT_FPS * 4)
    )


def test_a_stretch_is_told_what_the_whole_is_told_there() -> None:
    full, window = align_harmony_to_latent(PLAN, 0, 200), align_harmony_to_latent(PLAN, 64, 100)
    np.testing.assert_allclose(full[:, 64:164], window)


def test_without_a_plan_nothing_is_told() -> None:
    assert not align_harmony_to_latent(None, 0, 64).any()


def test_a_plan_is_drawn_by_the_seed_unless_there_is_one() -> None:
    condition = replace(CLIP, harmony=PLAN)
    assert with_arrangement(condition, seed=0).harmony is PLAN
    drawn = [with_arrangement(CLIP, seed=seed).harmony for seed in (0, 0, 1, 2, 3)]
    keys = [plan.tonic for plan in drawn if plan is not None]
    assert keys[0] == keys[1]
    assert len(set(keys)) > 1


def test_a_body_is_the_same_wherever_it_stands_and_however_large_it_is() -> None:
    keypoints = np.random.default_rng(0).uniform(0, 100, (320, 17, 3))
    keypoints[..., 2] = 0.8
    moved = keypoints * (2.5, 2.5, 1) + (40, -7, 0)

    normalized = normalize_pose(keypoints, 0, 320)
    np.testing.assert_allclose(normalize_pose(moved, 0, 320), normalized)
    np.testing.assert_allclose(normalize_pose(keypoints, 64, 100), normalized[48:148])
    assert not normalize_pose(None, 0, 32).any()


def test_a_body_that_is_not_seen_for_a_while_is_not_there() -> None:
    keypoints = np.random.default_rng(0).uniform(0, 100, (320, 17, 3))
    keypoints[..., 2] = 0.8
    keypoints[100:120, :, 2] = 0
    normalized = normalize_pose(keypoints, 0, 320)
    assert not normalized[100:120].any()
    assert normalized[120:].any()


def test_notes_go_by_a_body_as_by_a_composer() -> None:
    """Its bursts become rises and falls in the range of composed energy; calm stays calm."""
    rng = np.random.default_rng(0)
    bursts = np.zeros(400)
    bursts[50:350:23] = 1.0
    bursts = np.convolve(bursts, np.hanning(9), mode="same") * rng.uniform(0.3, 1.0, 400)

    lively = smoothed_energy(bursts)

    assert lively.min() >= 0
    assert lively.max() <= 1
    low, middle, high = np.percentile(lively, [5, 50, 95])
    assert (low, high) == pytest.approx(COMPOSED_ENERGY_RANGE, abs=0.01)
    assert low < middle < high
    assert np.abs(np.diff(lively)).max() < np.abs(np.diff(bursts)).max() / 2
    assert lively[:20].max() < lively[100:300].mean()


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_what_never_changes_is_not_blown_up(level: float) -> None:
    still = np.full(160, level) + np.random.default_rng(1).uniform(0, 1e-4, 160)
    assert np.ptp(smoothed_energy(still)) < 0.01
    assert len(smoothed_energy(np.empty(0))) == 0


def test_a_composed_piece_keeps_its_energy_and_a_seen_one_does_not() -> None:
    peaks_s = np.arange(0.5, 24, 0.5)
    energy = np.zeros(384)
    energy[::40] = 1.0
    composed = ClipFeatures(
        duration_s=24.0,
        peaks_s=peaks_s,
        strengths=np.ones(len(peaks_s)),
        energy=energy,
        genre="house",
    )
    normalized = replace(composed, keypoints=np.zeros((384, 17, 3)))
    notes = [
        with_arrangement(condition, seed=0).arrangement for condition in (composed, normalized)
    ]
    assert notes[0] is not None
    assert notes[1] is not None
    assert len(notes[1].note_array) > len(notes[0].note_array)
    assert normalized.energy is composed.energy

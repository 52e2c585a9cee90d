"""What clips are judged by, how they are shared out, and what of a run is whose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.audio.accents import compute_audio_energy, detect_accents
from loris_cli.dataset.clip_cutting import Segment
from loris_cli.dataset.clip_media import ClipMedia
from loris_cli.dataset.filters import QualityMeasures, list_rejection_reasons, measure_quality
from loris_cli.dataset.partitions import assign_partitions
from loris_cli.pose.keypoints import Poses

RATE_HZ = 22_050
N = 6 * RATE_HZ
TIMES_S = np.arange(N) / RATE_HZ
Samples = np.ndarray


def chord(level: float = 0.1) -> Samples:
    tones = [np.sin(2 * np.pi * hz * TIMES_S) for hz in (220, 277, 330)]
    sound: Samples = (level * np.sum(tones, axis=0)).astype(np.float32)
    return sound


def noise(level: float = 0.1) -> Samples:
    return np.random.default_rng(0).normal(0, level, N).astype(np.float32)


def poses_in(share: float) -> Poses:
    """Poses of a performer that is detected in a share of 100 frames."""
    return Poses(
        keypoints=np.zeros((100, 17, 3), np.float32),
        times_s=np.arange(100) / 16,
        fps=16.0,
        size=(320, 240),
        interpolated=np.arange(100) >= 100 * share,
        cuts=np.zeros(0, np.int64),
    )


def measure(
    music: Samples,
    *,
    mix: Samples | None = None,
    is_separated: bool = True,
    n_persons: list[int] | None = None,
    person_share: float = 1.0,
    gaps_s: tuple[tuple[float, float], ...] = (),
) -> QualityMeasures:
    media = ClipMedia(
        mix=music if mix is None else mix,
        accompaniment=music,
        poses=poses_in(person_share),
        persons_per_frame=None if n_persons is None else tuple(n_persons),
        gaps_s=gaps_s,
    )
    segment = Segment(subset="fe25", index=0, start_s=10.0, duration_s=6.0)
    return measure_quality(media, segment, separated=is_separated)


def test_a_clip_as_it_should_be_has_no_reason_against_it() -> None:
    assert list_rejection_reasons(measure(chord(), n_persons=[1] * 96)) == []


def test_each_fault_has_its_reason() -> None:
    half = chord()
    half[: N // 2] = 0
    clipped = np.clip(chord(2.0), -1, 1)
    for fault, reason in (
        (measure(half), "silence"),
        (measure(clipped), "clipping"),
        (measure(noise()), "no music"),
        (measure(chord(0.01), mix=chord(0.01) + noise(0.3)), "residual voice"),
        (measure(chord(), person_share=0.4), "no person"),
        (measure(chord(), n_persons=[2] * 30 + [1] * 66), "more than one person"),
        (measure(chord(), gaps_s=((9.0, 10.5), (15.8, 20.0))), "missing frames"),
    ):
        assert list_rejection_reasons(fault) == [reason]


def test_measures_by_hand() -> None:
    half = chord()
    half[: N // 2] = 0
    found = measure(half, n_persons=[0, 1, 2, 3], gaps_s=((9.0, 10.5), (15.8, 20.0)))
    assert (found.silent_share, found.multi_person_share) == (0.5, 0.5)
    assert found.missing_frame_share == pytest.approx(0.7 / 6, abs=1e-4)
    assert measure(noise()).spectral_flatness == pytest.approx(0.56, abs=0.03)  # exp(-gamma)
    assert measure(chord(), is_separated=False).voice_share is None


def test_one_peak_at_full_scale_is_no_clipping() -> None:
    sound = chord()
    sound[::100] = 1.0
    assert measure(sound).clipped_share == 0
    sound[:3] = 1.0
    assert measure(sound).clipped_share == pytest.approx(3 / N, abs=1e-6)


def test_strikes_are_heard_when_they_sound_and_as_hard_as_they_are() -> None:
    rng = np.random.default_rng(0)
    at_s, levels = np.array([0.5, 1.2, 2.4, 3.0, 4.5]), np.array([1, 0.5, 1, 0.5, 1]) / 2
    sound = rng.normal(0, 1e-4, N)
    for start_s, level in zip(at_s, levels, strict=True):
        burst = slice(round(start_s * RATE_HZ), round((start_s + 0.1) * RATE_HZ))
        length = burst.stop - burst.start
        sound[burst] += level * rng.normal(size=length) * np.exp(-np.arange(length) / 700)

    accents = detect_accents(sound.astype(np.float32))

    np.testing.assert_allclose(accents.accents_s, at_s, atol=0.012)  # one hop
    assert accents.strengths.min() >= 0
    assert accents.strengths.max() <= 1


def test_silence_has_no_accents() -> None:
    accents = detect_accents(np.zeros(N, np.float32))
    assert not len(accents.accents_s)
    assert not accents.energy.any()


def test_energy_follows_loudness() -> None:
    energy = compute_audio_energy(chord() * np.where(TIMES_S < 3, 0.5, 1.0).astype(np.float32))
    assert energy.shape == (96,)
    np.testing.assert_allclose(energy[5:40], 0.5, atol=0.02)
    np.testing.assert_allclose(energy[55:90], 1.0, atol=0.02)


# No deadline: how long an example takes is the machine's affair.
@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_clips_that_share_anything_share_a_split(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = {
        str(k): rng.integers(0, 16, rng.integers(1, 3)).tolist()
        for k in range(rng.integers(1, 60))
    }
    found = assign_partitions(groups, seed=seed)

    assert found.keys() == groups.keys()
    for first in groups:
        for second in groups:
            if set(groups[first]) & set(groups[second]):
                assert found[first] == found[second]


@settings(deadline=None)
@given(n_groups=st.integers(3, 60), seed=st.integers(0, 5))
def test_three_families_fill_three_splits(n_groups: int, seed: int) -> None:
    found = assign_partitions({str(k): [k] for k in range(n_groups)}, seed=seed)
    assert set(found.values()) == {"train", "val", "test"}


def test_a_large_family_is_trained_on() -> None:
    groups = {str(k): [0 if k < 90 else k] for k in range(100)}
    for seed in range(5):
        found = assign_partitions(groups, seed=seed)
        assert found["0"] == "train"
        assert list(found.values()).count("test") == 5


def test_shares_are_those_of_the_paper() -> None:
    found = list(assign_partitions({str(k): [k // 4] for k in range(4000)}, seed=1).values())
    assert found.count("test") == pytest.approx(200, abs=4)
    assert found.count("val") == pytest.approx(200, abs=4)


def test_the_seed_decides_and_the_order_does_not() -> None:
    groups = {str(k): [k] for k in range(100)}
    reversed_groups = dict(reversed(groups.items()))
    assert assign_partitions(groups, seed=3) == assign_partitions(reversed_groups, seed=3)
    assert assign_partitions(groups, seed=3) != assign_partitions(groups, seed=4)

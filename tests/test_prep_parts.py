"""Quality filters, accents of the audio, and partitions of a data set."""

import numpy as np
import pytest
from builders import make_poses
from hypothesis import given, settings
from hypothesis import strategies as st

from loris_cli.array_types import Samples
from loris_cli.audio.accents import compute_audio_energy, detect_accents
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import Segment
from loris_cli.dataset.clip_media import ClipMedia
from loris_cli.dataset.filters import QualityMeasures, list_rejection_reasons, measure_quality
from loris_cli.dataset.partitions import assign_partitions

N_SAMPLES = 6 * SAMPLE_RATE_HZ
TIMES_S = np.arange(N_SAMPLES) / SAMPLE_RATE_HZ


def make_chord(level: float = 0.1) -> Samples:
    """Three steady sines, ``(samples,)``, 6 s."""
    tones = [np.sin(2 * np.pi * hz * TIMES_S) for hz in (220, 277, 330)]
    samples: Samples = (level * np.sum(tones, axis=0)).astype(np.float32)
    return samples


def make_half_silent_chord() -> Samples:
    samples = make_chord()
    samples[: N_SAMPLES // 2] = 0
    return samples


def make_noise(level: float = 0.1) -> Samples:
    return np.random.default_rng(0).normal(0, level, N_SAMPLES).astype(np.float32)


def measure_clip(
    accompaniment: Samples,
    *,
    mix: Samples | None = None,
    is_separated: bool = True,
    n_persons: list[int] | None = None,
    person_fraction: float = 1.0,
    gaps_s: tuple[tuple[float, float], ...] = (),
) -> QualityMeasures:
    """Quality of a clip from 10 to 16 s, with poses detected in a fraction of its frames."""
    is_missing = np.arange(100) >= 100 * person_fraction
    media = ClipMedia(
        mix=accompaniment if mix is None else mix,
        accompaniment=accompaniment,
        poses=make_poses(np.zeros((100, 17, 3)), interpolated=is_missing),
        persons_per_frame=None if n_persons is None else tuple(n_persons),
        gaps_s=gaps_s,
    )
    segment = Segment(subset="fe25", index=0, start_s=10.0, duration_s=6.0)
    return measure_quality(media, segment, separated=is_separated)


def test_a_clean_clip_is_not_rejected() -> None:
    assert list_rejection_reasons(measure_clip(make_chord(), n_persons=[1] * 96)) == []


def test_each_fault_is_rejected_for_its_own_reason() -> None:
    chord = make_chord()
    clipped = np.clip(make_chord(2.0), -1, 1)
    quiet = make_chord(0.01)
    for measures, reason in (
        (measure_clip(make_half_silent_chord()), "silence"),
        (measure_clip(clipped), "clipping"),
        (measure_clip(make_noise()), "no music"),
        (measure_clip(quiet, mix=quiet + make_noise(0.3)), "residual voice"),
        (measure_clip(chord, person_fraction=0.4), "no person"),
        (measure_clip(chord, n_persons=[2] * 30 + [1] * 66), "more than one person"),
        (measure_clip(chord, gaps_s=((9.0, 10.5), (15.8, 20.0))), "missing frames"),
    ):
        assert list_rejection_reasons(measures) == [reason]


def test_quality_measures_have_the_values_computed_by_hand() -> None:
    measures = measure_clip(
        make_half_silent_chord(), n_persons=[0, 1, 2, 3], gaps_s=((9.0, 10.5), (15.8, 20.0))
    )

    assert (measures.silent_fraction, measures.multi_person_fraction) == (0.5, 0.5)
    assert measures.missing_frame_fraction == pytest.approx(0.7 / 6, abs=1e-4)
    # exp(-gamma), gamma is the Euler-Mascheroni constant
    assert measure_clip(make_noise()).spectral_flatness == pytest.approx(0.56, abs=0.03)
    assert measure_clip(make_chord(), is_separated=False).voice_fraction is None


def test_clipping_counts_only_consecutive_full_scale_samples() -> None:
    samples = make_chord()
    samples[::100] = 1.0
    assert measure_clip(samples).clipped_fraction == 0
    samples[:3] = 1.0
    assert measure_clip(samples).clipped_fraction == pytest.approx(3 / N_SAMPLES, abs=1e-6)


def test_accents_have_the_times_and_the_loudness_order_of_the_bursts() -> None:
    times_s, levels = np.array([0.5, 1.2, 2.4, 3.0, 4.5]), np.array([0.5, 0.1, 0.5, 0.1, 0.5])
    rng = np.random.default_rng(0)
    burst = rng.normal(size=2205) * np.exp(-np.arange(2205) / 700)
    samples = rng.normal(0, 1e-4, N_SAMPLES)
    for start, level in zip((times_s * SAMPLE_RATE_HZ).astype(int), levels, strict=True):
        samples[start : start + len(burst)] += level * burst

    accents = detect_accents(samples.astype(np.float32))

    np.testing.assert_allclose(accents.accents_s, times_s, atol=0.012)  # one hop is 11.6 ms
    loud, soft = accents.strengths[levels == 0.5], accents.strengths[levels == 0.1]
    assert 0 < soft.max() < loud.min()
    assert loud.max() == 1


def test_silence_has_no_accents() -> None:
    accents = detect_accents(np.zeros(N_SAMPLES, np.float32))
    assert not len(accents.accents_s)
    assert not accents.energy.any()


def test_energy_follows_loudness() -> None:
    gain = np.where(TIMES_S < 3, 0.5, 1.0).astype(np.float32)
    energy = compute_audio_energy(make_chord() * gain)
    assert energy.shape == (96,)
    np.testing.assert_allclose(energy[5:40], 0.5, atol=0.02)
    np.testing.assert_allclose(energy[55:90], 1.0, atol=0.02)


# No deadline: the duration of an example depends on the machine.
@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_clips_that_share_a_group_are_in_one_partition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = {
        str(k): rng.integers(0, 16, rng.integers(1, 3)).tolist()
        for k in range(rng.integers(1, 60))
    }
    partitions = assign_partitions(groups, seed=seed)

    assert partitions.keys() == groups.keys()
    for first in groups:
        for second in groups:
            if set(groups[first]) & set(groups[second]):
                assert partitions[first] == partitions[second]


@settings(deadline=None)
@given(n_groups=st.integers(3, 60), seed=st.integers(0, 5))
def test_three_or_more_groups_fill_three_partitions(n_groups: int, seed: int) -> None:
    partitions = assign_partitions({str(k): [k] for k in range(n_groups)}, seed=seed)
    assert set(partitions.values()) == {"train", "val", "test"}


def test_a_group_larger_than_the_test_share_is_in_train() -> None:
    groups = {str(k): [0 if k < 90 else k] for k in range(100)}
    for seed in range(5):
        partitions = assign_partitions(groups, seed=seed)
        assert partitions["0"] == "train"
        assert list(partitions.values()).count("test") == 5


def test_partition_sizes_are_those_of_the_paper() -> None:
    partitions = assign_partitions({str(k): [k // 4] for k in range(4000)}, seed=1)
    names = list(partitions.values())
    assert names.count("test") == pytest.approx(200, abs=4)
    assert names.count("val") == pytest.approx(200, abs=4)


def test_partitions_depend_on_the_seed_but_not_on_the_order_of_clips() -> None:
    groups = {str(k): [k] for k in range(100)}
    reversed_groups = dict(reversed(groups.items()))
    assert assign_partitions(groups, seed=3) == assign_partitions(reversed_groups, seed=3)
    assert assign_partitions(groups, seed=3) != assign_partitions(groups, seed=4)

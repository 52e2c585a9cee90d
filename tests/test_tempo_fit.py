"""Steady beats: significance for every number of peaks, and beat tracking like librosa's."""

import subprocess
import sys

import numpy as np
import pytest

from loris_cli.array_types import Array
from loris_cli.rhythm.tempo_fit import MIN_BEAT_FIT, fit_beat_period, track_envelope_beats
from loris_cli.system.librosa_import import librosa

pytestmark = pytest.mark.numpy1


def is_steady(peaks_s: Array) -> bool:
    return fit_beat_period(np.sort(peaks_s))[0] > MIN_BEAT_FIT


@pytest.mark.parametrize("n_peaks", [4, 5, 6, 8, 10, 15, 20, 40])
@pytest.mark.parametrize("interval_s", [0.4, 1.0])
def test_random_peaks_are_rarely_steady(n_peaks: int, interval_s: float) -> None:
    rng = np.random.default_rng(n_peaks)
    clips = rng.uniform(0, n_peaks * interval_s, (200, n_peaks))
    assert np.mean([is_steady(clip) for clip in clips]) <= 0.035


@pytest.mark.parametrize(("n_peaks", "power"), [(6, 0.9), (8, 0.97), (12, 0.97)])
def test_few_peaks_on_a_beat_are_steady(n_peaks: int, power: float) -> None:
    """A fifth of the beats has no peak; the peaks deviate by 10 ms."""
    rng = np.random.default_rng(0)
    clips = [
        rng.uniform(0.4, 0.8) * rng.choice(round(n_peaks / 0.8), n_peaks, replace=False)
        + rng.normal(0, 0.01, n_peaks)
        for _ in range(100)
    ]
    assert np.mean([is_steady(clip) for clip in clips]) >= power


def test_missing_and_extra_peaks_leave_a_beat_steady() -> None:
    rng = np.random.default_rng(0)
    clips = [
        np.concatenate(
            [
                0.55 * rng.choice(15, 12, replace=False) + rng.normal(0, 0.01, 12),
                rng.uniform(0, 0.55 * 15, 3),
            ]
        )
        for _ in range(50)
    ]
    assert np.mean([is_steady(clip) for clip in clips]) >= 0.95


def test_only_the_first_minute_decides_whether_a_beat_is_steady() -> None:
    beats_s = np.arange(100.0, 160.0, 0.5)
    later_s = np.random.default_rng(0).uniform(165, 4000, 2000)
    assert is_steady(np.concatenate([beats_s, later_s]))


@pytest.mark.parametrize("period_s", [0.42, 0.56, 0.79])
def test_beats_are_those_of_librosa(period_s: float) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        frames = rng.integers(0, 3000, 50) if seed % 2 else np.arange(40, 3000, 100 * period_s)
        envelope = np.zeros(3000)
        envelope[np.round(frames).astype(int)] = rng.uniform(0.3, 1, len(frames))
        envelope = np.convolve(envelope, np.hanning(9), mode="same")

        _, expected = librosa.beat.beat_track(
            onset_envelope=envelope,
            sr=100.0,
            hop_length=1,
            bpm=60 / period_s,
            trim=False,
            units="frames",
        )
        beats = track_envelope_beats(envelope, round(100 * period_s))
        # Of equally good beats, 10 ms apart, rounding decides.
        np.testing.assert_allclose(beats, expected, atol=1)


def test_tempo_and_chords_need_no_compiled_kernels() -> None:
    code = """if True:
        import sys
        import numpy as np
        from loris_cli.composition.chords import sample_rhythm_harmony
        from loris_cli.composition.styles import STYLES
        import loris_cli.soundtrack.video_analysis
        peaks_s = np.arange(0.5, 20, 0.5)
        harmony = sample_rhythm_harmony(
            peaks_s, np.ones(39), duration_s=20.0, style=STYLES[0], seed=0
        )
        assert len(harmony.beats_s) > 30
        sys.exit(bool({"librosa", "numba"} & set(sys.modules)))
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

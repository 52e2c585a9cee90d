"""Loudness measurement against closed forms; gain and limiter: level, ceiling, timing."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from media import make_tone, write_wav
from numpy.typing import NDArray

from loris_cli.audio.loudness import apply_gain, measure_loudness, normalize_loudness
from loris_cli.errors import InputError

pytestmark = pytest.mark.numpy1

RATE_HZ = 22_050
Samples = NDArray[np.float32]


def make_noise_bursts(duration_s: float, *, amplitude: float) -> Samples:
    """Four noise bursts per second, ``(2, samples)``."""
    times = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(0).normal(size=(2, times.size))
    smooth = np.apply_along_axis(np.convolve, 1, noise, np.ones(6) / 6, mode="same")
    return (amplitude * smooth * np.exp(-6 * (times % 0.25))).astype(np.float32)


def read_samples(path: Path) -> Samples:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate_hz == RATE_HZ
    return np.asarray(samples.T, np.float32)


@pytest.mark.parametrize("amplitude_db", [0.0, -20.0])
def test_loudness_of_a_sine_is_3_lu_below_its_peak(tmp_path: Path, amplitude_db: float) -> None:
    sine = make_tone(4, 997, 10 ** (amplitude_db / 20), rate_hz=RATE_HZ)
    measured = measure_loudness(write_wav(tmp_path / "a.wav", sine))
    assert measured.integrated_lufs == pytest.approx(amplitude_db - 3.01, abs=0.1)
    assert measured.true_peak_dbtp == pytest.approx(amplitude_db, abs=0.1)


def test_true_peak_between_samples_is_measured(tmp_path: Path) -> None:
    # A sine at a quarter of the sample rate, sampled 45 degrees off its peaks. The samples are
    # 3 dB below the true peak.
    phase = np.pi / 2 * np.arange(RATE_HZ) + np.pi / 4
    sine = 0.5 * np.sin(phase) * np.hanning(RATE_HZ)
    measured = measure_loudness(write_wav(tmp_path / "a.wav", sine[None].astype(np.float32)))
    assert measured.true_peak_dbtp == pytest.approx(-6.02, abs=0.3)


@pytest.mark.parametrize("n_samples", [1, 777, 22_050, 66_151])
def test_gain_preserves_length_and_timing(tmp_path: Path, n_samples: int) -> None:
    before = make_noise_bursts(n_samples / RATE_HZ, amplitude=0.1)
    apply_gain(
        write_wav(tmp_path / "a.wav", before),
        tmp_path / "b.wav",
        gain_db=6.0,
        ceiling_dbtp=-1.0,
    )
    after = read_samples(tmp_path / "b.wav")
    assert after.shape == before.shape
    if n_samples > 1000:
        spectra = np.fft.rfft(before[0]) * np.conj(np.fft.rfft(after[0]))
        assert int(np.argmax(np.fft.irfft(spectra, n_samples))) == 0
        power = [float(np.mean(np.square(x, dtype=np.float64))) for x in (before, after)]
        assert 10 * np.log10(power[1] / power[0]) == pytest.approx(6.0, abs=0.3)


def test_limiter_preserves_onset_times(tmp_path: Path) -> None:
    starts = [300, 9_000, 30_000]
    before = np.zeros((1, 44_100), np.float32)
    for start in starts:
        before[0, start : start + 2_000] = make_tone(1, 440, 0.9, rate_hz=RATE_HZ)[0, :2_000]
    apply_gain(
        write_wav(tmp_path / "a.wav", before),
        tmp_path / "b.wav",
        gain_db=12.0,
        ceiling_dbtp=-1.0,
    )
    after = read_samples(tmp_path / "b.wav")
    for start in starts:
        detected = (
            start - 200 + int(np.argmax(np.abs(after[0, start - 200 : start + 500]) > 0.05))
        )
        assert abs(detected - start) <= 0.001 * RATE_HZ


@pytest.mark.parametrize("ceiling_dbtp", [-1.0, -3.0])
def test_true_peak_after_normalization_is_below_the_ceiling(
    tmp_path: Path, ceiling_dbtp: float
) -> None:
    source = write_wav(tmp_path / "a.wav", make_noise_bursts(4, amplitude=2.0))
    loudness = normalize_loudness(
        source, tmp_path / "b.wav", target_lufs=-9, ceiling_dbtp=ceiling_dbtp
    )
    assert measure_loudness(source).true_peak_dbtp > 0
    assert loudness == measure_loudness(tmp_path / "b.wav")
    assert loudness.true_peak_dbtp <= ceiling_dbtp + 0.1


@pytest.mark.parametrize("amplitude", [0.04, 0.1, 3.0])
def test_normalized_loudness_is_within_half_a_lu_of_the_target(
    tmp_path: Path, amplitude: float
) -> None:
    source = write_wav(tmp_path / "a.wav", make_noise_bursts(4, amplitude=amplitude))
    loudness = normalize_loudness(source, tmp_path / "b.wav")
    assert loudness.integrated_lufs == pytest.approx(-14.0, abs=0.5)
    assert loudness.true_peak_dbtp <= -0.9


@pytest.mark.parametrize("amplitude", [0.0, 1e-5])
def test_near_silence_is_amplified_by_at_most_14_db(tmp_path: Path, amplitude: float) -> None:
    source = write_wav(tmp_path / "a.wav", make_noise_bursts(2, amplitude=amplitude))
    normalize_loudness(source, tmp_path / "b.wav")
    assert np.abs(read_samples(tmp_path / "b.wav")).max() <= 5 * amplitude


def test_normalization_gain_is_limited_to_30_db(tmp_path: Path) -> None:
    source = write_wav(tmp_path / "a.wav", make_noise_bursts(3, amplitude=0.003))
    before = measure_loudness(source).integrated_lufs
    assert before < -45
    after = normalize_loudness(source, tmp_path / "b.wav").integrated_lufs
    assert after - before == pytest.approx(30, abs=0.2)


def test_normalization_is_deterministic(tmp_path: Path) -> None:
    source = write_wav(tmp_path / "a.wav", make_noise_bursts(2, amplitude=1.0))
    normalize_loudness(source, tmp_path / "b.wav")
    normalize_loudness(source, tmp_path / "c.wav")
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "c.wav").read_bytes()


def test_file_without_audio_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("text")
    with pytest.raises(InputError, match=r"a\.wav"):
        apply_gain(tmp_path / "a.wav", tmp_path / "b.wav", gain_db=0, ceiling_dbtp=-1)
    assert not (tmp_path / "b.wav").exists()

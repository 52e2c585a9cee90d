"""Log-mel frames and back: a tone stays where it is, a click stays when it was."""

import librosa
import numpy as np
import pytest

from loris_cli.audio.mel import (
    DEFAULT_MEL_CONFIG,
    FINE_MEL_CONFIG,
    HOP_LENGTH,
    LOG_OFFSET,
    MEL_FPS,
    MelConfig,
    compute_log_mel,
    compute_mel_filterbank,
    invert_log_mel,
    mel_to_linear,
)
from loris_cli.audio.onsets import detect_onsets

SECOND = np.arange(22_050) / 22_050


def test_a_tone_fills_the_band_it_belongs_to() -> None:
    frames = compute_log_mel(np.sin(2 * np.pi * 1000 * SECOND).astype(np.float32))

    centres = librosa.mel_frequencies(130, fmin=0, fmax=11_025)[1:-1]
    loudest = centres[frames[:, 40].argmax()]
    assert loudest == pytest.approx(1000, rel=0.04)


def test_silence_is_the_floor() -> None:
    frames = compute_log_mel(np.zeros(4096, dtype=np.float32))

    np.testing.assert_allclose(frames, np.log(LOG_OFFSET), rtol=1e-6)
    assert frames.shape == (len(compute_mel_filterbank()), 4096 // HOP_LENGTH + 1)


def test_clicks_come_back_at_their_time() -> None:
    samples = np.zeros(22_050 * 3, dtype=np.float32)
    clicks_s = np.array([0.6, 1.4, 2.2])
    for click_s in clicks_s:
        start = round(click_s * 22_050)
        samples[start : start + 800] += np.hanning(800) * np.sin(np.arange(800) * 0.4)

    inverted = invert_log_mel(compute_log_mel(samples), n_iter=8)

    assert len(inverted) == len(samples) // HOP_LENGTH * HOP_LENGTH
    np.testing.assert_allclose(detect_onsets(inverted), detect_onsets(samples), atol=0.025)


def test_the_way_back_is_the_same_every_time() -> None:
    frames = compute_log_mel(np.sin(2 * np.pi * 440 * SECOND[:8000]).astype(np.float32))

    assert (
        invert_log_mel(frames, n_iter=4).tobytes() == invert_log_mel(frames, n_iter=4).tobytes()
    )
    assert (
        invert_log_mel(frames, n_iter=4, seed=1).tobytes()
        != invert_log_mel(frames, n_iter=4).tobytes()
    )


def test_frames_are_86_a_second() -> None:
    assert pytest.approx(86.13, abs=0.01) == MEL_FPS


def test_phases_are_as_good_as_librosas() -> None:
    rng = np.random.default_rng(0)
    samples = sum(np.sin(2 * np.pi * f * SECOND) for f in (220, 277, 330)) * np.exp(-3 * SECOND)
    frames = compute_log_mel(
        (0.2 * samples + 0.002 * rng.normal(size=22_050)).astype(np.float32)
    )

    inverted_phases = invert_log_mel(frames, n_iter=24)
    magnitude = mel_to_linear(frames).numpy()
    librosa_phases = librosa.griffinlim(
        magnitude, n_iter=24, hop_length=HOP_LENGTH, n_fft=1024, random_state=0
    )

    def convergence(signal: np.ndarray) -> float:
        error = np.abs(librosa.stft(signal, n_fft=1024, hop_length=HOP_LENGTH)) - magnitude
        return float(np.linalg.norm(error) / np.linalg.norm(magnitude))

    assert convergence(inverted_phases) == pytest.approx(convergence(librosa_phases), rel=0.15)
    assert convergence(inverted_phases) < 0.2


@pytest.mark.parametrize("mel_config", [DEFAULT_MEL_CONFIG, FINE_MEL_CONFIG])
def test_a_tone_is_as_loud_however_finely_it_is_looked_at(mel_config: MelConfig) -> None:
    """Of a steady tone what a band holds depends on the band, but not on the window."""
    tone = np.sin(2 * np.pi * 1000 * SECOND).astype(np.float32)
    longer = MelConfig(n_fft=2 * mel_config.n_fft, n_mels=mel_config.n_mels)

    one, other = (compute_log_mel(tone, config)[:, 40].max() for config in (mel_config, longer))

    assert one == pytest.approx(other, abs=0.4)


def test_fine_bands_keep_low_semitones_apart() -> None:
    low, high = (
        compute_log_mel(np.sin(2 * np.pi * hz * SECOND).astype(np.float32), FINE_MEL_CONFIG)[
            :20, 40
        ].argmax()
        for hz in (130.8, 146.8)
    )

    assert low != high


def test_fine_bands_come_back_at_their_time() -> None:
    samples = np.zeros(22_050 * 2, dtype=np.float32)
    samples[22_050 : 22_050 + 800] += np.hanning(800) * np.sin(np.arange(800) * 0.4)

    inverted = invert_log_mel(
        compute_log_mel(samples, FINE_MEL_CONFIG), FINE_MEL_CONFIG, n_iter=8
    )

    np.testing.assert_allclose(detect_onsets(inverted), detect_onsets(samples), atol=0.025)


@pytest.mark.parametrize(("n_fft", "n_mels"), [(64, 8), (1024, 0), (1024, 400), (10**6, 128)])
def test_bands_that_there_cannot_be_are_refused(n_fft: int, n_mels: int) -> None:
    with pytest.raises(ValueError, match="no log-mel"):
        MelConfig(n_fft=n_fft, n_mels=n_mels)


def test_a_spectrum_has_the_bands_it_was_asked_for() -> None:
    tones = np.sin(2 * np.pi * np.array([[110], [147], [165], [880]]) * SECOND)
    frames = compute_log_mel(0.2 * tones.sum(axis=0).astype(np.float32), FINE_MEL_CONFIG)
    target = np.exp(frames) - LOG_OFFSET
    cut_off = np.maximum(np.linalg.pinv(compute_mel_filterbank(FINE_MEL_CONFIG)) @ target, 0)

    magnitude = mel_to_linear(frames, FINE_MEL_CONFIG).numpy()

    assert magnitude.min() >= 0
    error, initial_error = (
        np.abs(compute_mel_filterbank(FINE_MEL_CONFIG) @ spectrum - target).sum() / target.sum()
        for spectrum in (magnitude, cut_off)
    )
    assert error < 0.03
    assert error < initial_error

"""Rhythm from the STFT of pose changes, the method that the paper compares with its own."""

from pathlib import Path

import numpy as np
import pytest
from conftest import RunLoris

from loris_cli.array_types import Array
from loris_cli.rhythm.rhythm_file import read_rhythm
from loris_cli.rhythm.stft_rhythm import pose_change_energy, rhythm_from_stft

pytestmark = pytest.mark.numpy1

FPS = 16.0
STEP_FRAMES = (32, 64, 112)


def make_stepping_keypoints(steps: tuple[int, ...] = (), n_frames: int = 144) -> Array:
    """Keypoints of a standing person whose arms jump up or down at some frames."""
    keypoints = np.zeros((n_frames, 17, 3))
    keypoints[..., 0] = np.linspace(-40, 40, 17)
    keypoints[..., 1] = np.linspace(0, 190, 17)
    keypoints[..., 2] = 0.9
    for step in steps:
        keypoints[step:, 7:11, 1] *= -1
        keypoints[step:, 7:11, 1] += 190
        keypoints[step:, 7:11, 0] *= -1
    return keypoints


def test_peaks_are_at_changes_of_the_pose() -> None:
    rhythm = rhythm_from_stft(make_stepping_keypoints(STEP_FRAMES))

    assert (rhythm.times_s * FPS).tolist() == pytest.approx(STEP_FRAMES, abs=1.0)
    assert rhythm.method == "stft"
    assert rhythm.envelope.max() == 1


def test_peaks_of_a_swaying_person_are_at_the_accents() -> None:
    keypoints = make_stepping_keypoints()
    times_s = np.arange(len(keypoints)) / FPS
    # Two sways per second, whose amplitude is largest at every whole second.
    amplitude_px = 30 * (1 + 0.8 * np.cos(2 * np.pi * times_s))
    keypoints[:, 7:11, 0] += (amplitude_px * np.sin(2 * np.pi * 2 * times_s))[:, None]

    peaks_s = rhythm_from_stft(keypoints).times_s

    inner_s = peaks_s[(peaks_s > 1.5) & (peaks_s < 7.5)]
    np.testing.assert_allclose(inner_s, [2, 3, 4, 5, 6, 7], atol=0.2)


def test_energy_of_a_single_change_is_the_taper() -> None:
    positions = np.zeros((32, 17, 2))
    positions[16:, 0] = (5.0, 0.0)  # one joint jumps by 5 px

    energy = pose_change_energy(positions, 8)

    # The spectrum of an impulse of height h is flat: h in each of the four bins above zero.
    taper = np.hanning(9)[:8]
    expected = np.zeros(32)
    expected[12:20] = 5 * np.sqrt(4) * taper / taper.sum()
    np.testing.assert_allclose(energy, expected, atol=1e-9)


def test_walk_with_a_constant_pose_has_no_peaks() -> None:
    keypoints = make_stepping_keypoints()
    keypoints[..., 0] += np.arange(len(keypoints))[:, None] * 5.0

    assert len(rhythm_from_stft(keypoints).times_s) == 0


@pytest.mark.parametrize("n_frames", [0, 1, 3])
def test_short_clip_has_no_peaks(n_frames: int) -> None:
    rhythm = rhythm_from_stft(make_stepping_keypoints(n_frames=n_frames))

    assert len(rhythm.times_s) == 0
    assert len(rhythm.envelope) == n_frames


def test_rhythm_command_writes_an_stft_rhythm(
    loris: RunLoris, pose_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.json"

    result = loris("rhythm", pose_file, "--rhythm", "stft", "-o", out)

    assert result.exit_code == 0, result.stderr
    assert read_rhythm(out).method == "stft"


@pytest.mark.slow
def test_stft_of_a_video_without_a_person_is_refused(
    loris: RunLoris, moving_video: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.json"

    result = loris("rhythm", moving_video, "--rhythm", "stft", "-o", out)

    assert result.exit_code == 4
    assert moving_video.name in result.stderr
    assert "--rhythm flow" in result.stderr
    assert not out.exists()


def test_stft_with_the_official_directogram_is_refused(
    loris: RunLoris, pose_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.json"

    result = loris("rhythm", pose_file, "--rhythm", "stft", "--compat", "official", "-o", out)

    assert result.exit_code == 2
    assert "--compat official" in result.stderr
    assert "--rhythm stft" in result.stderr
    assert not out.exists()

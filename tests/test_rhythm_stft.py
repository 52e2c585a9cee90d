"""The rhythm of a body's shape, which the paper compares its own with."""

from pathlib import Path

import numpy as np
import pytest
from conftest import RunLoris
from numpy.typing import NDArray

from loris_cli.rhythm.rhythm_file import read_rhythm
from loris_cli.rhythm.stft_rhythm import pose_change_energy, rhythm_from_stft

FPS = 16.0
STEPS = (32, 64, 112)


def stepping_pose(steps: tuple[int, ...] = STEPS, n_frames: int = 144) -> NDArray[np.float64]:
    """A standing person whose arms jump up or down at some frames."""
    keypoints = np.zeros((n_frames, 17, 3))
    keypoints[..., 0] = np.linspace(-40, 40, 17)
    keypoints[..., 1] = np.linspace(0, 190, 17)
    keypoints[..., 2] = 0.9
    for step in steps:
        keypoints[step:, 7:11, 1] *= -1
        keypoints[step:, 7:11, 1] += 190
        keypoints[step:, 7:11, 0] *= -1
    return keypoints


def test_peaks_are_where_the_shape_changes() -> None:
    rhythm = rhythm_from_stft(stepping_pose())
    assert (rhythm.times_s * FPS).tolist() == pytest.approx(STEPS, abs=1.0)
    assert rhythm.method == "stft"
    assert rhythm.envelope.max() == 1


def test_a_body_that_sways_twice_a_second_and_strikes_is_met_at_its_strikes() -> None:
    """The energy of a body that never rests is no comb of narrow peaks but a line of hills."""
    keypoints = stepping_pose(())
    moment = np.arange(len(keypoints)) / FPS
    stress = 1 + 0.8 * np.cos(2 * np.pi * moment)  # strongest at every whole second
    keypoints[:, 7:11, 0] += (stress * 30 * np.sin(2 * np.pi * 2 * moment))[:, None]
    rhythm = rhythm_from_stft(keypoints)
    inside = rhythm.times_s[(rhythm.times_s > 1.5) & (rhythm.times_s < 7.5)]
    assert len(inside) == 6
    assert inside == pytest.approx(np.round(inside), abs=0.2)


def test_one_change_of_one_bin_has_the_energy_of_its_taper() -> None:
    """By hand: an impulse at each place of the window, all but the mean of its spectrum."""
    positions = np.zeros((32, 17, 2))
    positions[16:, 0] = (5.0, 0.0)  # one joint, from nothing to 5 px, in one direction
    taper = np.hanning(9)[:8]
    # Of an impulse of height h the spectrum is flat: four bins above zero, each h.
    expected = np.zeros(32)
    for k in range(8):
        expected[16 + 3 - k + 1 - 1] = 5 * taper[k] * np.sqrt(4) / taper.sum()
    energy = pose_change_energy(positions, 8)
    assert np.sort(energy)[::-1][:7] == pytest.approx(np.sort(expected)[::-1][:7], rel=1e-9)
    assert int(energy.argmax()) == 16


def test_a_body_that_walks_on_unchanged_has_none() -> None:
    keypoints = stepping_pose(())
    keypoints[..., 0] += np.arange(len(keypoints))[:, None] * 5.0
    assert len(rhythm_from_stft(keypoints).times_s) == 0


@pytest.mark.parametrize("n_frames", [0, 1, 3])
def test_too_short_a_body_has_none(n_frames: int) -> None:
    rhythm = rhythm_from_stft(stepping_pose((), n_frames))
    assert len(rhythm.times_s) == 0
    assert len(rhythm.envelope) == n_frames


def test_the_program_finds_it(
    loris: RunLoris, moving_video: Path, pose_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.json"
    result = loris("rhythm", pose_file, "--rhythm", "stft", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert read_rhythm(out).method == "stft"

    result = loris("rhythm", moving_video, "--rhythm", "stft", "-o", tmp_path / "b.json")
    assert result.exit_code == 4
    assert "no moving person" in result.stderr

    result = loris(
        "rhythm",
        pose_file,
        "--rhythm",
        "stft",
        "--compat",
        "official",
        "-o",
        tmp_path / "c.json",
    )
    assert result.exit_code == 2
    assert "reading of the directogram" in result.stderr

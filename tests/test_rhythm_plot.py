"""Plot of a rhythm: positions of peaks, motion and onsets in the image."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import OutputError
from loris_cli.rhythm import plot
from loris_cli.rhythm.plot import plot_rhythm
from loris_cli.rhythm.rhythm_file import Rhythm

Pixels = NDArray[np.uint8]

DURATION_S = 20.0
PEAKS_S = (3.0, 8.5, 14.25)
STRENGTHS = (1.0, 0.6, 0.25)
PLOT_PX = 800  # 40 px per second


def make_rhythm(**fields: Any) -> Rhythm:
    """Rhythm of 20 s with three peaks."""
    envelope = np.zeros(320)
    envelope[[48, 136, 228]] = STRENGTHS
    defaults: dict[str, Any] = {
        "times_s": np.array(PEAKS_S),
        "strengths": np.array(STRENGTHS),
        "envelope": envelope,
        "envelope_rate_hz": 16.0,
        "method": "directogram",
        "compat": "paper",
        "duration_s": DURATION_S,
    }
    return Rhythm(**{**defaults, **fields})


def make_keypoints() -> Array:
    """Keypoints of 20 s that move to the right from 5 s to 10 s and are static otherwise."""
    keypoints = np.ones((320, 17, 3))
    keypoints[:, :, 0] = 3 * (np.arange(320).clip(80, 160) - 80)[:, None]
    return keypoints


def make_noise_bursts(times_s: tuple[float, ...]) -> Array:
    """Twenty seconds of audio with a decaying burst of noise at each time."""
    samples = np.zeros(round(DURATION_S * SAMPLE_RATE_HZ))
    rng = np.random.default_rng(0)
    for time_s in times_s:
        start = round(time_s * SAMPLE_RATE_HZ)
        samples[start : start + 2000] = rng.normal(size=2000) * np.linspace(0.5, 0, 2000)
    return samples


def read_image(path: Path) -> Pixels:
    """Read an RGB image, ``(height, width, 3)``."""
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image[:, :, ::-1], dtype=np.uint8)


def find_colour(image: Pixels, colour: str, tolerance: int = 40) -> NDArray[np.bool_]:
    """Return the mask of the pixels with a colour, ``(height, width)``."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.asarray(np.abs(image.astype(int) - rgb).max(axis=-1) < tolerance)


def column_of(time_s: float) -> int:
    return plot.LEFT_MARGIN_PX + round(time_s / DURATION_S * PLOT_PX)


def test_stem_height_is_the_strength_of_its_peak(tmp_path: Path) -> None:
    plot_rhythm(tmp_path / "a.png", make_rhythm())

    stems = find_colour(read_image(tmp_path / "a.png"), plot.PEAK_COLOUR).sum(axis=0)
    for time_s, strength in zip(PEAKS_S, STRENGTHS, strict=True):
        height = stems[column_of(time_s) - 2 : column_of(time_s) + 3].max()
        assert height == pytest.approx(
            strength * plot.PANEL_HEIGHT_PX["envelope"] / 1.08, abs=6
        )
    is_between_peaks = np.ones(len(stems), dtype=bool)
    for time_s in PEAKS_S:
        is_between_peaks[column_of(time_s) - 6 : column_of(time_s) + 7] = False
    assert stems[is_between_peaks].sum() == 0


def test_directogram_is_bright_during_motion(tmp_path: Path) -> None:
    plot_rhythm(tmp_path / "a.png", make_rhythm(), keypoints=make_keypoints())

    image = read_image(tmp_path / "a.png").astype(int).sum(axis=-1)
    bottom = plot.TOP_MARGIN_PX + plot.PANEL_HEIGHT_PX["directogram"]
    lowest_bin = image[bottom - 12 : bottom - 4]  # 0 degrees: motion to the right
    assert lowest_bin[:, column_of(6) : column_of(8)].mean() > 500
    assert lowest_bin[:, column_of(11) : column_of(14)].mean() < 60


def test_audio_onsets_are_marked_at_their_times(tmp_path: Path) -> None:
    onsets_s = (4.0, 9.0, 16.0)
    plot_rhythm(tmp_path / "a.png", make_rhythm(), audio=make_noise_bursts(onsets_s))

    top = read_image(tmp_path / "a.png")[plot.TOP_MARGIN_PX : plot.TOP_MARGIN_PX + 12]
    marks = find_colour(top, plot.ONSET_COLOUR).sum(axis=0)
    for time_s in onsets_s:
        assert marks[column_of(time_s) - 4 : column_of(time_s) + 5].max() >= 6
    assert marks[column_of(10) : column_of(15)].sum() == 0


def test_panels_are_stacked_vertically(tmp_path: Path) -> None:
    plot_rhythm(tmp_path / "one.png", make_rhythm())
    plot_rhythm(
        tmp_path / "all.png",
        make_rhythm(),
        keypoints=make_keypoints(),
        audio=make_noise_bursts((1.0,)),
    )
    one, three = read_image(tmp_path / "one.png"), read_image(tmp_path / "all.png")
    assert three.shape[1] == one.shape[1]
    panels_px = plot.PANEL_HEIGHT_PX["audio"] + plot.PANEL_HEIGHT_PX["directogram"]
    assert three.shape[0] == one.shape[0] + panels_px + 2 * plot.PANEL_GAP_PX


def test_equal_rhythms_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plot_rhythm(tmp_path / name, make_rhythm(), keypoints=make_keypoints(), title="$a$ _b_")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_rhythm_without_peaks_and_silent_audio_can_be_plotted(tmp_path: Path) -> None:
    empty = make_rhythm(
        times_s=np.zeros(0), strengths=np.zeros(0), envelope=np.zeros(16), duration_s=1.0
    )
    keypoints, silence = np.zeros((16, 17, 3)), np.zeros(SAMPLE_RATE_HZ)

    plot_rhythm(tmp_path / "a.png", empty, keypoints=keypoints, audio=silence)

    image = read_image(tmp_path / "a.png")
    assert not find_colour(image, plot.PEAK_COLOUR).any()
    assert not find_colour(image, plot.ONSET_COLOUR, 20).any()


def test_width_of_the_plot_of_an_hour_is_limited(tmp_path: Path) -> None:
    rhythm = make_rhythm(
        times_s=np.arange(1.0, 3600.0),
        strengths=np.ones(3599),
        envelope=np.zeros(57_600),
        duration_s=3600.0,
    )

    plot_rhythm(tmp_path / "a.png", rhythm)

    margins_px = plot.LEFT_MARGIN_PX + plot.RIGHT_MARGIN_PX
    assert read_image(tmp_path / "a.png").shape[1] == 6000 + margins_px


def test_plot_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.png"):
        plot_rhythm(tmp_path / "none" / "a.png", make_rhythm())
    assert not (tmp_path / "none").exists()

"""The plot of a rhythm shows its peaks, its envelope and the poses."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from loris_cli.errors import OutputError
from loris_cli.rhythm import plot
from loris_cli.rhythm.plot import plot_rhythm
from loris_cli.rhythm.rhythm_file import Rhythm

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]

DURATION_S = 20.0
PEAKS_S = (3.0, 8.5, 14.25)
STRENGTHS = (1.0, 0.6, 0.25)
PLOT_PX = 800  # 40 a second


def some_rhythm() -> Rhythm:
    envelope = np.zeros(320)
    envelope[[48, 136, 228]] = STRENGTHS
    return Rhythm(
        times_s=np.array(PEAKS_S),
        strengths=np.array(STRENGTHS),
        envelope=envelope,
        envelope_rate_hz=16.0,
        method="directogram",
        compat="paper",
        duration_s=DURATION_S,
    )


def some_keypoints() -> Array:
    """Everything moves to the right from 5 s to 10 s, and is still otherwise."""
    keypoints = np.ones((320, 17, 3))
    keypoints[:, :, 0] = 3 * (np.arange(320).clip(80, 160) - 80)[:, None]
    return keypoints


def clicks(times_s: tuple[float, ...]) -> Array:
    samples = np.zeros(round(DURATION_S * 22_050))
    rng = np.random.default_rng(0)
    for time_s in times_s:
        start = round(time_s * 22_050)
        samples[start : start + 2000] = rng.normal(size=2000) * np.linspace(0.5, 0, 2000)
    return samples


def read_image(path: Path) -> Pixels:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image[:, :, ::-1], dtype=np.uint8)


def has_colour(image: Pixels, colour: str, tolerance: int = 40) -> NDArray[np.bool_]:
    """Where a picture has a colour, ``(height, width)``."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.asarray(np.abs(image.astype(int) - rgb).max(axis=-1) < tolerance)


def column(time_s: float) -> int:
    return plot.LEFT_MARGIN_PX + round(time_s / DURATION_S * PLOT_PX)


def test_a_stem_stands_at_every_peak_as_high_as_it_is_strong(tmp_path: Path) -> None:
    plot_rhythm(tmp_path / "a.png", some_rhythm())

    stems = has_colour(read_image(tmp_path / "a.png"), plot.PEAK_COLOUR).sum(axis=0)
    for time_s, strength in zip(PEAKS_S, STRENGTHS, strict=True):
        height = stems[column(time_s) - 2 : column(time_s) + 3].max()
        assert height == pytest.approx(
            strength * plot.PANEL_HEIGHT_PX["envelope"] / 1.08, abs=6
        )
    is_between_peaks = np.ones(len(stems), dtype=bool)
    for time_s in PEAKS_S:
        is_between_peaks[column(time_s) - 6 : column(time_s) + 7] = False
    assert stems[is_between_peaks].sum() == 0


def test_the_directogram_is_bright_while_the_body_moves(tmp_path: Path) -> None:
    plot_rhythm(tmp_path / "a.png", some_rhythm(), keypoints=some_keypoints())

    image = read_image(tmp_path / "a.png").astype(int).sum(axis=-1)
    bottom = plot.TOP_MARGIN_PX + plot.PANEL_HEIGHT_PX["directogram"]
    lowest_bin = image[bottom - 12 : bottom - 4]  # to the right: 0 degrees
    assert lowest_bin[:, column(6) : column(8)].mean() > 500
    assert lowest_bin[:, column(11) : column(14)].mean() < 60


def test_onsets_of_the_sound_are_marked_where_they_are(tmp_path: Path) -> None:
    onsets_s = (4.0, 9.0, 16.0)
    plot_rhythm(tmp_path / "a.png", some_rhythm(), audio=clicks(onsets_s))

    top = read_image(tmp_path / "a.png")[plot.TOP_MARGIN_PX : plot.TOP_MARGIN_PX + 12]
    marks = has_colour(top, plot.ONSET_COLOUR).sum(axis=0)
    for time_s in onsets_s:
        assert marks[column(time_s) - 4 : column(time_s) + 5].max() >= 6
    assert marks[column(10) : column(15)].sum() == 0


def test_panels_stand_on_one_another(tmp_path: Path) -> None:
    plot_rhythm(tmp_path / "one.png", some_rhythm())
    plot_rhythm(
        tmp_path / "all.png", some_rhythm(), keypoints=some_keypoints(), audio=clicks((1.0,))
    )
    one, three = read_image(tmp_path / "one.png"), read_image(tmp_path / "all.png")
    assert three.shape[1] == one.shape[1]
    more = (
        plot.PANEL_HEIGHT_PX["audio"]
        + plot.PANEL_HEIGHT_PX["directogram"]
        + 2 * plot.PANEL_GAP_PX
    )
    assert three.shape[0] == one.shape[0] + more


def test_the_same_rhythm_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plot_rhythm(tmp_path / name, some_rhythm(), keypoints=some_keypoints(), title="$a$ _b_")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_silence_and_stillness_can_be_drawn(tmp_path: Path) -> None:
    empty = Rhythm(
        times_s=np.zeros(0),
        strengths=np.zeros(0),
        envelope=np.zeros(16),
        envelope_rate_hz=16.0,
        method="flow",
        compat="paper",
        duration_s=1.0,
    )
    keypoints = np.zeros((16, 17, 3))
    plot_rhythm(tmp_path / "a.png", empty, keypoints=keypoints, audio=np.zeros(22_050))
    image = read_image(tmp_path / "a.png")
    assert not has_colour(image, plot.PEAK_COLOUR).any()
    assert not has_colour(image, plot.ONSET_COLOUR, 20).any()


def test_a_long_video_has_a_picture_that_can_be_opened(tmp_path: Path) -> None:
    long = Rhythm(
        times_s=np.arange(1.0, 3600.0),
        strengths=np.ones(3599),
        envelope=np.zeros(57_600),
        envelope_rate_hz=16.0,
        method="flow",
        compat="paper",
        duration_s=3600.0,
    )
    plot_rhythm(tmp_path / "a.png", long)
    assert read_image(tmp_path / "a.png").shape[1] < 7000


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        plot_rhythm(tmp_path / "no" / "a.png", some_rhythm())

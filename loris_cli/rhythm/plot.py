"""A picture of a rhythm: what the body does, what is picked, and what is heard.

    keypoints, rhythm, sound -> directogram, envelope, mel spectrogram -> PNG

After figure 3 of LORIS, where the rhythm of the video stands under that of the sound.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import OutputError
from loris_cli.rhythm.pose_rhythm import pose_directogram
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.system.atomic_files import printable_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

PEAK_COLOUR = "#e4572e"
ONSET_COLOUR = "#35d0ba"
ENVELOPE_COLOUR = "#2e4057"
DPI = 100
LEFT_MARGIN_PX, RIGHT_MARGIN_PX = 90, 30
PANEL_HEIGHT_PX = {"sound": 170, "directogram": 150, "envelope": 150}
PANEL_GAP_PX, TOP_MARGIN_PX, BOTTOM_MARGIN_PX = 34, 44, 54
PLOT_N_FFT, PLOT_HOP = 1024, 256


def plot_rhythm(
    output_path: Path,
    rhythm: Rhythm,
    *,
    keypoints: Array | None = None,
    audio: Array | None = None,
    rate_hz: int = SAMPLE_RATE_HZ,
    title: str = "",
) -> None:
    """Draw a rhythm as a PNG; the same rhythm gives the same bytes.

    Every panel has the same time axis. A peak is a stem on the envelope, higher and darker the
    stronger it is, and a fine line through the directogram.

    Args:
        output_path: the file to write.
        rhythm: what to draw.
        keypoints: the poses it comes from, ``(frames, joints, 3)``, for the directogram.
        audio: ``(samples,)``, for the spectrogram and its onsets.
        rate_hz: samples a second.
        title: a line over the picture.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = ["envelope"]
    if keypoints is not None and len(keypoints):
        panels.insert(0, "directogram")
    if audio is not None and len(audio):
        panels.insert(0, "sound")
    # 40 pixels a second tell two peaks apart; 25 s are as wide as a screen.
    width = LEFT_MARGIN_PX + RIGHT_MARGIN_PX + int(np.clip(40 * rhythm.duration_s, 600, 6000))
    height = (
        TOP_MARGIN_PX
        + BOTTOM_MARGIN_PX
        + sum(PANEL_HEIGHT_PX[p] for p in panels)
        + PANEL_GAP_PX * (len(panels) - 1)
    )
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top = height - TOP_MARGIN_PX
    axes: Any = None
    for panel in panels:
        size = PANEL_HEIGHT_PX[panel]
        box = (LEFT_MARGIN_PX, top - size, width - LEFT_MARGIN_PX - RIGHT_MARGIN_PX, size)
        place = (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
        axes = figure.add_axes(place)
        if panel == "sound" and audio is not None:
            _draw_audio(axes, audio, rate_hz, rhythm)
        elif panel == "directogram" and keypoints is not None:
            _draw_directogram(axes, pose_directogram(keypoints), rhythm)
        else:
            _draw_envelope(axes, rhythm)
        axes.set_xlim(0, max(rhythm.duration_s, 1e-3))
        axes.tick_params(labelsize=8, length=3, labelbottom=panel == panels[-1])
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        top -= size + PANEL_GAP_PX
    axes.set_xlabel("seconds", fontsize=9)
    if title:
        # A file's name may hold a $, which would begin a formula.
        figure.text(
            LEFT_MARGIN_PX / width,
            1 - 16 / height,
            title,
            fontsize=11,
            va="center",
            parse_math=False,
        )
    try:
        figure.savefig(output_path, format="png", metadata={"Software": None})
    except OSError as error:
        raise OutputError(
            f"cannot write {printable_path(output_path)}: {error.strerror or error}",
            hint="choose another place with -o",
        ) from error


def _set_panel_title(axes: "Axes", title: str, subtitle: str = "") -> None:
    axes.set_title(title, fontsize=9, loc="left", pad=4, fontweight="bold")
    if subtitle:
        axes.set_title(subtitle, fontsize=8, loc="right", pad=4, color="#555555")


def _draw_directogram(axes: "Axes", histogram: Array, rhythm: Rhythm) -> None:
    rate_hz = rhythm.envelope_rate_hz
    loudest = float(np.quantile(histogram, 0.995)) if histogram.size else 1.0
    # Motion k lies between the frames k - 1 and k.
    extent = (-1 / rate_hz, (len(histogram) - 1) / rate_hz, 0, 180)
    axes.imshow(
        (histogram / max(loudest, 1e-12)).T ** 0.75,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap="magma",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    for time_s, strength in zip(rhythm.times_s, rhythm.strengths, strict=True):
        axes.axvline(time_s, color="white", linewidth=0.8, alpha=0.15 + 0.6 * float(strength))
    axes.set_yticks([0, 45, 90, 135, 180])
    axes.set_ylabel("direction (°)", fontsize=8)
    _set_panel_title(axes, "directogram", "how fast the joints move, in each direction")


def _draw_envelope(axes: "Axes", rhythm: Rhythm) -> None:
    times = np.arange(len(rhythm.envelope)) / rhythm.envelope_rate_hz
    axes.fill_between(times, rhythm.envelope, color=ENVELOPE_COLOUR, alpha=0.18, linewidth=0)
    axes.plot(times, rhythm.envelope, color=ENVELOPE_COLOUR, linewidth=1)
    axes.vlines(rhythm.times_s, 0, rhythm.strengths, color=PEAK_COLOUR, linewidth=1.6)
    axes.scatter(
        rhythm.times_s, rhythm.strengths, color=PEAK_COLOUR, s=16, zorder=3, clip_on=False
    )
    axes.set_ylim(0, 1.08)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("0 to 1", fontsize=8)
    count = len(rhythm.times_s)
    peaks = "1 peak" if count == 1 else f"{count} peaks"
    source = "optical flow" if rhythm.method == "flow" else "poses"
    _set_panel_title(
        axes, "rise of motion", f"{peaks} of {source}; a stem is as high as it is strong"
    )


def draw_mel_spectrogram(axes: "Axes", audio: NDArray[np.float32], rate_hz: int) -> None:
    """Draw the mel spectrogram of a sound, 64 bands from 30 Hz, with room below and above.

    Args:
        axes: whose unit of height becomes a band.
        audio: ``(samples,)``.
        rate_hz: samples a second.
    """
    from loris_cli.system.librosa_import import librosa

    mel = librosa.feature.melspectrogram(
        y=audio,
        sr=rate_hz,
        n_fft=PLOT_N_FFT,
        hop_length=PLOT_HOP,
        n_mels=64,
        fmin=30,
        fmax=rate_hz / 2,
    )
    level = librosa.power_to_db(np.maximum(mel, 1e-10), ref=max(float(mel.max()), 1e-10))
    extent = (0, mel.shape[1] * PLOT_HOP / rate_hz, 0, 64)
    axes.imshow(
        level, origin="lower", aspect="auto", extent=extent, cmap="viridis", vmin=-70, vmax=0
    )
    ticks = np.array([100, 400, 1600, 6400])
    ticks = ticks[ticks < rate_hz / 2]
    bands = librosa.mel_frequencies(n_mels=64, fmin=30, fmax=rate_hz / 2)
    axes.set_yticks(np.interp(ticks, bands, np.arange(64) + 0.5), [str(tick) for tick in ticks])
    axes.set_ylim(-6, 70)
    axes.set_ylabel("Hz", fontsize=8)


def _draw_audio(axes: "Axes", audio: Array, rate_hz: int, rhythm: Rhythm) -> None:
    from loris_cli.system.librosa_import import librosa

    heard = np.ascontiguousarray(audio, dtype=np.float32)
    draw_mel_spectrogram(axes, heard, rate_hz)
    onsets = librosa.onset.onset_detect(y=heard, sr=rate_hz, hop_length=PLOT_HOP, units="time")
    if not heard.any():
        onsets = np.zeros(0)
    axes.vlines(onsets, 65, 70, color=ONSET_COLOUR, linewidth=1.6)
    axes.vlines(rhythm.times_s, -6, -1, color=PEAK_COLOUR, linewidth=1.6)
    count = "1 onset" if len(onsets) == 1 else f"{len(onsets)} onsets"
    _set_panel_title(axes, "sound", f"mel spectrogram; {count} above, peaks of the video below")

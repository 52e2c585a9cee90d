"""Plot of a rhythm: audio, directogram, and onset envelope with peaks.

    keypoints, rhythm, audio -> directogram, envelope, mel spectrogram -> PNG

Similar to Fig. 3 of LORIS, which shows the rhythm of the video below that of the audio.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loris_cli.array_types import Array, Float32Array
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.rhythm.pose_rhythm import pose_directogram
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.system.atomic_files import output_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PEAK_COLOUR = "#e4572e"
ONSET_COLOUR = "#35d0ba"
ENVELOPE_COLOUR = "#2e4057"
DPI = 100
LEFT_MARGIN_PX, RIGHT_MARGIN_PX = 90, 30
PANEL_HEIGHT_PX = {"audio": 170, "directogram": 150, "envelope": 150}
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
    """Plot a rhythm as a PNG file that is byte-identical for equal inputs.

    All panels share the time axis. A peak is a stem on the envelope, whose height is its
    strength, and a thin line in the directogram, whose opacity increases with the strength.

    Args:
        output_path: file to write.
        rhythm: envelope and peaks.
        keypoints: poses of the rhythm, ``(frames, joints, 3)``; adds the directogram panel.
        audio: mono audio, ``(samples,)``; adds a mel spectrogram with onsets.
        rate_hz: sample rate of the audio.
        title: title above the plot.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, Callable[[Axes], None]] = {}
    if audio is not None and len(audio):
        panels["audio"] = lambda axes: _draw_audio(axes, audio, rate_hz, rhythm)
    if keypoints is not None and len(keypoints):
        panels["directogram"] = lambda axes: _draw_directogram(axes, keypoints, rhythm)
    panels["envelope"] = lambda axes: _draw_envelope(axes, rhythm)
    # 40 pixels per second keep adjacent peaks apart and fit 25 s on a screen.
    plot_width = int(np.clip(40 * rhythm.duration_s, 600, 6000))
    width = LEFT_MARGIN_PX + RIGHT_MARGIN_PX + plot_width
    height = TOP_MARGIN_PX + BOTTOM_MARGIN_PX + PANEL_GAP_PX * (len(panels) - 1)
    height += sum(PANEL_HEIGHT_PX[name] for name in panels)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    left, top = LEFT_MARGIN_PX / width, height - TOP_MARGIN_PX
    for name, draw in panels.items():
        top -= PANEL_HEIGHT_PX[name]
        panel_height = PANEL_HEIGHT_PX[name] / height
        axes: Any = figure.add_axes((left, top / height, plot_width / width, panel_height))
        draw(axes)
        axes.set_xlim(0, max(rhythm.duration_s, 1e-3))
        axes.tick_params(labelsize=8, length=3, labelbottom=name == "envelope")
        axes.spines[["top", "right"]].set_visible(False)
        top -= PANEL_GAP_PX
    axes.set_xlabel("seconds", fontsize=9)
    if title:
        # A file name may contain a $, which would start a formula.
        figure.text(left, 1 - 16 / height, title, fontsize=11, va="center", parse_math=False)
    with output_errors(output_path):
        figure.savefig(output_path, format="png", metadata={"Software": None})


def _set_panel_title(axes: "Axes", title: str, subtitle: str = "") -> None:
    axes.set_title(title, fontsize=9, loc="left", pad=4, fontweight="bold")
    if subtitle:
        axes.set_title(subtitle, fontsize=8, loc="right", pad=4, color="#555555")


def _draw_directogram(axes: "Axes", keypoints: Array, rhythm: Rhythm) -> None:
    histogram, rate_hz = pose_directogram(keypoints), rhythm.envelope_rate_hz
    maximum = float(np.quantile(histogram, 0.995))
    axes.imshow(
        (histogram / max(maximum, 1e-12)).T ** 0.75,
        origin="lower",
        aspect="auto",
        # Column k is the motion between frames k - 1 and k.
        extent=(-1 / rate_hz, (len(histogram) - 1) / rate_hz, 0, 180),
        cmap="magma",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    for time_s, strength in zip(rhythm.times_s, rhythm.strengths, strict=True):
        axes.axvline(time_s, color="white", linewidth=0.8, alpha=0.15 + 0.6 * float(strength))
    axes.set_yticks([0, 45, 90, 135, 180])
    axes.set_ylabel("direction (°)", fontsize=8)
    _set_panel_title(axes, "directogram", "joint speed by direction of motion")


def _draw_envelope(axes: "Axes", rhythm: Rhythm) -> None:
    envelope, peaks_s, strengths = rhythm.envelope, rhythm.times_s, rhythm.strengths
    times_s = np.arange(len(envelope)) / rhythm.envelope_rate_hz
    axes.fill_between(times_s, envelope, color=ENVELOPE_COLOUR, alpha=0.18, linewidth=0)
    axes.plot(times_s, envelope, color=ENVELOPE_COLOUR, linewidth=1)
    axes.vlines(peaks_s, 0, strengths, color=PEAK_COLOUR, linewidth=1.6)
    axes.scatter(peaks_s, strengths, color=PEAK_COLOUR, s=16, zorder=3, clip_on=False)
    axes.set_ylim(0, 1.08)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("normalized", fontsize=8)
    source = "optical flow" if rhythm.method == "flow" else "poses"
    peaks = f"{_count(peaks_s, 'peak')} from {source}"
    _set_panel_title(axes, "onset envelope", f"{peaks}; stem height: peak strength")


def _count(items: Array, noun: str) -> str:
    return f"1 {noun}" if len(items) == 1 else f"{len(items)} {noun}s"


def draw_mel_spectrogram(axes: "Axes", audio: Float32Array, rate_hz: int) -> None:
    """Draw a mel spectrogram of 64 bands from 30 Hz, with margins below and above.

    Args:
        axes: target axes; one unit of the y axis is one mel band.
        audio: ``(samples,)``.
        rate_hz: sample rate.
    """
    from loris_cli.system.librosa_import import librosa

    bands: dict[str, Any] = {"n_mels": 64, "fmin": 30, "fmax": rate_hz / 2}
    mel = librosa.feature.melspectrogram(
        y=audio, sr=rate_hz, n_fft=PLOT_N_FFT, hop_length=PLOT_HOP, **bands
    )
    db = librosa.power_to_db(np.maximum(mel, 1e-10), ref=max(float(mel.max()), 1e-10))
    box = (0, mel.shape[1] * PLOT_HOP / rate_hz, 0, 64)
    axes.imshow(db, origin="lower", aspect="auto", extent=box, cmap="viridis", vmin=-70, vmax=0)
    ticks_hz = [hz for hz in (100, 400, 1600, 6400) if hz < rate_hz / 2]
    positions = np.interp(ticks_hz, librosa.mel_frequencies(**bands), np.arange(64) + 0.5)
    axes.set_yticks(positions, [str(hz) for hz in ticks_hz])
    axes.set_ylim(-6, 70)
    axes.set_ylabel("Hz", fontsize=8)


def _draw_audio(axes: "Axes", audio: Array, rate_hz: int, rhythm: Rhythm) -> None:
    from loris_cli.system.librosa_import import librosa

    mono = np.ascontiguousarray(audio, dtype=np.float32)
    draw_mel_spectrogram(axes, mono, rate_hz)
    onsets = librosa.onset.onset_detect(y=mono, sr=rate_hz, hop_length=PLOT_HOP, units="time")
    if not mono.any():
        onsets = np.zeros(0)
    axes.vlines(onsets, 65, 70, color=ONSET_COLOUR, linewidth=1.6)
    axes.vlines(rhythm.times_s, -6, -1, color=PEAK_COLOUR, linewidth=1.6)
    subtitle = f"mel spectrogram; {_count(onsets, 'onset')} (top), visual peaks (bottom)"
    _set_panel_title(axes, "audio", subtitle)

"""Figures of a report: one clip after figure 3 of the paper, and the spread of clip scores.

a clip -> video frames, visual rhythm, spectrograms of reference and generated audio -> PNG
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.audio_analysis import AudioAnalysis
from loris_cli.evaluation.runner.audio_sources import AudioSource, Samples, load_samples
from loris_cli.evaluation.runner.clips import EvalClip
from loris_cli.evaluation.runner.run import EvaluationResult
from loris_cli.evaluation.runner.scores import SystemScores
from loris_cli.rhythm.plot import ONSET_COLOUR, PEAK_COLOUR, draw_mel_spectrogram
from loris_cli.video.frames import read_frames_at_fps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

DPI = 100
WIDTH_IN = 13.0
N_VIDEO_FRAMES = 10
MAX_FRAME_SIDE_PX = 180
PLOTTED_METRICS = ("BCS", "BHS", "onset_f", "beat_f", "audio_to_motion_alignment", "av_align")
"""Metrics whose spread over clips is drawn, if available."""


@dataclass(frozen=True, kw_only=True)
class _FigurePanel:
    """One strip of the figure of a clip."""

    title: str
    height_in: float
    samples: Samples | None = None
    onsets_s: Array | None = None
    video_frames: Sequence[NDArray[np.uint8]] = ()


def plot_clip(result: EvaluationResult, system_id: str, clip_id: str) -> bytes:
    """Draw the first take of a clip with its reference, as a PNG.

    Args:
        result: result of the run.
        system_id: system of the take.
        clip_id: the clip.

    Raises:
        InputError: the system has no such clip.
    """
    system = result.get_system(system_id)
    clip = next((clip for clip in result.clips if clip.id == clip_id), None)
    if system is None or clip is None or clip_id not in system.clip_ids:
        raise InputError(
            f"no clip {clip_id!r} in the system {system_id!r}", hint="see --per-clip"
        )
    seed = system.seeds[0]
    analysis = result.take_analyses[system_id][clip_id, seed]
    take = result.take_sources[system_id][clip_id, seed]
    panels = []
    frames = _sample_video_frames(clip, analysis.duration_s)
    if frames:
        panels.append(_FigurePanel(title="video", height_in=1.0, video_frames=frames))
    if clip.visual_peaks_s is not None:
        panels.append(_FigurePanel(title="visual rhythm", height_in=0.7))
    if clip.reference is not None:
        reference = result.reference_analyses[clip_id]
        panels.append(_audio_panel("reference", clip.reference, reference))
    panels.append(_audio_panel(system_id, take, analysis))
    return _render_panels(panels, clip, analysis.duration_s)


def plot_clip_scores(systems: Sequence[SystemScores]) -> bytes:
    """Draw the spread of clip scores of every system, as a PNG."""
    metrics = [
        name
        for name in PLOTTED_METRICS
        if any(name in system.clip_values for system in systems)
    ]
    figure, canvas = _create_figure(0.32 * len(systems) + 1.1)
    for k, name in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), k + 1)
        for y, system in enumerate(reversed(systems)):
            values = system.clip_values.get(name, np.zeros(0))
            values = values[~np.isnan(values)]
            if not len(values):
                continue
            jitter = np.random.default_rng(y).uniform(-0.28, 0.28, len(values))
            axes.scatter(values, y + jitter, s=5, alpha=0.35, color="#2e4057", linewidth=0)
            axes.vlines(values.mean(), y - 0.38, y + 0.38, color=PEAK_COLOUR)
        labels = [system.id for system in reversed(systems)] if k == 0 else []
        axes.set_yticks(range(len(systems)), labels)
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(-0.6, len(systems) - 0.4)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=8)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
    figure.tight_layout()
    return _encode_png(canvas)


def _audio_panel(title: str, source: AudioSource, analysis: AudioAnalysis) -> _FigurePanel:
    samples, _ = load_samples(source)
    onsets_s = analysis.strict_onsets_s
    return _FigurePanel(title=title, height_in=1.9, samples=samples, onsets_s=onsets_s)


def _render_panels(panels: Sequence[_FigurePanel], clip: EvalClip, duration_s: float) -> bytes:
    gap_in = 0.35
    height_in = sum(panel.height_in + gap_in for panel in panels) + 0.4
    figure, canvas = _create_figure(height_in)
    top = height_in - gap_in
    axes: Any = None
    for panel in panels:
        box = (0.06, (top - panel.height_in) / height_in, 0.92, panel.height_in / height_in)
        axes = figure.add_axes(box)
        _draw_panel(axes, panel, clip, duration_s)
        axes.set_title(panel.title, fontsize=9, loc="left", pad=3, parse_math=False)
        axes.set_xlim(0, duration_s)
        axes.tick_params(labelsize=8, labelbottom=panel is panels[-1])
        top -= panel.height_in + gap_in
    axes.set_xlabel("seconds", fontsize=9)
    return _encode_png(canvas)


def _draw_panel(axes: "Axes", panel: _FigurePanel, clip: EvalClip, duration_s: float) -> None:
    if panel.video_frames:
        width_s = duration_s / len(panel.video_frames)
        for k, frame in enumerate(panel.video_frames):
            axes.imshow(frame, extent=(k * width_s, (k + 1) * width_s, 0, 1), aspect="auto")
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        return
    peaks = clip.visual_peaks_s or ()
    if panel.samples is None:
        axes.vlines(peaks, 0, 1, color=PEAK_COLOUR, linewidth=1.4)
        axes.set_yticks([])
        return
    draw_mel_spectrogram(axes, panel.samples, SAMPLE_RATE_HZ)
    if panel.onsets_s is not None:
        axes.vlines(panel.onsets_s, 65, 70, color=ONSET_COLOUR, linewidth=1.4)
    axes.vlines(peaks, -6, -1, color=PEAK_COLOUR, linewidth=1.4)


def _sample_video_frames(clip: EvalClip, duration_s: float) -> list[NDArray[np.uint8]]:
    """Evenly spaced frames of the video; empty without a video."""
    if clip.video is None:
        return []
    fps = N_VIDEO_FRAMES / duration_s
    frames = read_frames_at_fps(clip.video, fps, max_side_px=MAX_FRAME_SIDE_PX)
    return [frame.rgb for frame in islice(frames, N_VIDEO_FRAMES)]


def _create_figure(height_in: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white")
    return figure, FigureCanvasAgg(figure)


def _encode_png(canvas: Any) -> bytes:
    out = io.BytesIO()
    canvas.print_png(out, metadata={"Software": None})
    return out.getvalue()

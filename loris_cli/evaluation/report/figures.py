"""Figures of a report: one clip as in figure 3 of the paper, and distributions of clip scores.

a clip -> video frames, visual rhythm, spectrograms of reference and generated audio -> PNG
"""

import io
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.audio_analysis import AudioAnalysis
from loris_cli.evaluation.runner.audio_sources import AudioSource, load_samples
from loris_cli.evaluation.runner.clips import EvalClip
from loris_cli.evaluation.runner.run import EvaluationResult
from loris_cli.evaluation.runner.scores import SystemScores
from loris_cli.rhythm.plot import ONSET_COLOUR, PEAK_COLOUR, draw_mel_spectrogram
from loris_cli.video.frames import read_frames_at_fps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel = tuple[str, float, Callable[["Axes"], None]]
"""Title, height in inches and drawing function of a panel."""

DPI = 100
WIDTH_IN = 13.0
N_VIDEO_FRAMES = 10
MAX_FRAME_SIDE_PX = 180
PLOTTED_METRICS = ("BCS", "BHS", "onset_f", "beat_f", "audio_to_motion_alignment", "av_align")
"""Metrics whose distribution over clips is plotted, if available."""


def plot_clip(result: EvaluationResult, system_id: str, clip_id: str) -> bytes:
    """Plot the first take of a clip with its reference, as PNG.

    Args:
        result: result of the evaluation run.
        system_id: id of the system.
        clip_id: id of the clip.

    Raises:
        InputError: the system or the clip does not exist.
    """
    system = result.get_system(system_id)
    clip = next((clip for clip in result.clips if clip.id == clip_id), None)
    if system is None or clip is None or clip_id not in system.clip_ids:
        raise InputError(
            f"no clip {clip_id!r} for system {system_id!r}",
            hint="list the clip ids with --per-clip",
        )
    take = (clip_id, system.seeds[0])
    analysis = result.take_analyses[system_id][take]
    duration_s, peaks_s = analysis.duration_s, clip.visual_peaks_s
    panels: list[Panel] = []
    frames = _sample_video_frames(clip, duration_s)
    if frames:
        panels.append(("video", 1.0, lambda axes: _draw_frames(axes, frames, duration_s)))
    if peaks_s is not None:
        title = "rhythm of the reference" if clip.rhythm_from_reference else "visual rhythm"
        panels.append((title, 0.7, lambda axes: _draw_peaks(axes, peaks_s)))
    sources = [(system_id, result.take_sources[system_id][take], analysis)]
    if clip.reference is not None:
        sources.insert(0, ("reference", clip.reference, result.reference_analyses[clip_id]))
    for title, source, analysis in sources:
        draw = partial(_draw_audio, source=source, analysis=analysis, peaks_s=peaks_s or ())
        panels.append((title, 1.9, draw))
    return _render_panels(panels, duration_s)


def plot_clip_scores(systems: Sequence[SystemScores]) -> bytes:
    """Plot the distribution of clip scores of every system, as PNG."""
    available = {name for system in systems for name in system.clip_values}
    metrics = [name for name in PLOTTED_METRICS if name in available]
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


def _render_panels(panels: Sequence[Panel], duration_s: float) -> bytes:
    gap_in = 0.35
    full_height_in = sum(height_in + gap_in for _, height_in, _ in panels) + 0.4
    figure, canvas = _create_figure(full_height_in)
    top_in = full_height_in - gap_in
    axes: Any = None
    for title, height_in, draw in panels:
        bottom = (top_in - height_in) / full_height_in
        axes = figure.add_axes((0.06, bottom, 0.92, height_in / full_height_in))
        draw(axes)
        axes.set_title(title, fontsize=9, loc="left", pad=3, parse_math=False)
        axes.set_xlim(0, duration_s)
        axes.tick_params(labelsize=8, labelbottom=draw is panels[-1][2])
        top_in -= height_in + gap_in
    axes.set_xlabel("time (s)", fontsize=9)
    return _encode_png(canvas)


def _draw_frames(axes: "Axes", frames: Sequence[NDArray[np.uint8]], duration_s: float) -> None:
    width_s = duration_s / len(frames)
    for k, frame in enumerate(frames):
        axes.imshow(frame, extent=(k * width_s, (k + 1) * width_s, 0, 1), aspect="auto")
    axes.set_ylim(0, 1)
    axes.set_yticks([])


def _draw_peaks(axes: "Axes", peaks_s: Sequence[float]) -> None:
    axes.vlines(peaks_s, 0, 1, color=PEAK_COLOUR, linewidth=1.4)
    axes.set_yticks([])


def _draw_audio(
    axes: "Axes", *, source: AudioSource, analysis: AudioAnalysis, peaks_s: Sequence[float]
) -> None:
    draw_mel_spectrogram(axes, load_samples(source)[0], SAMPLE_RATE_HZ)
    axes.vlines(analysis.strict_onsets_s, 65, 70, color=ONSET_COLOUR, linewidth=1.4)
    axes.vlines(peaks_s, -6, -1, color=PEAK_COLOUR, linewidth=1.4)


def _sample_video_frames(clip: EvalClip, duration_s: float) -> list[NDArray[np.uint8]]:
    """Return evenly spaced frames of the video; empty without a video."""
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

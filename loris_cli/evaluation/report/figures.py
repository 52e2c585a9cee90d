"""Pictures of a benchmark: one clip after figure 3 of the paper, and how values are spread.

a clip -> pictures of the video, visual rhythm, true and generated spectrogram -> PNG
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
from loris_cli.evaluation.runner.audio_sources import Samples, samples_of
from loris_cli.evaluation.runner.clips import Case
from loris_cli.evaluation.runner.run import Result
from loris_cli.evaluation.runner.scores import Row
from loris_cli.rhythm.plot import ONSET_COLOUR, PEAK_COLOUR, draw_spectrogram
from loris_cli.video.frames import frames_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

DPI = 100
WIDTH_IN = 13.0
N_PICTURES = 10
PICTURE_PX = 180
SHOWN = ("BCS", "BHS", "onset_f", "beat_f", "align_sound", "av_align")
"""Values whose spread over clips is drawn, those that there are."""


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One strip of the picture of a clip."""

    title: str
    height_in: float
    sound: Samples | None = None
    onsets_s: Array | None = None
    pictures: Sequence[NDArray[np.uint8]] = ()


def clip_figure(result: Result, row_id: str, clip: str) -> bytes:
    """A clip of a row beside its truth, as a PNG.

    Args:
        result: of the run.
        row_id: whose sound.
        clip: which clip; its first take is drawn.

    Raises:
        InputError: the row has no such clip.
    """
    row = result.row(row_id)
    case = next((case for case in result.cases if case.id == clip), None)
    if row is None or case is None or clip not in row.clips:
        raise InputError(f"no clip {clip!r} in the row {row_id!r}", hint="see --per-clip")
    seed = row.seeds[0]
    made = result.takes[row_id][clip, seed]
    sound, _ = samples_of(result.sounds[row_id][clip, seed])
    panels = [_Panel(title=row_id, height_in=1.9, sound=sound, onsets_s=made.fine_onsets_s)]
    if case.reference is not None:
        truth, _ = samples_of(case.reference)
        onsets = result.truths[clip].fine_onsets_s
        panels.insert(0, _Panel(title="truth", height_in=1.9, sound=truth, onsets_s=onsets))
    if case.peaks_s is not None:
        panels.insert(0, _Panel(title="visual rhythm", height_in=0.7))
    pictures = _pictures(case, made.duration_s)
    if pictures:
        panels.insert(0, _Panel(title="video", height_in=1.0, pictures=pictures))
    return _drawn(panels, case, made.duration_s)


def spread_figure(rows: Sequence[Row]) -> bytes:
    """How the values of clips are spread in every row, as a PNG."""
    names = [name for name in SHOWN if any(name in row.values for row in rows)]
    figure, canvas = _empty(0.32 * len(rows) + 1.1)
    for k, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), k + 1)
        for place, row in enumerate(reversed(rows)):
            values = row.values.get(name, np.zeros(0))
            values = values[~np.isnan(values)]
            if not len(values):
                continue
            jitter = np.random.default_rng(place).uniform(-0.28, 0.28, len(values))
            axes.scatter(values, place + jitter, s=5, alpha=0.35, color="#2e4057", linewidth=0)
            axes.vlines(values.mean(), place - 0.38, place + 0.38, color=PEAK_COLOUR)
        axes.set_yticks(range(len(rows)), [row.id for row in reversed(rows)] if k == 0 else [])
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=8)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
    figure.tight_layout()
    return _png(canvas)


def _drawn(panels: Sequence[_Panel], case: Case, duration_s: float) -> bytes:
    gap_in = 0.35
    height_in = sum(panel.height_in + gap_in for panel in panels) + 0.4
    figure, canvas = _empty(height_in)
    top = height_in - gap_in
    axes: Any = None
    for panel in panels:
        box = (0.06, (top - panel.height_in) / height_in, 0.92, panel.height_in / height_in)
        axes = figure.add_axes(box)
        _draw(axes, panel, case, duration_s)
        axes.set_title(panel.title, fontsize=9, loc="left", pad=3, parse_math=False)
        axes.set_xlim(0, duration_s)
        axes.tick_params(labelsize=8, labelbottom=panel is panels[-1])
        top -= panel.height_in + gap_in
    axes.set_xlabel("seconds", fontsize=9)
    return _png(canvas)


def _draw(axes: "Axes", panel: _Panel, case: Case, duration_s: float) -> None:
    if panel.pictures:
        width_s = duration_s / len(panel.pictures)
        for k, picture in enumerate(panel.pictures):
            axes.imshow(picture, extent=(k * width_s, (k + 1) * width_s, 0, 1), aspect="auto")
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        return
    peaks = case.peaks_s or ()
    if panel.sound is None:
        axes.vlines(peaks, 0, 1, color=PEAK_COLOUR, linewidth=1.4)
        axes.set_yticks([])
        return
    draw_spectrogram(axes, panel.sound, SAMPLE_RATE_HZ)
    if panel.onsets_s is not None:
        axes.vlines(panel.onsets_s, 65, 70, color=ONSET_COLOUR, linewidth=1.4)
    axes.vlines(peaks, -6, -1, color=PEAK_COLOUR, linewidth=1.4)


def _pictures(case: Case, duration_s: float) -> list[NDArray[np.uint8]]:
    """Pictures of the video at even times; none where there is no video."""
    if case.video is None:
        return []
    shown = frames_at(case.video, N_PICTURES / duration_s, max_side_px=PICTURE_PX)
    return [frame.rgb for frame in islice(shown, N_PICTURES)]


def _empty(height_in: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white")
    return figure, FigureCanvasAgg(figure)


def _png(canvas: Any) -> bytes:
    out = io.BytesIO()
    canvas.print_png(out, metadata={"Software": None})
    return out.getvalue()

"""Note spectrogram: the approximate log-mel spectrogram of an arrangement.

    notes -> spectrum of each, from a table -> powers summed -> log-mel frames

The table, ``timbres.npz``, holds the spectrum of every note of the instruments of the training
music, measured by ``experiments/measure_timbres.py``. Reverb, balance and the phases of
overlapping notes are not modelled; the note spectrogram gives a network the notes to play in
the representation that it works in. The paper has no such condition.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from loris_cli.array_types import Float32Array
from loris_cli.audio import mel
from loris_cli.composition.arrangement import DRUM_CHANNEL, TIMBRE_NOTES, Arrangement

NOTE_MEL_CONFIG = mel.FINE_MEL_CONFIG
ONSET_FRAME_OFFSETS = np.array(
    [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 26, 32, 40, 52, 64, 80, 104, 128, 168,
     224, 320]
)  # fmt: skip
"""Log-mel frames from a note's onset at which the table has its spectrum; in between it is
interpolated linearly in the logarithm, after the last it is constant."""
RELEASE_FRAME_OFFSETS = np.array([0, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96])
"""Frames from a note's end at which the table has its remaining level; then it is silent."""
REFERENCE_VELOCITY = 64
"""Velocity of the measured notes; amplitude goes with its square (General MIDI)."""

TIMBRE_ROW_BY_NOTE = {note: row for row, note in enumerate(TIMBRE_NOTES)}

MIN_LOG_LEVEL, LOG_LEVEL_STEP = -12.0, 0.07
"""Quantization of the stored levels: a byte each, 0.6 dB apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TimbreTable:
    """Spectrum and release of each of `TIMBRE_NOTES`."""

    log_levels: Float32Array
    """Logarithm of the mel magnitude at the onset offsets, ``(notes, points, mels)``."""
    release_log_gains: Float32Array
    """Logarithm of the remaining level at the release offsets, <= 0, ``(notes, points)``."""


@cache
def load_timbre_table() -> TimbreTable:
    """Load the table that ships with the package."""
    with files("loris_cli.composition").joinpath("timbres.npz").open("rb") as stream:
        arrays = dict(np.load(stream, allow_pickle=False))
    return TimbreTable(
        log_levels=MIN_LOG_LEVEL + LOG_LEVEL_STEP * arrays["levels"].astype(np.float32),
        release_log_gains=arrays["released"].astype(np.float32),
    )


def render_note_spectrogram(
    arrangement: Arrangement, start_frame: int, n_frames: int
) -> Float32Array:
    """Render the approximate log-mel frames of an arrangement.

    Args:
        arrangement: the notes; those not in `TIMBRE_NOTES` are left out.
        start_frame: first frame, counted from second 0, 256 samples each.
        n_frames: number of frames.

    Returns:
        natural logarithm of the mel magnitude, ``(160, frames)``, as `mel.compute_log_mel`.
    """
    table, offsets = load_timbre_table(), ONSET_FRAME_OFFSETS
    power = np.zeros((n_frames, NOTE_MEL_CONFIG.n_mels), dtype=np.float32)
    starts, lengths = arrangement.note_array[:, :2].T * mel.MEL_FPS
    starts = starts - start_frame
    is_drum = arrangement.note_array[:, 2] == DRUM_CHANNEL
    tails = np.where(is_drum, offsets[-1], lengths + RELEASE_FRAME_OFFSETS[-1])
    near = (starts + offsets[0] < n_frames) & (starts + tails > 0)
    notes = arrangement.note_array[near, 2:]
    for start, length, tail, (channel, pitch, velocity) in zip(
        starts[near], lengths[near], tails[near], notes, strict=True
    ):
        program = arrangement.channel_programs.get(int(channel), -1)
        row = TIMBRE_ROW_BY_NOTE.get((int(channel), program, int(pitch)))
        first = max(int(np.ceil(start + offsets[0])), 0)
        elapsed = np.arange(first, min(int(start + tail), n_frames)) - start
        if row is None or not len(elapsed):
            continue
        left = np.searchsorted(offsets, elapsed, side="right").clip(1, len(offsets) - 1) - 1
        weight = ((elapsed - offsets[left]) / np.diff(offsets)[left]).clip(0, 1)
        weight = weight[:, None].astype(np.float32)
        levels = table.log_levels[row]
        level = levels[left] * (1 - weight) + levels[left + 1] * weight
        release = table.release_log_gains[row]
        gain = np.interp(elapsed - length, RELEASE_FRAME_OFFSETS, release, left=0.0)
        gain += 2 * np.log(max(velocity, 1) / REFERENCE_VELOCITY)
        power[first : first + len(elapsed)] += np.exp(2 * level + 2 * gain[:, None])
    return np.log(np.sqrt(power.T) + np.float32(mel.LOG_OFFSET))

"""Note spectrogram: approximate log-mel spectrogram of an arrangement.

    notes -> spectrum of each note, from a table -> sum of powers -> log-mel frames

The table, ``timbres.npz``, contains the spectra of all notes of the instruments in the training
music, as measured by ``experiments/measure_timbres.py``. Reverb, balance and the phases of
overlapping notes are not modelled. The note spectrogram conditions a network on the notes, in
the same representation as its output. The paper has no such condition.
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
"""Frame offsets from a note's onset at which the table stores its spectrum. Log levels are
interpolated linearly in between, and constant after the last offset."""
RELEASE_FRAME_OFFSETS = np.array([0, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96])
"""Frame offsets from a note's end at which the table stores the remaining level; the note is
silent after the last offset."""
REFERENCE_VELOCITY = 64
"""Velocity of the measured notes; amplitude is proportional to its square (General MIDI)."""

TIMBRE_ROW_BY_NOTE = {note: row for row, note in enumerate(TIMBRE_NOTES)}

MIN_LOG_LEVEL, LOG_LEVEL_STEP = -12.0, 0.07
"""Quantization of the stored log levels: one byte each, in steps of 0.6 dB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TimbreTable:
    """Spectrum and release of each note in `TIMBRE_NOTES`."""

    log_levels: Float32Array
    """Natural log of the mel magnitude at the onset offsets, ``(notes, points, mels)``."""
    release_log_gains: Float32Array
    """Natural log of the remaining level at the release offsets, <= 0, ``(notes, points)``."""


@cache
def load_timbre_table() -> TimbreTable:
    """Load the timbre table from the package."""
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
        arrangement: the notes; notes that are not in `TIMBRE_NOTES` are ignored.
        start_frame: first frame, in units of 256 samples from time 0.
        n_frames: number of frames.

    Returns:
        Natural log of the mel magnitude, ``(160, frames)``, like `mel.compute_log_mel`.
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

"""Arrangements on the grid of CMT, and back.

    arrangement, beats -> notes on ticks -> words;  words -> notes on ticks -> arrangement

CMT has the five tracks of the Lakh pianoroll data set. The bass, chords, keys and lead of an
arrangement become its bass, strings, piano and guitar. Timpani have no track of their own and
are omitted; they double the bass (docs/differences.md, C15).
"""

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.baselines.bar_grid import TICKS_PER_BAR, TICKS_PER_BEAT, BarGrid
from loris_cli.baselines.cmt.words import MAX_DURATION_TICKS, GridNotes, Track
from loris_cli.composition.arrangement import (
    BASS_CHANNEL,
    DRUM_CHANNEL,
    KEYS_CHANNEL,
    LEAD_CHANNEL,
    PAD_CHANNEL,
    Arrangement,
    end_repeated_notes,
)

CHANNELS = {
    Track.DRUMS: DRUM_CHANNEL,
    Track.PIANO: KEYS_CHANNEL,
    Track.GUITAR: LEAD_CHANNEL,
    Track.BASS: BASS_CHANNEL,
    Track.STRINGS: PAD_CHANNEL,
}
"""MIDI channel of each track."""
VELOCITY = 80
"""Velocity of all notes: the words have none (released code)."""


def quantize_arrangement(
    arrangement: Arrangement, beats_s: Array, *, duration_s: float
) -> tuple[GridNotes, int]:
    """Move the notes of an arrangement to the nearest ticks.

    Args:
        arrangement: notes; those of channels without a track are omitted.
        beats_s: beat times, ``(beats,)``, at least two, the first of them a downbeat.
        duration_s: duration of the piece.

    Returns:
        Notes, ``(notes, 4)``, with durations of 1 to 16 ticks, and the length of the piece in
        ticks. Tick 0 is the start of the bar in which the piece begins.
    """
    tracks = {channel: track for track, channel in CHANNELS.items()}
    all_notes = arrangement.note_array
    notes = all_notes[np.isin(all_notes[:, 2], list(tracks)) & (all_notes[:, 0] < duration_s)]
    onset_s, length_s, channel, pitch = notes[:, :4].T
    times_s = np.concatenate([[0.0, duration_s], onset_s, onset_s + length_s])
    ticks = _times_to_ticks(times_s, beats_s)
    ticks -= ticks[0] // TICKS_PER_BAR * TICKS_PER_BAR
    onsets, ends = ticks[2:].reshape(2, -1)
    lengths = (ends - onsets).clip(1, MAX_DURATION_TICKS)
    track = np.array([tracks[int(c)] for c in channel], dtype=np.int64)
    grid_notes = np.stack([onsets, track, pitch.astype(np.int64), lengths], axis=1)
    n_ticks = max(int(ticks[1]), int(onsets.max(initial=0)) + 1)
    return grid_notes[onsets >= 0], n_ticks


def _times_to_ticks(times_s: Array, beats_s: Array) -> NDArray[np.int64]:
    """Return the nearest tick of each time; tick 0 is the first beat.

    The tempo before the first and after the last beat is the median tempo.
    """
    beat_s = float(np.median(np.diff(beats_s)))
    n_before = int(np.ceil(max(beats_s[0] - times_s.min(), 0) / beat_s))
    n_after = int(np.ceil(max(times_s.max() - beats_s[-1], 0) / beat_s))
    before_s = beats_s[0] - beat_s * np.arange(n_before, 0, -1)
    after_s = beats_s[-1] + beat_s * np.arange(1, n_after + 1)
    knots_s = np.concatenate([before_s, beats_s, after_s])
    knot_ticks = TICKS_PER_BEAT * (np.arange(len(knots_s)) - n_before)
    return np.round(np.interp(times_s, knots_s, knot_ticks)).astype(np.int64)


def build_arrangement(
    notes: GridNotes, grid: BarGrid, *, duration_s: float, programs: dict[int, int]
) -> Arrangement:
    """Return the arrangement of notes on a grid.

    Args:
        notes: ``(notes, 4)``.
        grid: bars; tick 0 is the start of the first.
        duration_s: duration of the clip. Notes with onsets outside it are omitted, except that
            a tick less than half a tick before it is moved to its start. Notes end with it.
        programs: General MIDI program of each channel.
    """
    onset_s = grid.start_s + grid.tick_s * notes[:, 0]
    onset_s = np.where(np.abs(onset_s) < grid.tick_s / 2, onset_s.clip(min=0), onset_s)
    length_s = np.minimum(grid.tick_s * notes[:, 3], duration_s - onset_s)
    channel = np.array([CHANNELS[Track(track)] for track in notes[:, 1].tolist()])
    velocity = np.full(len(notes), VELOCITY)
    rows = np.stack([onset_s, length_s, channel.astype(float), notes[:, 2], velocity], axis=1)
    rows = rows[(onset_s >= 0) & (length_s > 0)]
    return Arrangement(note_array=end_repeated_notes(rows), channel_programs=programs)

"""Compound words of CMT (Di et al., 2021, Sec. 3.3): notes on a grid of 16 ticks a bar.

    notes on ticks -> words of bars, beats and notes;  words -> notes on ticks

A bar word precedes the words of its bar. A beat word announces the notes that one track plays
on one tick. Each word has seven attributes and two positions:

    bar word   bar, meter, density: number of ticks with notes in the bar
    beat word  tick, meter, density: number of later ticks in the bar, track, strength: notes
    note word  note, pitch, duration, track

A further word with all attributes 0 ends the piece. The numbers are those of the released
dictionary. Drums have pitches like other tracks.
"""

from enum import IntEnum
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from loris_cli.baselines.bar_grid import TICKS_PER_BAR

Words = NDArray[np.int64]
"""Compound words, ``(words, 9)``, with the columns of `Column`."""
GridNotes = NDArray[np.int64]
"""Notes on a grid, ``(notes, 4)``: tick, track, MIDI pitch, duration in ticks."""


class Column(IntEnum):
    """Columns of a word: seven attributes, position in the piece, position in ticks."""

    BEAT = 0
    TYPE = 1
    DENSITY = 2
    PITCH = 3
    DURATION = 4
    TRACK = 5
    STRENGTH = 6
    TIME = 7
    TICK = 8


class WordType(IntEnum):
    """Values of the attribute ``type``; bars and beats are both ``METER``."""

    END = 0
    METER = 1
    NOTE = 2


class Track(IntEnum):
    """The five tracks of the Lakh pianoroll data set (LPD-5); 0 is none."""

    DRUMS = 1
    PIANO = 2
    GUITAR = 3
    BASS = 4
    STRINGS = 5


VOCABULARY_SIZES = (18, 3, 18, 129, 18, 6, 20)
"""Number of values of each attribute (released dictionary)."""
N_ATTRIBUTES, N_COLUMNS = len(VOCABULARY_SIZES), len(Column)
N_TIMES = 102
"""Number of positions in the piece: percent, from 1 on."""
BAR = 17
"""Attribute ``beat`` of a bar word; a beat word has its tick plus 1."""
MAX_DURATION_TICKS = 16
MAX_NOTES_PER_BEAT_WORD = 19


def time_position(tick: int, n_ticks: int) -> int:
    """Return the attribute ``time`` of a tick: percent of the piece plus 1."""
    return min(int(tick / n_ticks * 100) + 1, N_TIMES - 1)


def encode_words(notes: GridNotes, *, n_bars: int, n_ticks: int) -> Words:
    """Encode notes as compound words.

    Args:
        notes: ``(notes, 4)``. Of equal ticks, tracks and pitches one remains, the longest; of
            more than 19 notes of a track on a tick, the lowest remain.
        n_bars: number of bars; notes after them are omitted.
        n_ticks: length of the piece, for the attribute ``time``.

    Returns:
        ``(words, 9)``, in order of tick, track and pitch, with the word that ends the piece.
    """
    rows: list[list[int]] = []
    ordered = notes[np.lexsort((-notes[:, 3], notes[:, 2], notes[:, 1], notes[:, 0]))]
    _, first = np.unique(ordered[:, :3], axis=0, return_index=True)
    ordered = ordered[np.sort(first)]

    def add_word(tick: int, attributes: dict[Column, int]) -> None:
        row = [0] * N_COLUMNS
        for column, value in attributes.items():
            row[column] = value
        row[Column.TIME], row[Column.TICK] = time_position(tick, n_ticks), tick
        rows.append(row)

    for bar in range(n_bars):
        in_bar = ordered[ordered[:, 0] // TICKS_PER_BAR == bar].tolist()
        n_left = len({note[0] for note in in_bar})
        add_word(bar * TICKS_PER_BAR, bar_word(n_left))
        for tick, tick_notes in groupby(in_bar, key=lambda note: note[0]):
            n_left -= 1
            for track, group in groupby(tick_notes, key=lambda note: note[1]):
                members = list(group)[:MAX_NOTES_PER_BEAT_WORD]
                add_word(tick, beat_word(tick % TICKS_PER_BAR, n_left, track, len(members)))
                for _, _, pitch, duration in members:
                    add_word(tick, note_word(track, pitch, duration))
    rows.append([0] * N_COLUMNS)
    return np.array(rows, dtype=np.int64)


def bar_word(n_ticks_with_notes: int) -> dict[Column, int]:
    """Return the attributes of a bar word."""
    return {
        Column.BEAT: BAR,
        Column.TYPE: WordType.METER,
        Column.DENSITY: n_ticks_with_notes + 1,
    }


def beat_word(tick: int, n_later_ticks: int, track: int, strength: int) -> dict[Column, int]:
    """Return the attributes of a beat word; the tick counts from the start of the bar."""
    return {
        Column.BEAT: tick + 1,
        Column.TYPE: WordType.METER,
        Column.DENSITY: n_later_ticks + 1,
        Column.TRACK: track,
        Column.STRENGTH: strength,
    }


def note_word(track: int, pitch: int, duration_ticks: int) -> dict[Column, int]:
    """Return the attributes of a note word; durations are limited to a bar."""
    return {
        Column.TYPE: WordType.NOTE,
        Column.PITCH: pitch + 1,
        Column.DURATION: min(max(duration_ticks, 1), MAX_DURATION_TICKS) + 1,
        Column.TRACK: track,
    }


def decode_words(words: Words) -> GridNotes:
    """Decode compound words; notes are on the tick of the last beat word.

    Args:
        words: ``(words, 7)`` or more columns. The first is a bar word; words after one that
            ends the piece are ignored, and so are words without a meaning.

    Returns:
        ``(notes, 4)``, in the order of the words.
    """
    notes: list[tuple[int, int, int, int]] = []
    bar, tick = -1, 0
    for word in words.tolist():
        kind, beat = word[Column.TYPE], word[Column.BEAT]
        if kind == WordType.END:
            break
        if kind == WordType.METER and beat == BAR:
            bar, tick = bar + 1, 0
        elif kind == WordType.METER and beat > 0:
            tick = beat - 1
        elif kind == WordType.NOTE:
            pitch, duration, track = (
                word[column] for column in (Column.PITCH, Column.DURATION, Column.TRACK)
            )
            if pitch and duration and track:
                notes.append((bar * TICKS_PER_BAR + tick, track, pitch - 1, duration - 1))
    return np.array(notes, dtype=np.int64).reshape(-1, 4)

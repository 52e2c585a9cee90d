"""Performance events: notes as a sequence of 240 symbols.

    notes <-> velocity, note-on, time-shift and note-off events

After Performance RNN (Oore et al., "This Time with Feeling", 2018), with the geometric time
shifts of the released code of Foley Music. Every note is a velocity, a note-on and, if it ends
in the window, a note-off.
"""

from typing import Literal

import numpy as np

from loris_cli.array_types import Array
from loris_cli.composition.arrangement import end_repeated_notes

LOWEST_PITCH, N_PITCHES = 21, 88
"""Pitches of a piano; others are omitted."""
N_VELOCITIES, N_TIME_SHIFTS = 32, 32
NOTE_ON = 0
NOTE_OFF = NOTE_ON + N_PITCHES
VELOCITY = NOTE_OFF + N_PITCHES
TIME_SHIFT = VELOCITY + N_VELOCITIES
N_EVENTS = TIME_SHIFT + N_TIME_SHIFTS
START, END, PADDING = N_EVENTS, N_EVENTS + 1, N_EVENTS + 2
"""Symbols before and after the events of a window, and after the end of shorter sequences."""
N_SYMBOLS = N_EVENTS + 3
TIME_SHIFTS_S = 1.15 ** np.arange(N_TIME_SHIFTS) / 65
"""Durations of the time shifts: 15 ms to 1.17 s."""
TIME_STEP_S = float(TIME_SHIFTS_S[0])
TIME_DIGITS = 6
"""Decimals of times, so that a note ends before the next one of its pitch that starts then."""
MIN_NOTE_S = 1e-3
"""Least duration of notes; shorter ones are left over where two instruments play a pitch."""
MAX_VELOCITY = 127

OFFICIAL_MARGIN_S = 0.5
"""Released: events cover half a second more than the poses (docs/differences.md, F8)."""
OFFICIAL_VELOCITIES = 21 + 88 / 31 * np.arange(31)
"""Released: velocity steps over the range of pitches (docs/differences.md, F6)."""
OFFICIAL_DEFAULT_VELOCITY = 64
OFFICIAL_MIN_NOTE_S, OFFICIAL_DEFAULT_NOTE_S = 0.25, 1.0
"""Released: least duration of a note, and duration of notes without a note-off (F9)."""

Compat = Literal["paper", "official"]


def merge_instruments(note_array: Array, *, drum_channel: int) -> Array:
    """Return the notes of all pitched instruments as notes of one piano.

    The released vocabulary has one instrument without drums (docs/differences.md, F2).

    Args:
        note_array: as in `Arrangement`, ``(notes, 5)``.
        drum_channel: channel that is omitted.

    Returns:
        Notes in order of onset and pitch, ``(notes, 4)``: onset and duration in seconds, pitch
        21..108, velocity. Notes of a pitch do not overlap.
    """
    pitch = note_array[:, 3]
    is_in_range = (pitch >= LOWEST_PITCH) & (pitch < LOWEST_PITCH + N_PITCHES)
    notes = note_array[is_in_range & (note_array[:, 2] != drum_channel)]
    notes[:, 2] = 0
    merged = end_repeated_notes(notes)[:, [0, 1, 3, 4]]
    return np.asarray(merged[merged[:, 1] >= MIN_NOTE_S])


def crop_notes(notes: Array, start_s: float, duration_s: float, *, compat: Compat) -> Array:
    """Return the notes of a time range, with times relative to its start.

    Args:
        notes: ``(notes, 4)``: onset, duration, pitch, velocity.
        start_s: start of the range.
        duration_s: duration of the range.
        compat: ``official`` starts notes that sound at the start of the range there, and ends
            those that sound at its end (docs/differences.md, F8). ``paper`` omits the former;
            the latter have no note-off, as `encode_notes` omits events after the range.

    Returns:
        ``(notes, 4)``
    """
    onset_s, end_s = notes[:, 0] - start_s, notes[:, 0] + notes[:, 1] - start_s
    if compat == "official":
        onset_s, end_s = onset_s.clip(0, duration_s), end_s.clip(0, duration_s)
        is_inside = end_s > onset_s
    else:
        is_inside = (onset_s >= 0) & (onset_s < duration_s)
    cropped = np.column_stack([onset_s, end_s - onset_s, notes[:, 2:]])[is_inside]
    return np.asarray(cropped[np.argsort(cropped[:, 0], kind="stable")])


def encode_notes(notes: Array, *, duration_s: float, compat: Compat) -> list[int]:
    """Return the events of notes, without `START` and `END`.

    Args:
        notes: ``(notes, 4)``: onset, duration, pitch, velocity.
        duration_s: later events are omitted in the mode ``paper``.
        compat: ``official`` discards the rest before the first note and the remainder of every
            time shift, so that errors accumulate (docs/differences.md, F4 and F5). The times
            of ``paper`` are within half a time step.
    """
    marks = _list_marks(notes, compat)
    if compat == "official":
        return _encode_official(marks)
    events: list[int] = []
    clock_s = 0.0
    for time_s, _, symbols in marks:
        if time_s < duration_s:
            shifts = encode_time_shift(time_s - clock_s)
            events += [*shifts, *symbols]
            clock_s += sum_time_shifts(shifts)
    return events


def encode_time_shift(duration_s: float) -> list[int]:
    """Return the events of a time shift, longest first, within half a time step."""
    events = []
    while duration_s >= TIME_STEP_S / 2:
        index = max(int(np.searchsorted(TIME_SHIFTS_S, duration_s, side="right")) - 1, 0)
        events.append(TIME_SHIFT + index)
        duration_s -= float(TIME_SHIFTS_S[index])
    return events


def sum_time_shifts(events: list[int]) -> float:
    """Return the duration of all time shifts of a sequence in seconds."""
    shifts = [event - TIME_SHIFT for event in events if TIME_SHIFT <= event < N_EVENTS]
    return float(TIME_SHIFTS_S[shifts].sum())


def decode_notes(symbols: list[int], *, compat: Compat) -> Array:
    """Return the notes of events.

    Args:
        symbols: events; other symbols are ignored.
        compat: ``official`` gives notes at least 0.25 s, and 1 s to those without a note-off
            (docs/differences.md, F9). ``paper`` gives them at least one time step. Without a
            note-off they have infinite duration, for `end_notes`.

    Returns:
        Notes in order of onset and pitch, ``(notes, 4)``: onset, duration, pitch, velocity.
    """
    minimum_s = OFFICIAL_MIN_NOTE_S if compat == "official" else TIME_STEP_S
    open_end_s = OFFICIAL_DEFAULT_NOTE_S if compat == "official" else np.inf
    rows: list[list[float]] = []
    sounding: dict[int, list[float]] = {}
    clock_s, velocity = 0.0, OFFICIAL_DEFAULT_VELOCITY
    for symbol in symbols:
        if symbol < NOTE_OFF:
            row = [clock_s, open_end_s, LOWEST_PITCH + symbol, velocity]
            sounding[symbol] = row
            rows.append(row)
        elif symbol < VELOCITY:
            ended = sounding.pop(symbol - NOTE_OFF, None)
            if ended is not None:
                ended[1] = max(clock_s - ended[0], minimum_s)
        elif symbol < TIME_SHIFT:
            velocity = decode_velocity(symbol - VELOCITY, compat)
        elif symbol < N_EVENTS:
            clock_s += float(TIME_SHIFTS_S[symbol - TIME_SHIFT])
    notes = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return notes[np.lexsort((notes[:, 2], notes[:, 0]))]


def end_notes(notes: Array, end_s: float) -> Array:
    """Return the notes before a time; those that sound then end there."""
    ended = notes[notes[:, 0] < end_s]
    ended[:, 1] = np.minimum(ended[:, 1], end_s - ended[:, 0])
    return ended


def encode_velocity(velocity: float, compat: Compat) -> int:
    """Return the velocity step, 0..31, of a MIDI velocity."""
    if compat == "official":
        clipped = min(max(velocity, LOWEST_PITCH), LOWEST_PITCH + N_PITCHES - 1)
        return int(np.searchsorted(OFFICIAL_VELOCITIES, clipped))
    return round((velocity - 1) * (N_VELOCITIES - 1) / (MAX_VELOCITY - 1))


def decode_velocity(step: int, compat: Compat) -> int:
    """Return the MIDI velocity of a velocity step."""
    if compat == "official":
        return int(OFFICIAL_VELOCITIES[min(step, len(OFFICIAL_VELOCITIES) - 1)])
    return 1 + round(step * (MAX_VELOCITY - 1) / (N_VELOCITIES - 1))


def _list_marks(notes: Array, compat: Compat) -> list[tuple[float, int, list[int]]]:
    """Return starts and ends of notes in order: time, rank at equal times, symbols."""
    marks: list[tuple[float, int, list[int]]] = []
    for onset_s, duration_s, pitch, velocity in notes.tolist():
        index = int(pitch) - LOWEST_PITCH
        start = [VELOCITY + encode_velocity(velocity, compat), NOTE_ON + index]
        marks.append((round(onset_s, TIME_DIGITS), 1, start))
        marks.append((round(onset_s + duration_s, TIME_DIGITS), 0, [NOTE_OFF + index]))
    if compat == "official":  # stable, by time alone
        return sorted(marks, key=lambda mark: mark[0])
    return sorted(marks, key=lambda mark: (mark[0], mark[1], mark[2][-1]))


def _encode_official(marks: list[tuple[float, int, list[int]]]) -> list[int]:
    """Return events with time shifts rounded down, relative to the previous event."""
    events: list[int] = []
    previous_s = marks[0][0] if marks else 0.0
    for time_s, _, symbols in marks:
        rest_s = time_s - previous_s
        while rest_s >= TIME_STEP_S:
            index = int(np.searchsorted(TIME_SHIFTS_S, rest_s, side="right")) - 1
            events.append(TIME_SHIFT + index)
            rest_s -= float(TIME_SHIFTS_S[index])
        events += symbols
        previous_s = time_s
    return events

"""Standard MIDI files of scores.

arrangement, tempo map, markers -> conductor track, one track per instrument -> bytes
"""

import io
from collections.abc import Sequence

import mido
import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.composition.arrangement import (
    BASS_CHANNEL,
    DRUM_CHANNEL,
    KEYS_CHANNEL,
    LEAD_CHANNEL,
    PAD_CHANNEL,
    TIMPANI_CHANNEL,
    Arrangement,
    end_repeated_notes,
)
from loris_cli.composition.chords import SCALES, Harmony
from loris_cli.composition.tempo_map import TICKS_PER_BEAT, TempoMap, build_tempo_map

TRACK_NAMES = {
    BASS_CHANNEL: "Bass",
    PAD_CHANNEL: "Pad",
    KEYS_CHANNEL: "Keys",
    LEAD_CHANNEL: "Lead",
    TIMPANI_CHANNEL: "Timpani",
    DRUM_CHANNEL: "Drums",
}
DEFAULT_CHANNEL_VOLUME = 110 / 127
"""Channel volume, 0..1, of controller 7."""
VOLUME_CONTROLLER = 7
MAJOR_KEYS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MINOR_KEYS = ("Cm", "C#m", "Dm", "Ebm", "Em", "Fm", "F#m", "Gm", "G#m", "Am", "Bbm", "Bm")

Event = tuple[int, int, mido.Message | mido.MetaMessage]
"""Tick, order among events of the tick, and message."""


def encode_midi(
    arrangement: Arrangement,
    *,
    harmony: Harmony | None = None,
    markers: Sequence[tuple[float, str]] = (),
    title: str = "",
    channel_volumes: Array | None = None,
) -> bytes:
    """Encode a score as a standard MIDI file of format 1.

    Args:
        arrangement: notes and instruments; notes before time 0 begin at 0.
        harmony: determines tempo, bars and key; None writes 120 bpm.
        markers: times in seconds with their texts.
        title: name of the first track.
        channel_volumes: volume of each MIDI channel, ``(16,)``, 0..1; default 0.87.
    """
    tempo_map = build_tempo_map(harmony)
    if channel_volumes is None:
        channel_volumes = np.full(16, DEFAULT_CHANNEL_VOLUME)
    tracks = [_conductor_track(tempo_map, harmony, markers, title)]
    notes = _quantize_notes(arrangement.note_array, tempo_map)
    for channel in sorted(set(notes[:, 2].tolist())):
        program = arrangement.channel_programs[channel]
        volume = round(127 * float(channel_volumes[channel]))
        name = TRACK_NAMES.get(channel, f"Channel {channel + 1}")
        events: list[Event] = [
            (0, 0, mido.MetaMessage("track_name", name=name)),
            (0, 0, mido.Message("program_change", channel=channel, program=program)),
            (0, 0, _control_change(channel, VOLUME_CONTROLLER, volume)),
        ]
        for start, duration, _, pitch, velocity in notes[notes[:, 2] == channel].tolist():
            key = {"channel": channel, "note": pitch}
            events.append((start, 2, mido.Message("note_on", velocity=velocity, **key)))
            events.append((start + duration, 1, mido.Message("note_off", velocity=64, **key)))
        tracks.append(_build_track(events))
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, tracks=tracks)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def _quantize_notes(note_array: Array, tempo_map: TempoMap) -> NDArray[np.int64]:
    """Return notes with onset and duration in ticks; those of one key do not overlap.

    Repeated notes are ended after the conversion, because two onsets less than half a
    millisecond from each other may be on the same tick.
    """
    onset_s, duration_s, *others = note_array.T
    starts = tempo_map.to_ticks(onset_s)
    durations = np.maximum(tempo_map.to_ticks(onset_s + duration_s) - starts, 1)
    return end_repeated_notes(np.column_stack([starts, durations, *others])).astype(np.int64)


def _control_change(channel: int, control: int, value: int) -> mido.Message:
    return mido.Message("control_change", channel=channel, control=control, value=value)


def _conductor_track(
    tempo_map: TempoMap,
    harmony: Harmony | None,
    markers: Sequence[tuple[float, str]],
    title: str,
) -> mido.MidiTrack:
    """Return the track with tempo, time signatures, key and markers."""
    events: list[Event] = []
    if title:
        events.append((0, 0, mido.MetaMessage("track_name", name=_to_ascii(title))))
    for tick, numerator, denominator in tempo_map.signatures:
        signature = {"numerator": numerator, "denominator": denominator}
        events.append((tick, 1, mido.MetaMessage("time_signature", **signature)))
    if harmony is not None:
        events.append((0, 1, mido.MetaMessage("key_signature", key=_name_key(harmony))))
    for tick, beat_us in tempo_map.changes:
        events.append((tick, 2, mido.MetaMessage("set_tempo", tempo=beat_us)))
    times_s = np.array([time_s for time_s, _ in markers])
    for tick, (_, text) in zip(tempo_map.to_ticks(times_s).tolist(), markers, strict=True):
        events.append((tick, 3, mido.MetaMessage("marker", text=_to_ascii(text))))
    return _build_track(events)


def _name_key(harmony: Harmony) -> str:
    """Return the name of the key signature; a Dorian scale has that of the key below."""
    if harmony.scale == SCALES["minor"]:
        return MINOR_KEYS[harmony.tonic]
    is_dorian = harmony.scale == SCALES["dorian"]
    return MAJOR_KEYS[(harmony.tonic - 2 * is_dorian) % 12]


def _to_ascii(text: str) -> str:
    """Escape characters that the text of a MIDI file cannot contain."""
    return text.encode("ascii", "backslashreplace").decode()


def _build_track(events: list[Event]) -> mido.MidiTrack:
    track, previous_tick = mido.MidiTrack(), 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - previous_tick))
        previous_tick = tick
    return track

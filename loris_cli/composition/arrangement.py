"""Arrangement of a piece: the notes of all instruments, on accents and between them.

    accents, energy, chords, style, seed -> instruments -> notes on accents, notes between

Accents have a kick, a cymbal or snare, a bass note and, often, a new chord. The notes between
accents follow the subdivisions of the harmony (`loris_cli.composition.chords`). They form
softer layers, which are denser and louder at higher energy. All choices are random draws under
rules; no recordings or existing scores are used. The training music is composed in this way,
and so are the notes that condition ``mini``, which renders them as audio. The paper has no such
condition; models trained without notes do not receive it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.composition.chords import SONG_FORM, Harmony
from loris_cli.composition.styles import STYLES, Style
from loris_cli.config import POSE_FPS

BASS_CHANNEL, PAD_CHANNEL, KEYS_CHANNEL, LEAD_CHANNEL = 0, 1, 2, 3
TIMPANI_CHANNEL, DRUM_CHANNEL = 4, 9
"""MIDI channels."""
DRUM_PITCHES = KICK, SNARE, CLAP, LOW_TOM, HAT, OPEN_HAT, HIGH_TOM, CRASH, RIDE, CRASH_2 = (
    36, 38, 39, 41, 42, 46, 48, 49, 51, 57,
)  # fmt: skip
BASS_LOWEST_PITCH, PAD_LOWEST_PITCH, STAB_LOWEST_PITCH = 36, 55, 67
"""Lowest MIDI pitch of the octave used for bass, sustained chords and short chords."""
PITCHES_BY_CHANNEL = {
    BASS_CHANNEL: tuple(range(BASS_LOWEST_PITCH, BASS_LOWEST_PITCH + 12)),
    PAD_CHANNEL: tuple(range(PAD_LOWEST_PITCH, PAD_LOWEST_PITCH + 12)),
    KEYS_CHANNEL: tuple(range(58, 97)),
    LEAD_CHANNEL: tuple(range(58, 97)),
    TIMPANI_CHANNEL: tuple(range(BASS_LOWEST_PITCH + 12, BASS_LOWEST_PITCH + 24)),
    DRUM_CHANNEL: DRUM_PITCHES,
}
"""Pitches that an arrangement may use, in the order of the rows of the timbre table."""
TIMPANI_PROGRAM = 47
DRUM_KIT_PROGRAMS, ORCHESTRAL_KIT_PROGRAM = (0, 8, 16, 25), 48
MOTIF_SUBDIVISIONS = 16
"""Length of a melody motif, two bars of eighth notes."""
ACCENT_CLEARANCE_S = 0.06
"""Soft cymbal and drum beat notes are omitted within this distance of an accent."""


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Notes and instruments of a piece."""

    note_array: Array
    """Notes in order of time, ``(notes, 5)``: onset and duration in seconds, MIDI channel,
    pitch and velocity."""
    channel_programs: dict[int, int]
    """General MIDI program of each channel."""

    def shift(self, offset_s: float) -> "Arrangement":
        """Return the arrangement with all notes later by an offset."""
        notes = self.note_array.copy()
        notes[:, 0] += offset_s
        return replace(self, note_array=notes)


def programs_by_channel(style: Style) -> dict[int, tuple[int, ...]]:
    """Return the programs that a style may use, in the order of the random draws."""
    return {
        BASS_CHANNEL: style.bass_programs,
        PAD_CHANNEL: style.pad_programs,
        KEYS_CHANNEL: style.keys_programs,
        LEAD_CHANNEL: style.lead_programs,
        TIMPANI_CHANNEL: (TIMPANI_PROGRAM,),
        DRUM_CHANNEL: (ORCHESTRAL_KIT_PROGRAM,) if style.orchestral else DRUM_KIT_PROGRAMS,
    }


INSTRUMENTS = sorted(
    {
        (channel, program)
        for style in STYLES
        for channel, programs in programs_by_channel(style).items()
        for program in programs
    },
    key=lambda instrument: (instrument[0] == TIMPANI_CHANNEL, *instrument),
)
"""All pairs of channel and General MIDI program that a style may use, timpani last, in the
order of the rows of the timbre table."""
TIMBRE_NOTES = tuple(
    (channel, program, pitch)
    for channel, program in INSTRUMENTS
    for pitch in PITCHES_BY_CHANNEL[channel]
)
"""Channel, program and pitch of each row of the timbre table (`note_spectrogram`)."""


def compose_arrangement(
    accents_s: Array,
    strengths: Array,
    energy: Array,
    harmony: Harmony,
    *,
    duration_s: float,
    style: Style,
    rng: Generator,
) -> Arrangement:
    """Compose the notes of a piece.

    Args:
        accents_s: accent times, ``(accents,)``, increasing.
        strengths: accent strengths, ``(accents,)``, 0..1.
        energy: energy at 16 Hz, ``(frames,)``, 0..1.
        harmony: chords and subdivisions.
        duration_s: duration of the piece.
        style: instruments and probabilities.
        rng: random generator for all choices.
    """
    writer = _ArrangementWriter(rng, style, energy, harmony)
    writer.write_accents(accents_s, strengths, duration_s)
    writer.write_accompaniment(accents_s)
    rows = np.array(writer.note_rows, dtype=np.float64).reshape(-1, 5)
    rows = rows[(rows[:, 0] >= 0) & (rows[:, 0] < duration_s)]
    order = np.lexsort((rows[:, 3], rows[:, 2], rows[:, 0]))
    return Arrangement(note_array=rows[order], channel_programs=writer.channel_programs)


def interp_energy(energy: Array, times_s: Array) -> Array:
    """Interpolate the energy at given times.

    Args:
        energy: ``(frames,)`` at 16 Hz, 0..1.
        times_s: ``(times,)``; times outside the energy get its first or last value.

    Returns:
        ``(times,)``, 0..1.
    """
    return np.asarray(np.interp(times_s, np.arange(len(energy)) / POSE_FPS, energy))


def nearest_distance_s(times_s: Array, reference_s: Array) -> Array:
    """Return the distance of each time to the nearest reference time.

    Args:
        times_s: ``(times,)``.
        reference_s: ``(references,)``, increasing.

    Returns:
        ``(times,)``, in seconds; infinite without reference times.
    """
    bounds = np.concatenate([[-np.inf], reference_s, [np.inf]])
    after = np.searchsorted(reference_s, times_s)
    return np.asarray(np.minimum(times_s - bounds[after], bounds[after + 1] - times_s))


def end_repeated_notes(note_array: Array) -> Array:
    """Return notes of which each ends before the next one of its channel and pitch begins.

    A MIDI key cannot be pressed twice. Of notes with equal onset, channel and pitch, the
    loudest remains.

    Args:
        note_array: as in `Arrangement`, ``(notes, 5)``.

    Returns:
        ``(notes, 5)``, sorted by onset, channel and pitch.
    """
    onset_s, duration_s, channel, pitch, velocity = note_array.T
    notes = note_array[np.lexsort((duration_s, velocity, onset_s, pitch, channel))]
    is_same_key = (notes[1:, 2] == notes[:-1, 2]) & (notes[1:, 3] == notes[:-1, 3])
    gap_s = np.append(np.where(is_same_key, np.diff(notes[:, 0]), np.inf), np.inf)[: len(notes)]
    notes[:, 1] = np.minimum(notes[:, 1], gap_s)
    notes = notes[gap_s > 0]
    return np.asarray(notes[np.lexsort((notes[:, 3], notes[:, 2], notes[:, 0]))])


class _ArrangementWriter:
    """Writer that accumulates the note rows of an arrangement."""

    def __init__(self, rng: Generator, style: Style, energy: Array, harmony: Harmony) -> None:
        self.rng, self.style, self.energy, self.harmony = rng, style, energy, harmony
        self.note_rows: list[tuple[float, float, int, int, int]] = []
        self.channel_programs = {
            channel: int(rng.choice(programs))
            for channel, programs in programs_by_channel(style).items()
        }

    def add_note(
        self, onset_s: float, channel: int, pitch: int, velocity: float, duration_s: float
    ) -> None:
        if 0 <= pitch < 128:
            level = int(min(max(velocity, 1), 127))
            self.note_rows.append((float(onset_s), float(duration_s), channel, pitch, level))

    def add_drum(self, onset_s: float, pitch: int, velocity: float, duration_s: float) -> None:
        self.add_note(onset_s, DRUM_CHANNEL, pitch, velocity, duration_s)

    def degree_to_pitch(self, degree: int, octave: int) -> int:
        return 12 * (octave + degree // 7) + self.harmony.tonic + self.harmony.scale[degree % 7]

    def degree_to_pitch_above(self, degree: int, lowest_pitch: int) -> int:
        """Return the pitch of a degree in the octave above ``lowest_pitch``.

        The fixed octave keeps the intervals between successive chords small.
        """
        return lowest_pitch + (self.degree_to_pitch(degree, 0) - lowest_pitch) % 12

    def triad_pitches(self, degree: int, lowest_pitch: int) -> list[int]:
        return [self.degree_to_pitch_above(degree + third, lowest_pitch) for third in (0, 2, 4)]

    def chord_degrees_at(self, times_s: Array) -> NDArray[np.int64]:
        starts_s = self.harmony.chord_starts_s
        index = np.searchsorted(starts_s, times_s + 1e-6, side="right") - 1
        return np.asarray(self.harmony.chord_degrees[index.clip(min=0)])

    def write_accents(self, accents_s: Array, strengths: Array, duration_s: float) -> None:
        """Write sustained chords, and bass and drum notes on accents."""
        rng, starts_s = self.rng, self.harmony.chord_starts_s
        ends_s = np.append(starts_s, duration_s)[1:]
        levels = interp_energy(self.energy, starts_s)
        held_chords = zip(starts_s, ends_s, self.harmony.chord_degrees, levels, strict=True)
        for start, end, chord, level in held_chords:
            for pitch in self.triad_pitches(int(chord), PAD_LOWEST_PITCH):
                self.add_note(start, PAD_CHANNEL, pitch, 36 + 46 * level, (end - start) * 0.98)
        gaps = np.append(np.diff(accents_s), 1.0)[: len(accents_s)]
        stab = rng.random() < 0.5
        chords = self.chord_degrees_at(accents_s)
        for time, strength, gap, chord in zip(accents_s, strengths, gaps, chords, strict=True):
            loud = 60 + 67 * strength
            root = self.degree_to_pitch_above(int(chord), BASS_LOWEST_PITCH)
            self.add_note(time, BASS_CHANNEL, root, loud - 8, min(gap, 0.9) * 0.9)
            kind = rng.integers(4)
            if self.style.orchestral:
                self.add_note(time, TIMPANI_CHANNEL, root + 12, loud, 0.6)
                self.add_drum(time, KICK, loud, 0.3)
                if kind >= 2 or strength > 0.85:
                    self.add_drum(time, (CRASH, CRASH_2)[kind % 2], loud - 14, 1.0)
            else:
                self.add_drum(time, KICK, loud, 0.2)
                self.add_drum(time, (SNARE, CLAP, LOW_TOM, CRASH)[kind], loud - 10, 0.3)
            if stab or strength > 0.8:
                for pitch in self.triad_pitches(int(chord), STAB_LOWEST_PITCH):
                    self.add_note(time, KEYS_CHANNEL, pitch, loud - 18, min(gap, 0.6) * 0.9)

    def write_accompaniment(self, accents_s: Array) -> None:
        """Write softer layers on the subdivisions, denser at higher energy."""
        rng, style, grid_s = self.rng, self.style, self.harmony.subdivisions_s
        arpeggio, has_melody = rng.random() < 0.6, rng.random() < 0.7
        drum_kit = rng.random() < style.drum_kit_probability
        figure = rng.permutation(np.array([0, 2, 4, 7]))
        melody = _Melody(rng)
        is_free = nearest_distance_s(grid_s, accents_s) > ACCENT_CLEARANCE_S
        length = float(np.median(np.diff(grid_s))) if len(grid_s) > 1 else 0.25
        cymbal = RIDE if style.swing_ratio > 0.6 else HAT
        levels, chords = interp_energy(self.energy, grid_s), self.chord_degrees_at(grid_s)
        grid = zip(grid_s, is_free, levels, chords, strict=True)
        for index, (time, free, energy, chord) in enumerate(grid):
            if drum_kit and energy > 0.2 and free:
                self.add_drum(time, cymbal, 24 + 36 * energy + 8 * (index % 2), 0.1)
            if arpeggio and energy > 0.1:
                pitch = self.degree_to_pitch(int(chord) + int(figure[index % 4]), 5)
                self.add_note(time, KEYS_CHANNEL, pitch, 32 + 44 * energy, length * 0.95)
            melody_note = melody.note_at(index, int(chord), energy) if has_melody else None
            if melody_note is not None:
                degree, n_subdivisions = melody_note
                pitch = self.degree_to_pitch(degree, 5)
                self.add_note(
                    time, LEAD_CHANNEL, pitch, 40 + 44 * energy, length * n_subdivisions
                )
        if len(self.harmony.beats_s) and drum_kit:
            self.write_drum_beat(accents_s)

    def write_drum_beat(self, accents_s: Array) -> None:
        """Write a soft drum beat on the beats without an accent."""
        beats_s, ghosts_s = self.harmony.beats_s, self.harmony.subdivisions_s[1::4]
        is_free = nearest_distance_s(beats_s, accents_s) > ACCENT_CLEARANCE_S
        levels = interp_energy(self.energy, beats_s)
        for index, (time, level, free) in enumerate(zip(beats_s, levels, is_free, strict=True)):
            if free:
                self.add_drum(time, (KICK, SNARE)[index % 2], 24 + 30 * level, 0.15)
        if self.rng.random() < 0.3:
            levels = interp_energy(self.energy, ghosts_s)
            for time, level in zip(ghosts_s, levels, strict=True):
                self.add_drum(time, SNARE, 20 + 22 * level, 0.1)


class _Melody:
    """Melody of two two-bar motifs in song form; most notes snap to chord tones."""

    def __init__(self, rng: Generator) -> None:
        n_motifs, n_steps = shape = (2, MOTIF_SUBDIVISIONS)
        self.onset_thresholds = rng.random(shape)
        self.n_subdivisions = rng.choice([1, 2, 3], size=shape)
        self.degrees = np.empty(shape, dtype=np.int64)
        self.snaps_to_chord = rng.random(shape) < 0.6
        for motif in range(n_motifs):
            degree = int(rng.choice([0, 2, 4]))
            for step in range(n_steps):
                self.degrees[motif, step] = degree
                degree = int(np.clip(degree + rng.integers(-2, 3), -1, 8))

    def note_at(self, subdivision: int, chord: int, energy: float) -> tuple[int, int] | None:
        """Return degree and length (in subdivisions) of the note at a subdivision, or None."""
        motif = SONG_FORM[subdivision // MOTIF_SUBDIVISIONS % len(SONG_FORM)]
        at = motif, subdivision % MOTIF_SUBDIVISIONS
        if subdivision % 2 or self.onset_thresholds[at] > 0.25 + 0.5 * energy:
            return None
        degree = int(self.degrees[at])
        if self.snaps_to_chord[at]:
            tones = (chord + third for third in (0, 2, 4, 7))
            degree = min(tones, key=lambda tone: abs(tone - degree))
        return degree, int(self.n_subdivisions[at])

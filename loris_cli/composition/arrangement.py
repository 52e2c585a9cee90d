"""The notes of a piece: who plays what on the strikes, and what between them.

    strikes, energy, chords, style, seed -> instruments -> notes on the strikes, notes between

On a strike fall kick, cymbal or snare, the bass and, often, a new chord. What lies between
strikes follows the pulse of the plan (`loris_cli.composition.chords`): softer layers, more of
them and louder where there is more energy. Everything is drawn from rules; no recording and
no score is used. The training music is written so, and so are the notes that condition
``mini``, which renders them. The paper has no such thing; a model that was not trained with
notes is not conditioned on them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.composition.chords import SONG_FORM, Harmony
from loris_cli.composition.styles import STYLES, Style
from loris_cli.config import POSE_FPS

Array = NDArray[np.float64]

BASS_CHANNEL, PAD_CHANNEL, KEYS_CHANNEL, LEAD_CHANNEL, TIMPANI_CHANNEL, DRUM_CHANNEL = (
    0,
    1,
    2,
    3,
    4,
    9,
)
"""MIDI channels of the players."""
KICK, SNARE, CLAP, LOW_TOM, HAT, OPEN_HAT, HIGH_TOM, CRASH, RIDE, SECOND_CRASH = (
    36, 38, 39, 41, 42, 46, 48, 49, 51, 57,
)  # fmt: skip
BASS_LOWEST_PITCH, PAD_LOWEST_PITCH, STAB_LOWEST_PITCH = 36, 55, 67
"""MIDI pitches at which the octaves of bass, held chords and struck chords begin."""
TIMPANI_PROGRAM = 47
DRUM_KIT_PROGRAMS, ORCHESTRAL_KIT_PROGRAM = (0, 8, 16, 25), 48
MOTIF_SUBDIVISIONS = 16
"""A melody says something for so long, then says it again or answers: two bars."""
ACCENT_CLEARANCE_S = 0.06
"""So near to a strike the softer layers leave it alone."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note: start and length in seconds, MIDI channel, pitch and velocity."""

    onset_s: float
    duration_s: float
    channel: int
    pitch: int
    velocity: int


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Notes and instruments of a piece."""

    note_array: Array
    """One row a note, rising in time: the five fields of `Note`, ``(notes, 5)``."""
    channel_programs: dict[int, int]
    """General MIDI program of each channel."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """The rows as notes."""
        return tuple(
            Note(
                onset_s=float(time),
                duration_s=float(length),
                channel=int(channel),
                pitch=int(pitch),
                velocity=int(velocity),
            )
            for time, length, channel, pitch, velocity in self.note_array
        )


def _list_instruments() -> tuple[tuple[int, int], ...]:
    players = (BASS_CHANNEL, PAD_CHANNEL, KEYS_CHANNEL, LEAD_CHANNEL)
    named = {
        (channel, program)
        for style in STYLES
        for channel, programs in zip(
            players,
            (style.bass_programs, style.pad_programs, style.keys_programs, style.lead_programs),
            strict=True,
        )
        for program in programs
    }
    kits = {(DRUM_CHANNEL, kit) for kit in (*DRUM_KIT_PROGRAMS, ORCHESTRAL_KIT_PROGRAM)}
    return tuple(sorted(named | kits))


INSTRUMENTS = _list_instruments()
"""Every channel and program that some style may draw; a network is told which of them play."""


def compose_arrangement(
    accents_s: Array,
    strengths: Array,
    energy: Array,
    harmony: Harmony,
    *,
    duration_s: float,
    style: Style,
    rng: np.random.Generator,
) -> Arrangement:
    """Write the notes of a piece.

    Args:
        accents_s: moments of the strikes, ``(accents,)``, rising.
        strengths: how strong each is, ``(accents,)``, 0..1.
        energy: how much goes on, 0..1 at 16 Hz.
        harmony: chords and pulse.
        duration_s: length of the piece.
        style: its instruments, and what they like to play.
        rng: draws them.
    """
    writer = _ArrangementWriter(rng, style, energy, harmony)
    writer.write_accents(accents_s, strengths, duration_s)
    writer.write_accompaniment(accents_s)
    rows = np.array(writer.note_rows, dtype=np.float64).reshape(-1, 5)
    rows = rows[(rows[:, 0] >= 0) & (rows[:, 0] < duration_s)]
    order = np.lexsort((rows[:, 3], rows[:, 2], rows[:, 0]))
    return Arrangement(note_array=rows[order], channel_programs=writer.channel_programs)


def _nearest_distance_s(times_s: Array, reference_s: Array) -> Array:
    """How far each of ``times_s`` is from the nearest of ``reference_s``, which rise."""
    around = np.concatenate([[-np.inf], reference_s, [np.inf]])
    after = np.searchsorted(reference_s, times_s)
    nearest: Array = np.minimum(times_s - around[after], around[after + 1] - times_s)
    return nearest


class _ArrangementWriter:
    """Notes as they are written, and the harmony they are written in."""

    def __init__(
        self, rng: np.random.Generator, style: Style, energy: Array, harmony: Harmony
    ) -> None:
        self.rng, self.style, self.energy, self.harmony = rng, style, energy, harmony
        self.note_rows: list[tuple[float, float, int, int, int]] = []
        self.channel_programs = {
            BASS_CHANNEL: int(rng.choice(style.bass_programs)),
            PAD_CHANNEL: int(rng.choice(style.pad_programs)),
            KEYS_CHANNEL: int(rng.choice(style.keys_programs)),
            LEAD_CHANNEL: int(rng.choice(style.lead_programs)),
            TIMPANI_CHANNEL: TIMPANI_PROGRAM,
            DRUM_CHANNEL: ORCHESTRAL_KIT_PROGRAM
            if style.orchestral
            else int(rng.choice(DRUM_KIT_PROGRAMS)),
        }

    def add_note(
        self, onset_s: float, channel: int, pitch: int, velocity: float, duration_s: float
    ) -> None:
        if 0 <= pitch < 128:
            level = int(min(max(velocity, 1), 127))
            self.note_rows.append((float(onset_s), float(duration_s), channel, pitch, level))

    def degree_to_pitch(self, degree: int, octave: int) -> int:
        return 12 * (octave + degree // 7) + self.harmony.tonic + self.harmony.scale[degree % 7]

    def degree_to_pitch_above(self, degree: int, lowest_pitch: int) -> int:
        """The pitch of a degree in the octave from ``lowest_pitch`` on: chords move by small steps."""
        return lowest_pitch + (self.degree_to_pitch(degree, 0) - lowest_pitch) % 12

    def energy_at(self, times_s: Array) -> Array:
        at: Array = np.interp(times_s, np.arange(len(self.energy)) / POSE_FPS, self.energy)
        return at

    def chord_degrees_at(self, times_s: Array) -> NDArray[np.int64]:
        sounding = (
            np.searchsorted(self.harmony.chord_starts_s, times_s + 1e-6, side="right") - 1
        )
        degrees: NDArray[np.int64] = self.harmony.chord_degrees[sounding.clip(min=0)]
        return degrees

    def write_accents(self, accents_s: Array, strengths: Array, duration_s: float) -> None:
        """Held chords, and what falls on the accents: there bass and drums meet."""
        rng, orchestral = self.rng, self.style.orchestral
        starts_s = self.harmony.chord_starts_s
        edges = np.append(starts_s, duration_s)
        for start, end, chord, level in zip(
            starts_s,
            edges[1:],
            self.harmony.chord_degrees,
            self.energy_at(starts_s),
            strict=True,
        ):
            for third in (0, 2, 4):
                pitch = self.degree_to_pitch_above(int(chord) + third, PAD_LOWEST_PITCH)
                self.add_note(start, PAD_CHANNEL, pitch, 36 + 46 * level, (end - start) * 0.98)
        gaps = np.append(np.diff(accents_s), 1.0)[: len(accents_s)]
        stab = rng.random() < 0.5
        chords = self.chord_degrees_at(accents_s)
        for time, strength, gap, chord in zip(accents_s, strengths, gaps, chords, strict=True):
            loud = 60 + 67 * strength
            root = self.degree_to_pitch_above(int(chord), BASS_LOWEST_PITCH)
            self.add_note(time, BASS_CHANNEL, root, loud - 8, min(gap, 0.9) * 0.9)
            kind = rng.integers(4)
            if orchestral:
                self.add_note(time, TIMPANI_CHANNEL, root + 12, loud, 0.6)
                self.add_note(time, DRUM_CHANNEL, KICK, loud, 0.3)
                if kind >= 2 or strength > 0.85:
                    self.add_note(
                        time, DRUM_CHANNEL, (CRASH, SECOND_CRASH)[kind % 2], loud - 14, 1.0
                    )
            else:
                self.add_note(time, DRUM_CHANNEL, KICK, loud, 0.2)
                self.add_note(
                    time, DRUM_CHANNEL, (SNARE, CLAP, LOW_TOM, CRASH)[kind], loud - 10, 0.3
                )
            if stab or strength > 0.8:
                for third in (0, 2, 4):
                    pitch = self.degree_to_pitch_above(int(chord) + third, STAB_LOWEST_PITCH)
                    self.add_note(time, KEYS_CHANNEL, pitch, loud - 18, min(gap, 0.6) * 0.9)

    def write_accompaniment(self, accents_s: Array) -> None:
        """Softer layers on the pulse, more of them where there is more energy."""
        rng, style, pulses = self.rng, self.style, self.harmony.subdivisions_s
        arpeggio, sings = rng.random() < 0.6, rng.random() < 0.7
        beat_kit = rng.random() < style.drum_kit_probability
        figure = rng.permutation(np.array([0, 2, 4, 7]))
        melody = _Melody(rng)
        free = _nearest_distance_s(pulses, accents_s) > ACCENT_CLEARANCE_S
        length = float(np.median(np.diff(pulses))) if len(pulses) > 1 else 0.25
        ticks = RIDE if style.swing_ratio > 0.6 else HAT
        for index, (time, open_, energy, chord) in enumerate(
            zip(
                pulses, free, self.energy_at(pulses), self.chord_degrees_at(pulses), strict=True
            )
        ):
            if beat_kit and energy > 0.2 and open_:
                self.add_note(
                    time, DRUM_CHANNEL, ticks, 24 + 36 * energy + 8 * (index % 2), 0.1
                )
            if arpeggio and energy > 0.1:
                tone = self.degree_to_pitch(int(chord) + int(figure[index % 4]), 5)
                self.add_note(time, KEYS_CHANNEL, tone, 32 + 44 * energy, length * 0.95)
            sung = melody.note_at(index, int(chord), energy) if sings else None
            if sung is not None:
                degree, pulses_long = sung
                self.add_note(
                    time,
                    LEAD_CHANNEL,
                    self.degree_to_pitch(degree, 5),
                    40 + 44 * energy,
                    length * pulses_long,
                )
        if len(self.harmony.beats_s) and beat_kit:
            self.write_drum_beat(accents_s)

    def write_drum_beat(self, accents_s: Array) -> None:
        """A soft beat that carries on where nobody strikes."""
        beats_s, pulses_s = self.harmony.beats_s, self.harmony.subdivisions_s
        free = _nearest_distance_s(beats_s, accents_s) > ACCENT_CLEARANCE_S
        for index, (time, level) in enumerate(
            zip(beats_s, self.energy_at(beats_s), strict=True)
        ):
            if free[index]:
                self.add_note(
                    time, DRUM_CHANNEL, (KICK, SNARE)[index % 2], 24 + 30 * level, 0.15
                )
        if self.rng.random() < 0.3:
            ghosts_s = pulses_s[1::4]
            for time, level in zip(ghosts_s, self.energy_at(ghosts_s), strict=True):
                self.add_note(time, DRUM_CHANNEL, SNARE, 20 + 22 * level, 0.1)


class _Melody:
    """Two motifs of two bars, sung by the form of a song; chords bend them to their tones."""

    def __init__(self, rng: np.random.Generator) -> None:
        n = (2, MOTIF_SUBDIVISIONS)
        self.onset_thresholds = rng.random(n)
        self.n_subdivisions = rng.choice([1, 2, 3], size=n)
        self.degrees = np.empty(n, dtype=np.int64)
        self.snaps_to_chord = rng.random(n) < 0.6
        for motif in range(n[0]):
            step = int(rng.choice([0, 2, 4]))
            for pulse in range(n[1]):
                self.degrees[motif, pulse] = step
                step = int(np.clip(step + rng.integers(-2, 3), -1, 8))

    def note_at(
        self, subdivision: int, chord_degree: int, energy: float
    ) -> tuple[int, int] | None:
        """Degree and pulses of the note that begins at a pulse, if one does."""
        motif = SONG_FORM[subdivision // MOTIF_SUBDIVISIONS % len(SONG_FORM)]
        pulse = subdivision % MOTIF_SUBDIVISIONS
        if pulse % 2 or self.onset_thresholds[motif, pulse] > 0.25 + 0.5 * energy:
            return None
        step = int(self.degrees[motif, pulse])
        if self.snaps_to_chord[motif, pulse]:
            step = min(
                (chord_degree + third for third in (0, 2, 4, 7)), key=lambda t: abs(t - step)
            )
        return step, int(self.n_subdivisions[motif, pulse])

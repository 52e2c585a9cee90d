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

from loris_cli.composition.chords import FORM, Harmony
from loris_cli.composition.styles import STYLES, Style
from loris_cli.config import POSE_FPS

Array = NDArray[np.float64]

BASS, PADS, KEYS, LEAD, TIMPANI, DRUMS = 0, 1, 2, 3, 4, 9
"""MIDI channels of the players."""
KICK, SNARE, CLAP, LOW_TOM, HAT, OPEN_HAT, HIGH_TOM, CRASH, RIDE, SECOND_CRASH = (
    36, 38, 39, 41, 42, 46, 48, 49, 51, 57,
)  # fmt: skip
BASS_LOW, PAD_LOW, STAB_LOW = 36, 55, 67
"""MIDI pitches at which the octaves of bass, held chords and struck chords begin."""
TIMPANI_PROGRAM = 47
BEAT_KITS, ORCHESTRAL_KIT = (0, 8, 16, 25), 48
MOTIF_PULSES = 16
"""A melody says something for so long, then says it again or answers: two bars."""
BESIDE_S = 0.06
"""So near to a strike the softer layers leave it alone."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note: start and length in seconds, MIDI channel, pitch and velocity."""

    time_s: float
    length_s: float
    channel: int
    pitch: int
    velocity: int


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Notes and instruments of a piece."""

    table: Array
    """One row a note, rising in time: the five fields of `Note`, ``(notes, 5)``."""
    programs: dict[int, int]
    """General MIDI program of each channel."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """The rows as notes."""
        return tuple(
            Note(
                time_s=float(time),
                length_s=float(length),
                channel=int(channel),
                pitch=int(pitch),
                velocity=int(velocity),
            )
            for time, length, channel, pitch, velocity in self.table
        )


def _instruments() -> tuple[tuple[int, int], ...]:
    players = (BASS, PADS, KEYS, LEAD)
    named = {
        (channel, program)
        for style in STYLES
        for channel, programs in zip(
            players, (style.bass, style.pads, style.keys, style.leads), strict=True
        )
        for program in programs
    }
    kits = {(DRUMS, kit) for kit in (*BEAT_KITS, ORCHESTRAL_KIT)}
    return tuple(sorted(named | kits))


INSTRUMENTS = _instruments()
"""Every channel and program that some style may draw; a network is told which of them play."""


def arrange(
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
    writer = _Writer(rng, style, energy, harmony)
    writer.strikes(accents_s, strengths, duration_s)
    writer.background(accents_s)
    rows = np.array(writer.rows, dtype=np.float64).reshape(-1, 5)
    rows = rows[(rows[:, 0] >= 0) & (rows[:, 0] < duration_s)]
    order = np.lexsort((rows[:, 3], rows[:, 2], rows[:, 0]))
    return Arrangement(table=rows[order], programs=writer.programs)


def _apart(times_s: Array, from_s: Array) -> Array:
    """How far each of ``times_s`` is from the nearest of ``from_s``, which rise."""
    around = np.concatenate([[-np.inf], from_s, [np.inf]])
    after = np.searchsorted(from_s, times_s)
    nearest: Array = np.minimum(times_s - around[after], around[after + 1] - times_s)
    return nearest


class _Writer:
    """Notes as they are written, and the harmony they are written in."""

    def __init__(
        self, rng: np.random.Generator, style: Style, energy: Array, harmony: Harmony
    ) -> None:
        self.rng, self.style, self.energy, self.harmony = rng, style, energy, harmony
        self.rows: list[tuple[float, float, int, int, int]] = []
        self.programs = {
            BASS: int(rng.choice(style.bass)),
            PADS: int(rng.choice(style.pads)),
            KEYS: int(rng.choice(style.keys)),
            LEAD: int(rng.choice(style.leads)),
            TIMPANI: TIMPANI_PROGRAM,
            DRUMS: ORCHESTRAL_KIT if style.orchestral else int(rng.choice(BEAT_KITS)),
        }

    def add(
        self, time_s: float, channel: int, pitch: int, velocity: float, length_s: float
    ) -> None:
        if 0 <= pitch < 128:
            level = int(min(max(velocity, 1), 127))
            self.rows.append((float(time_s), float(length_s), channel, pitch, level))

    def degree(self, degree: int, octave: int) -> int:
        return 12 * (octave + degree // 7) + self.harmony.key + self.harmony.scale[degree % 7]

    def near(self, degree: int, low: int) -> int:
        """The pitch of a degree in the octave from ``low`` on: chords move by small steps."""
        return low + (self.degree(degree, 0) - low) % 12

    def level(self, times_s: Array) -> Array:
        at: Array = np.interp(times_s, np.arange(len(self.energy)) / POSE_FPS, self.energy)
        return at

    def chords_at(self, times_s: Array) -> NDArray[np.int64]:
        sounding = np.searchsorted(self.harmony.starts_s, times_s + 1e-6, side="right") - 1
        degrees: NDArray[np.int64] = self.harmony.degrees[sounding.clip(min=0)]
        return degrees

    def strikes(self, accents_s: Array, strengths: Array, duration_s: float) -> None:
        """Held chords, and what falls on the accents: there bass and drums meet."""
        rng, orchestral = self.rng, self.style.orchestral
        starts_s = self.harmony.starts_s
        edges = np.append(starts_s, duration_s)
        for start, end, chord, level in zip(
            starts_s, edges[1:], self.harmony.degrees, self.level(starts_s), strict=True
        ):
            for third in (0, 2, 4):
                pitch = self.near(int(chord) + third, PAD_LOW)
                self.add(start, PADS, pitch, 36 + 46 * level, (end - start) * 0.98)
        gaps = np.append(np.diff(accents_s), 1.0)[: len(accents_s)]
        stab = rng.random() < 0.5
        chords = self.chords_at(accents_s)
        for time, strength, gap, chord in zip(accents_s, strengths, gaps, chords, strict=True):
            loud = 60 + 67 * strength
            root = self.near(int(chord), BASS_LOW)
            self.add(time, BASS, root, loud - 8, min(gap, 0.9) * 0.9)
            kind = rng.integers(4)
            if orchestral:
                self.add(time, TIMPANI, root + 12, loud, 0.6)
                self.add(time, DRUMS, KICK, loud, 0.3)
                if kind >= 2 or strength > 0.85:
                    self.add(time, DRUMS, (CRASH, SECOND_CRASH)[kind % 2], loud - 14, 1.0)
            else:
                self.add(time, DRUMS, KICK, loud, 0.2)
                self.add(time, DRUMS, (SNARE, CLAP, LOW_TOM, CRASH)[kind], loud - 10, 0.3)
            if stab or strength > 0.8:
                for third in (0, 2, 4):
                    pitch = self.near(int(chord) + third, STAB_LOW)
                    self.add(time, KEYS, pitch, loud - 18, min(gap, 0.6) * 0.9)

    def background(self, accents_s: Array) -> None:
        """Softer layers on the pulse, more of them where there is more energy."""
        rng, style, pulses = self.rng, self.style, self.harmony.pulses_s
        arpeggio, sings = rng.random() < 0.6, rng.random() < 0.7
        beat_kit = rng.random() < style.drums
        figure = rng.permutation(np.array([0, 2, 4, 7]))
        melody = _Melody(rng)
        free = _apart(pulses, accents_s) > BESIDE_S
        length = float(np.median(np.diff(pulses))) if len(pulses) > 1 else 0.25
        ticks = RIDE if style.swing > 0.6 else HAT
        for index, (time, open_, energy, chord) in enumerate(
            zip(pulses, free, self.level(pulses), self.chords_at(pulses), strict=True)
        ):
            if beat_kit and energy > 0.2 and open_:
                self.add(time, DRUMS, ticks, 24 + 36 * energy + 8 * (index % 2), 0.1)
            if arpeggio and energy > 0.1:
                tone = self.degree(int(chord) + int(figure[index % 4]), 5)
                self.add(time, KEYS, tone, 32 + 44 * energy, length * 0.95)
            sung = melody.at(index, int(chord), energy) if sings else None
            if sung is not None:
                degree, pulses_long = sung
                self.add(
                    time, LEAD, self.degree(degree, 5), 40 + 44 * energy, length * pulses_long
                )
        if len(self.harmony.beats_s) and beat_kit:
            self.groove(accents_s)

    def groove(self, accents_s: Array) -> None:
        """A soft beat that carries on where nobody strikes."""
        beats_s, pulses_s = self.harmony.beats_s, self.harmony.pulses_s
        free = _apart(beats_s, accents_s) > BESIDE_S
        for index, (time, level) in enumerate(zip(beats_s, self.level(beats_s), strict=True)):
            if free[index]:
                self.add(time, DRUMS, (KICK, SNARE)[index % 2], 24 + 30 * level, 0.15)
        if self.rng.random() < 0.3:
            ghosts_s = pulses_s[1::4]
            for time, level in zip(ghosts_s, self.level(ghosts_s), strict=True):
                self.add(time, DRUMS, SNARE, 20 + 22 * level, 0.1)


class _Melody:
    """Two motifs of two bars, sung by the form of a song; chords bend them to their tones."""

    def __init__(self, rng: np.random.Generator) -> None:
        n = (2, MOTIF_PULSES)
        self.eager = rng.random(n)
        self.lengths = rng.choice([1, 2, 3], size=n)
        self.steps = np.empty(n, dtype=np.int64)
        self.bends = rng.random(n) < 0.6
        for motif in range(n[0]):
            step = int(rng.choice([0, 2, 4]))
            for pulse in range(n[1]):
                self.steps[motif, pulse] = step
                step = int(np.clip(step + rng.integers(-2, 3), -1, 8))

    def at(self, index: int, chord: int, energy: float) -> tuple[int, int] | None:
        """Degree and pulses of the note that begins at a pulse, if one does."""
        motif = FORM[index // MOTIF_PULSES % len(FORM)]
        pulse = index % MOTIF_PULSES
        if pulse % 2 or self.eager[motif, pulse] > 0.25 + 0.5 * energy:
            return None
        step = int(self.steps[motif, pulse])
        if self.bends[motif, pulse]:
            step = min((chord + third for third in (0, 2, 4, 7)), key=lambda t: abs(t - step))
        return step, int(self.lengths[motif, pulse])

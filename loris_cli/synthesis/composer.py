"""Made-up music that lands on given moments, with the moments it lands on.

    seed, genre -> accents and energy -> pulse -> chords, layers -> Score

An accent is the sound of a body's strike: on it fall kick, cymbal or snare, the bass and,
often, a new chord. What lies between accents follows a pulse that divides the time from one
accent to the next into equal parts, so the music leans towards every strike the way a film
score does. Everything is drawn from rules; no recording and no score is used.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import GENRES
from loris_cli.harmony import Harmony, harmonise
from loris_cli.styles import Style

Array = NDArray[np.float64]

ENERGY_HZ = 16.0
"""Rate of the energy curve, that of poses."""

DRUMS = 9
KICK, SNARE, CLAP, LOW_TOM, HAT, OPEN_HAT, HIGH_TOM, CRASH, RIDE, SECOND_CRASH = (
    36,
    38,
    39,
    41,
    42,
    46,
    48,
    49,
    51,
    57,
)


SPARSEST_S = 6.0
"""A piece has an accent in so many seconds at least: a few drawn figures have next to none."""

BASS_LOW, PAD_LOW, STAB_LOW = 36, 55, 67
"""MIDI pitches at which the octaves of bass, held chords and struck chords begin."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note: start and length in seconds, MIDI channel, pitch and velocity."""

    time_s: float
    length_s: float
    channel: int
    pitch: int
    velocity: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """A piece and the truth about it."""

    genre: str
    duration_s: float
    notes: tuple[Note, ...]
    programs: dict[int, int]
    accents_s: Array
    """Moments of the strikes, ``(accents,)``, rising."""
    strengths: Array
    """How strong each is, ``(accents,)``, 0..1."""
    energy: Array
    """How much goes on, ``(duration_s * 16,)``, 0..1."""
    harmony: Harmony
    """Chords, pulse, and the beats of the steady tempo if there is one."""


def compose(seed: int, genre: Style, duration_s: float) -> Score:
    """Write a piece.

    Args:
        seed: the same seed, genre and length give the same piece.
        genre: its style.
        duration_s: its length.

    Returns:
        Notes and the accents they were written for.
    """
    rng = np.random.default_rng([seed, GENRES.index(genre.name)])
    energy = _energy(rng, duration_s)
    beat_s = 60 / rng.uniform(*genre.tempo_bpm)
    accents = beats = np.zeros(0)
    while len(accents) < duration_s / SPARSEST_S:
        accents, beats = _accents(rng, genre, duration_s, beat_s, energy)
    strengths = np.clip(
        rng.uniform(0.45, 1.0, len(accents)) * (0.7 + 0.4 * _at(energy, accents)), 0, 1
    )
    harmony = harmonise(
        accents, duration_s=duration_s, style=genre, beat_s=beat_s, beats_s=beats, rng=rng
    )
    writer = _Writer(rng, genre, energy, harmony)
    writer.strikes(accents, strengths, duration_s)
    writer.background(accents)
    notes = [note for note in writer.notes if 0 <= note.time_s < duration_s]
    notes.sort(key=lambda note: (note.time_s, note.channel, note.pitch))
    return Score(
        genre=genre.name,
        duration_s=duration_s,
        notes=tuple(notes),
        programs=writer.programs,
        accents_s=accents,
        strengths=strengths,
        energy=energy,
        harmony=harmony,
    )


def _at(energy: Array, times_s: Array) -> Array:
    value: Array = np.interp(times_s, np.arange(len(energy)) / ENERGY_HZ, energy)
    return value


def _energy(rng: np.random.Generator, duration_s: float) -> Array:
    """Sections of 3 to 9 s, each with its level, joined over about a second."""
    n = round(duration_s * ENERGY_HZ)
    edges = [0.0]
    while edges[-1] < duration_s:
        edges.append(edges[-1] + rng.uniform(3, 9))
    levels = rng.beta(1.6, 1.2, len(edges))
    steps = levels[np.searchsorted(edges, np.arange(n) / ENERGY_HZ, side="right") - 1]
    window = np.hanning(round(1.5 * ENERGY_HZ) | 1)
    padded = np.pad(steps, len(window) // 2, mode="edge")
    smooth: Array = np.convolve(padded, window / window.sum(), mode="valid")
    return smooth


def _accents(
    rng: np.random.Generator, genre: Style, duration_s: float, beat_s: float, energy: Array
) -> tuple[Array, Array]:
    """Moments of the strikes, and the beats they lie on where the tempo is steady."""
    if rng.random() < genre.steady:
        beats = np.arange(rng.uniform(0, beat_s), duration_s, beat_s)
        kind = rng.choice(["every", "half", "pattern"], p=[0.4, 0.25, 0.35])
        if kind == "every":
            accents = beats
        elif kind == "half":
            accents = beats[int(rng.integers(2)) :: 2]
        else:  # a rhythm of eighths, repeated every bar
            figure = np.flatnonzero(
                rng.random(8) < [0.9, 0.12, 0.4, 0.3, 0.8, 0.12, 0.45, 0.25]
            )
            eighths = (np.arange(0, len(beats), 4)[:, None] * 2 + figure).ravel()
            position = eighths // 2 + np.where(eighths % 2, genre.swing, 0.0)
            accents = beats[0] + position * beat_s
        keep = rng.random(len(accents)) > rng.choice([0.0, 0.1, 0.3])
        for _ in range(int(rng.integers(3))):  # breaks
            start = rng.uniform(0, duration_s)
            keep &= ~((accents > start) & (accents < start + rng.uniform(2, 4) * beat_s))
        accents = accents[keep]
    else:
        beats = np.zeros(0)
        times = [rng.uniform(0.1, 1.5)]
        dense = rng.uniform(0.35, 1.1)  # seconds between strikes where the energy is full
        whole = rng.random() < 0.4  # a dancer without music still likes multiples of one beat
        while times[-1] < duration_s:
            gap = rng.gamma(3.0, dense / 3) / (
                0.35 + 0.65 * float(_at(energy, np.array(times[-1:]))[0])
            )
            if whole:
                gap = max(round(gap / beat_s * 2), 1) / 2 * beat_s + rng.normal(0, 0.015)
            times.append(times[-1] + float(np.clip(gap, 0.24, 4.5)))
        accents = np.array(times)
    accents = accents[(accents > 0.05) & (accents < duration_s - 0.1)]
    close = np.diff(accents, prepend=-1.0) < 0.2
    return accents[~close], beats


class _Writer:
    """Notes as they are written, and the harmony they are written in."""

    def __init__(
        self, rng: np.random.Generator, genre: Style, energy: Array, harmony: Harmony
    ) -> None:
        self.rng, self.genre, self.energy, self.harmony = rng, genre, energy, harmony
        self.notes: list[Note] = []
        self.programs = {
            0: int(rng.choice(genre.bass)),
            1: int(rng.choice(genre.pads)),
            2: int(rng.choice(genre.keys)),
            3: int(rng.choice(genre.leads)),
            4: 47,  # timpani
            DRUMS: int(rng.choice([0, 8, 16, 25])) if not genre.orchestral else 48,
        }

    def add(
        self, time_s: float, channel: int, pitch: int, velocity: float, length_s: float
    ) -> None:
        if 0 <= pitch < 128:
            level = int(np.clip(velocity, 1, 127))
            self.notes.append(
                Note(
                    time_s=float(time_s),
                    length_s=float(length_s),
                    channel=channel,
                    pitch=pitch,
                    velocity=level,
                )
            )

    def degree(self, degree: int, octave: int) -> int:
        return 12 * (octave + degree // 7) + self.harmony.key + self.harmony.scale[degree % 7]

    def near(self, degree: int, low: int) -> int:
        """The pitch of a degree in the octave from ``low`` on: chords move by small steps."""
        return low + (self.degree(degree, 0) - low) % 12

    def level(self, time_s: float) -> float:
        return float(np.interp(time_s, np.arange(len(self.energy)) / ENERGY_HZ, self.energy))

    def chord_at(self, time_s: float) -> int:
        starts = self.harmony.starts_s
        index = int(np.searchsorted(starts, time_s, side="right")) - 1
        return int(self.harmony.degrees[max(index, 0)])

    def strikes(self, accents: Array, strengths: Array, duration_s: float) -> None:
        """Held chords, and what falls on the accents: there bass and drums meet."""
        rng, genre = self.rng, self.genre
        edges = np.append(self.harmony.starts_s, duration_s)
        for start, end, chord in zip(edges, edges[1:], self.harmony.degrees, strict=False):
            for third in (0, 2, 4):
                self.add(
                    start,
                    1,
                    self.near(int(chord) + third, PAD_LOW),
                    44 + 34 * self.level(start),
                    (end - start) * 0.98,
                )
        gaps = np.append(np.diff(accents), 1.0)[: len(accents)]
        stab = rng.random() < 0.5
        for time, strength, gap in zip(accents, strengths, gaps, strict=True):
            loud = 72 + 55 * strength
            chord = self.chord_at(time + 1e-6)
            self.add(time, 0, self.near(chord, BASS_LOW), loud - 8, min(gap, 0.9) * 0.9)
            kind = rng.integers(4)
            if genre.orchestral:
                self.add(time, 4, self.near(chord, BASS_LOW) + 12, loud, 0.6)
                self.add(time, DRUMS, KICK, loud, 0.3)
                if kind >= 2 or strength > 0.85:
                    self.add(time, DRUMS, (CRASH, SECOND_CRASH)[kind % 2], loud - 14, 1.0)
            else:
                self.add(time, DRUMS, KICK, loud, 0.2)
                self.add(time, DRUMS, (SNARE, CLAP, LOW_TOM, CRASH)[kind], loud - 10, 0.3)
            if stab or strength > 0.8:
                for third in (0, 2, 4):
                    pitch = self.near(chord + third, STAB_LOW)
                    self.add(time, 2, pitch, loud - 18, min(gap, 0.6) * 0.9)

    def background(self, accents: Array) -> None:
        """Softer layers on the pulse, more of them where there is more energy."""
        rng, genre, pulses = self.rng, self.genre, self.harmony.pulses_s
        steady = bool(len(self.harmony.beats_s))
        arpeggio, sings = rng.random() < 0.6, rng.random() < 0.7
        beat_kit = rng.random() < genre.drums
        figure = rng.permutation(np.array([0, 2, 4, 7]))
        step = int(rng.choice([0, 2, 4]))
        free = (
            np.min(np.abs(pulses[:, None] - accents[None]), axis=1) > 0.06
            if len(accents)
            else pulses >= 0
        )
        length = float(np.median(np.diff(pulses))) if len(pulses) > 1 else 0.25
        for index, (time, open_) in enumerate(zip(pulses, free, strict=True)):
            energy, chord = self.level(time), self.chord_at(time + 1e-6)
            if beat_kit and energy > 0.2 and open_:
                self.add(
                    time,
                    DRUMS,
                    RIDE if genre.swing > 0.6 else HAT,
                    28 + 30 * energy + 8 * (index % 2),
                    0.1,
                )
            if arpeggio and energy > 0.1:
                self.add(
                    time,
                    2,
                    self.degree(chord + int(figure[index % 4]), 5),
                    38 + 34 * energy,
                    length * 0.95,
                )
            if sings and index % 2 == 0 and rng.random() < 0.25 + 0.5 * energy:
                step = int(np.clip(step + rng.integers(-2, 3), -1, 8))
                near = min(
                    (chord + third for third in (0, 2, 4, 7)), key=lambda tone: abs(tone - step)
                )
                tone = near if rng.random() < 0.6 else step
                self.add(
                    time,
                    3,
                    self.degree(tone, 5),
                    46 + 34 * energy,
                    length * float(rng.choice([1, 2, 3])),
                )
        if steady and beat_kit:  # a groove that carries on where nobody strikes
            for index, time in enumerate(self.harmony.beats_s):
                if np.abs(accents - time).min(initial=np.inf) > 0.06:
                    drum = (KICK, SNARE)[index % 2]
                    self.add(time, DRUMS, drum, 26 + 26 * self.level(time), 0.15)
        if steady and beat_kit and rng.random() < 0.3:  # ghost notes
            for time in pulses[1::4]:
                self.add(time, DRUMS, SNARE, 22 + 18 * self.level(time), 0.1)

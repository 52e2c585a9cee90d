"""What notes would about sound like: the spectrum of each, laid over one another.

    notes -> spectrum of each, from a table -> powers summed -> log-mel frames

The table, ``timbres.npz``, is what the players of the training music sound like, note by note,
measured by `measure_timbres`. A sketch knows neither the room nor the balance, and
nothing of phases that meet; it tells a network which notes are wanted in the terms that it
works in. The paper has no such thing.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from loris_cli.audio import mel
from loris_cli.composition.arrangement import (
    BASS,
    BASS_LOW,
    CLAP,
    CRASH,
    DRUMS,
    HAT,
    HIGH_TOM,
    INSTRUMENTS,
    KEYS,
    KICK,
    LEAD,
    LOW_TOM,
    OPEN_HAT,
    PAD_LOW,
    PADS,
    RIDE,
    SECOND_CRASH,
    SNARE,
    TIMPANI,
    TIMPANI_PROGRAM,
    Arrangement,
)

Array = NDArray[np.float32]

BANDS = mel.FINE
POINTS = np.array(
    [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 26, 32, 40, 52, 64, 80, 104, 128, 168,
     224, 320]
)  # fmt: skip
"""Log-mel frames from a note's beginning at which the table has its spectrum; between them it
is drawn straight in the logarithm, and after the last it stays."""
RELEASED = np.array([0, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96])
"""Frames from a note's end at which the table has how much is left of it; then it is silent."""
VELOCITY = 64
"""Of the notes that were measured; others are louder by its square (General MIDI)."""

_PITCHES: dict[int, tuple[int, ...]] = {
    BASS: tuple(range(BASS_LOW, BASS_LOW + 12)),
    PADS: tuple(range(PAD_LOW, PAD_LOW + 12)),
    KEYS: tuple(range(58, 97)),
    LEAD: tuple(range(58, 97)),
    TIMPANI: tuple(range(BASS_LOW + 12, BASS_LOW + 24)),
    DRUMS: (
        KICK, SNARE, CLAP, LOW_TOM, HAT, OPEN_HAT, HIGH_TOM, CRASH, RIDE, SECOND_CRASH,
    ),
}  # fmt: skip
PLAYERS: tuple[tuple[int, int], ...] = (*INSTRUMENTS, (TIMPANI, TIMPANI_PROGRAM))
"""Channel and General MIDI program of all that the table knows."""
SOUNDS: tuple[tuple[int, int, int], ...] = tuple(
    (channel, program, pitch) for channel, program in PLAYERS for pitch in _PITCHES[channel]
)
"""What each row of the table is: channel, program, pitch."""
ROW = {sound: row for row, sound in enumerate(SOUNDS)}

SOFTEST, STEP = -12.0, 0.07
"""Of the levels as they are kept: a byte each, 0.6 dB apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Timbres:
    """What each of `SOUNDS` sounds like."""

    levels: Array
    """Natural logarithm of its mel magnitude at `POINTS`, ``(sounds, points, bands)``."""
    released: Array
    """Logarithm of what is left of it at `RELEASED`, 0 or less, ``(sounds, points)``."""


@cache
def timbres() -> Timbres:
    """The table that ships with the package."""
    with (
        files("loris_cli.composition").joinpath("timbres.npz").open("rb") as stream,
        np.load(stream, allow_pickle=False) as arrays,
    ):
        levels = arrays["levels"].astype(np.float32)
        return Timbres(
            levels=SOFTEST + STEP * levels, released=arrays["released"].astype(np.float32)
        )


def sketch(
    arrangement: Arrangement, start: int, frames: int, table: Timbres | None = None
) -> Array:
    """Log-mel frames that notes would about have.

    Args:
        arrangement: the notes; those of nobody in `SOUNDS` are left out.
        start: first frame, counted from second 0, 256 samples each.
        frames: how many.
        table: None is the one of the package.

    Returns:
        natural logarithm of the mel magnitude, ``(160, frames)``, as `mel.log_mel` has it.
    """
    table = table or timbres()
    power = np.zeros((frames, BANDS.n_mels), dtype=np.float32)
    starts, lengths = arrangement.table[:, :2].T * mel.MEL_HZ
    starts = starts - start
    tails = np.where(arrangement.table[:, 2] == DRUMS, POINTS[-1], lengths + RELEASED[-1])
    near = (starts + POINTS[0] < frames) & (starts + tails > 0)
    for begins, long, tail, (channel, pitch, velocity) in zip(
        starts[near], lengths[near], tails[near], arrangement.table[near, 2:], strict=True
    ):
        program = arrangement.programs.get(int(channel))
        row = ROW.get((int(channel), -1 if program is None else program, int(pitch)))
        first = max(int(np.ceil(begins + POINTS[0])), 0)
        after = np.arange(first, min(int(begins + tail), frames)) - begins
        if row is None or not len(after):
            continue
        left = np.searchsorted(POINTS, after, side="right").clip(1, len(POINTS) - 1) - 1
        share = ((after - POINTS[left]) / np.diff(POINTS)[left]).clip(0, 1)
        share = share[:, None].astype(np.float32)
        level = table.levels[row, left] * (1 - share) + table.levels[row, left + 1] * share
        gain = np.interp(after - long, RELEASED, table.released[row], left=0.0)
        gain += 2 * np.log(max(velocity, 1) / VELOCITY)
        power[first : first + len(after)] += np.exp(2 * level + 2 * gain[:, None])
    return np.log(np.sqrt(power.T) + np.float32(mel.FLOOR))

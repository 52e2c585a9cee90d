"""What each instrument sounds like, note by note: the table that sketches are drawn from.

    python experiments/measure_timbres.py -o loris_cli/composition/timbres.npz

    sounds -> notes apart from one another -> fluidsynth -> log-mel at some moments -> table

Made once, of the soundfont that the training music is played with.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loris_cli.audio import mel
from loris_cli.composition.arrangement import DRUMS, Arrangement
from loris_cli.composition.note_spectrogram import (
    BANDS,
    PLAYERS,
    POINTS,
    RELEASED,
    SOFTEST,
    SOUNDS,
    STEP,
    VELOCITY,
)
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import LorisError
from loris_cli.synthetic.midi_synthesis import SOUNDFONT, Mix, play
from loris_cli.system.atomic_files import replacing
from loris_cli.system.worker_pool import Died, fan_out

Array = NDArray[np.float64]

HELD_S, APART_S = 4.0, 5.5
"""Each note sounds this long, and the next begins so much later."""
SHORT_S, SHORT_APART_S, SHORT_NOTES = 0.4, 3.0, 6
"""So are some of each instrument's, to hear how they end."""
FIRST_S = 1.0
LEVEL = 2.37
"""Training pieces are brought to a peak of 0.9: of ten, this much louder than what was played
here, by the mean logarithm of their bands."""
MIX = Mix(gain=0.5, reverb=0.25, room=0.5, balance=np.full(16, 0.825), tilt=0.0)
"""The middle of what the training pieces are mixed by."""


def measure(soundfont: Path, player: tuple[int, int]) -> tuple[Array, Array]:
    """Levels and releases of one player's sounds, rows as in `sketch.SOUNDS`.

    Args:
        soundfont: an ``.sf2`` file.
        player: MIDI channel and General MIDI program.

    Raises:
        MissingDependencyError: fluidsynth or the soundfont is not installed.
    """
    pitches = [sound[2] for sound in SOUNDS if sound[:2] == player]
    few = pitches[:: max(len(pitches) // SHORT_NOTES, 1)][:SHORT_NOTES]
    held_s = [FIRST_S + APART_S * k for k in range(len(pitches))]
    short_s = [held_s[-1] + APART_S + SHORT_APART_S * k for k in range(len(few))]
    notes = [
        *_rows(player[0], held_s, HELD_S, pitches),
        *_rows(player[0], short_s, SHORT_S, few),
    ]
    arrangement = Arrangement(table=np.array(notes), programs=dict([player]))
    sound = play(arrangement, MIX, duration_s=short_s[-1] + SHORT_APART_S, soundfont=soundfont)
    whole = {
        pitch: _magnitudes(sound, at_s, POINTS[-1] - POINTS[0] + 1)
        for pitch, at_s in zip(pitches, held_s, strict=True)
    }
    levels = np.stack([np.log(whole[pitch][POINTS - POINTS[0]]) for pitch in pitches])
    ends = round(SHORT_S * mel.MEL_HZ) - POINTS[0] + RELEASED
    left = []
    for pitch, at_s in zip(few, short_s, strict=True):
        short = _magnitudes(sound, at_s, int(ends[-1]) + 1)
        shares = np.square(short[ends]).sum(axis=1) / np.square(whole[pitch][ends]).sum(axis=1)
        left.append(np.log(np.minimum(shares, 1)) / 2)
    released: Array = np.mean(left, axis=0)
    if player[0] == DRUMS:  # a stroke rings on
        released = np.zeros(len(RELEASED))
    return levels, np.tile(released, (len(pitches), 1))


def _rows(
    channel: int, at_s: Sequence[float], long_s: float, pitches: Sequence[int]
) -> list[list[float]]:
    return [
        [at, long_s, channel, pitch, VELOCITY] for at, pitch in zip(at_s, pitches, strict=True)
    ]


def _magnitudes(sound: Array, at_s: float, frames: int) -> Array:
    """Mel magnitudes of a note, ``(frames, bands)``, from `POINTS`' first on."""
    before = BANDS.n_fft // mel.HOP
    first = round(at_s * SAMPLE_RATE_HZ) + (POINTS[0] - before) * mel.HOP
    part = sound[first : first + (frames + 2 * before) * mel.HOP]
    loud = 100.0  # far above what is added before the logarithm
    bands = mel.log_mel((part * loud).astype(np.float32), BANDS)[:, before : before + frames]
    magnitudes: Array = (np.exp(bands.astype(np.float64)) - mel.FLOOR).clip(1e-4) / loud
    return magnitudes.T * LEVEL


def main() -> None:
    """Read the command line, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--soundfont", type=Path, default=SOUNDFONT)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    done: dict[int, tuple[Array, Array]] = {}
    work = partial(measure, given.soundfont)
    for index, result in fan_out(work, PLAYERS, n_workers=given.jobs):
        if isinstance(result, Died):
            raise LorisError(f"a process ended with {result.exit_code} in its work")
        done[index] = result
    levels = np.concatenate([done[k][0] for k in range(len(PLAYERS))])
    kept = np.round((levels - SOFTEST) / STEP).clip(0, 255).astype(np.uint8)
    released = np.concatenate([done[k][1] for k in range(len(PLAYERS))]).astype(np.float16)
    with replacing(given.out, overwrite=True) as part, part.open("wb") as stream:
        np.savez_compressed(stream, levels=kept, released=released)


if __name__ == "__main__":
    main()

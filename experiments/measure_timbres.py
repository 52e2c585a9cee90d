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
from loris_cli.composition.arrangement import DRUM_CHANNEL, Arrangement
from loris_cli.composition.note_spectrogram import (
    LOG_LEVEL_STEP,
    MIN_LOG_LEVEL,
    NOTE_MEL_CONFIG,
    ONSET_FRAME_OFFSETS,
    REFERENCE_VELOCITY,
    RELEASE_FRAME_OFFSETS,
    TIMBRE_INSTRUMENTS,
    TIMBRE_NOTES,
)
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import LorisError
from loris_cli.synthetic.midi_synthesis import (
    DEFAULT_SOUNDFONT,
    MixSettings,
    synthesize_arrangement,
)
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

Array = NDArray[np.float64]

NOTE_DURATION_S, NOTE_SPACING_S = 4.0, 5.5
"""Each note sounds this long, and the next begins so much later."""
SHORT_NOTE_DURATION_S, SHORT_NOTE_SPACING_S, N_SHORT_NOTES = 0.4, 3.0, 6
"""So are some of each instrument's, to hear how they end."""
FIRST_ONSET_S = 1.0
TRAINING_LEVEL_GAIN = 2.37
"""Training pieces are brought to a peak of 0.9: of ten, this much louder than what was played
here, by the mean logarithm of their bands."""
MEAN_MIX = MixSettings(
    gain=0.5,
    reverb_level=0.25,
    reverb_room_size=0.5,
    channel_volumes=np.full(16, 0.825),
    spectral_tilt=0.0,
)
"""The middle of what the training pieces are mixed by."""


def measure_timbre(soundfont: Path, instrument: tuple[int, int]) -> tuple[Array, Array]:
    """Levels and releases of one player's sounds, rows as in `sketch.TIMBRE_NOTES`.

    Args:
        soundfont: an ``.sf2`` file.
        instrument: MIDI channel and General MIDI program.

    Raises:
        MissingDependencyError: fluidsynth or the soundfont is not installed.
    """
    pitches = [sound[2] for sound in TIMBRE_NOTES if sound[:2] == instrument]
    few = pitches[:: max(len(pitches) // N_SHORT_NOTES, 1)][:N_SHORT_NOTES]
    held_s = [FIRST_ONSET_S + NOTE_SPACING_S * k for k in range(len(pitches))]
    short_s = [held_s[-1] + NOTE_SPACING_S + SHORT_NOTE_SPACING_S * k for k in range(len(few))]
    notes = [
        *_build_note_rows(instrument[0], held_s, NOTE_DURATION_S, pitches),
        *_build_note_rows(instrument[0], short_s, SHORT_NOTE_DURATION_S, few),
    ]
    arrangement = Arrangement(note_array=np.array(notes), channel_programs=dict([instrument]))
    sound = synthesize_arrangement(
        arrangement,
        MEAN_MIX,
        duration_s=short_s[-1] + SHORT_NOTE_SPACING_S,
        soundfont=soundfont,
    )
    whole = {
        pitch: _measure_mel_magnitudes(
            sound, at_s, ONSET_FRAME_OFFSETS[-1] - ONSET_FRAME_OFFSETS[0] + 1
        )
        for pitch, at_s in zip(pitches, held_s, strict=True)
    }
    levels = np.stack(
        [
            np.log(whole[pitch][ONSET_FRAME_OFFSETS - ONSET_FRAME_OFFSETS[0]])
            for pitch in pitches
        ]
    )
    ends = (
        round(SHORT_NOTE_DURATION_S * mel.MEL_FPS)
        - ONSET_FRAME_OFFSETS[0]
        + RELEASE_FRAME_OFFSETS
    )
    left = []
    for pitch, at_s in zip(few, short_s, strict=True):
        short = _measure_mel_magnitudes(sound, at_s, int(ends[-1]) + 1)
        shares = np.square(short[ends]).sum(axis=1) / np.square(whole[pitch][ends]).sum(axis=1)
        left.append(np.log(np.minimum(shares, 1)) / 2)
    released: Array = np.mean(left, axis=0)
    if instrument[0] == DRUM_CHANNEL:  # a stroke rings on
        released = np.zeros(len(RELEASE_FRAME_OFFSETS))
    return levels, np.tile(released, (len(pitches), 1))


def _build_note_rows(
    channel: int, onsets_s: Sequence[float], duration_s: float, pitches: Sequence[int]
) -> list[list[float]]:
    return [
        [at, duration_s, channel, pitch, REFERENCE_VELOCITY]
        for at, pitch in zip(onsets_s, pitches, strict=True)
    ]


def _measure_mel_magnitudes(samples: Array, onset_s: float, n_frames: int) -> Array:
    """Mel magnitudes of a note, ``(frames, bands)``, from `ONSET_FRAME_OFFSETS`' first on."""
    before = NOTE_MEL_CONFIG.n_fft // mel.HOP_LENGTH
    first = round(onset_s * SAMPLE_RATE_HZ) + (ONSET_FRAME_OFFSETS[0] - before) * mel.HOP_LENGTH
    part = samples[first : first + (n_frames + 2 * before) * mel.HOP_LENGTH]
    loud = 100.0  # far above what is added before the logarithm
    bands = mel.compute_log_mel((part * loud).astype(np.float32), NOTE_MEL_CONFIG)[
        :, before : before + n_frames
    ]
    magnitudes: Array = (np.exp(bands.astype(np.float64)) - mel.LOG_OFFSET).clip(1e-4) / loud
    return magnitudes.T * TRAINING_LEVEL_GAIN


def main() -> None:
    """Read the command line, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--soundfont", type=Path, default=DEFAULT_SOUNDFONT)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    done: dict[int, tuple[Array, Array]] = {}
    work = partial(measure_timbre, given.soundfont)
    for index, result in map_in_processes(work, TIMBRE_INSTRUMENTS, n_workers=given.jobs):
        if isinstance(result, WorkerCrash):
            raise LorisError(f"a process ended with {result.exit_code} in its work")
        done[index] = result
    levels = np.concatenate([done[k][0] for k in range(len(TIMBRE_INSTRUMENTS))])
    kept = np.round((levels - MIN_LOG_LEVEL) / LOG_LEVEL_STEP).clip(0, 255).astype(np.uint8)
    released = np.concatenate([done[k][1] for k in range(len(TIMBRE_INSTRUMENTS))]).astype(
        np.float16
    )
    with atomic_write(given.out, overwrite=True) as part, part.open("wb") as stream:
        np.savez_compressed(stream, levels=kept, released=released)


if __name__ == "__main__":
    main()

"""Measure the timbre table: spectra of all notes of all instruments.

    python experiments/measure_timbres.py --synthesizer fluidsynth -o timbres.npz

    notes -> isolated notes in sequence -> synthesizer -> log-mel frames at offsets -> table

Needs to run once, with the synthesizer and the soundfont of the training music.
`render_note_spectrogram` reads the table.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from loris_cli.array_types import Array
from loris_cli.audio import mel
from loris_cli.composition.arrangement import (
    DRUM_CHANNEL,
    INSTRUMENTS,
    TIMBRE_NOTES,
    Arrangement,
)
from loris_cli.composition.mix import MixSettings
from loris_cli.composition.note_spectrogram import (
    LOG_LEVEL_STEP,
    MIN_LOG_LEVEL,
    NOTE_MEL_CONFIG,
    ONSET_FRAME_OFFSETS,
    REFERENCE_VELOCITY,
    RELEASE_FRAME_OFFSETS,
)
from loris_cli.composition.synthesis import synthesize_blocks
from loris_cli.composition.synthesizer_settings import SynthesizerSettings
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import LorisError
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

NOTE_DURATION_S, NOTE_SPACING_S = 4.0, 5.5
"""Duration of each sustained note, and interval between onsets."""
SHORT_NOTE_DURATION_S, SHORT_NOTE_SPACING_S, N_SHORT_NOTES = 0.4, 3.0, 6
"""Duration, interval and number per instrument of the notes whose release is measured."""
FIRST_ONSET_S = 1.0
TRAINING_LEVEL_GAIN = 2.37
"""Gain of the training pieces, which are normalized to a peak of 0.9, over the level measured
here; from the mean logarithm of the mel bands of ten pieces."""
MEAN_MIX = MixSettings(
    reverb_level=0.25,
    reverb_room_size=0.5,
    channel_volumes=np.full(16, 0.825 * 110 / 127),
    spectral_tilt=0.0,
)
"""Mean mix settings of the training pieces."""


def measure_timbre(
    synthesizer: SynthesizerSettings, instrument: tuple[int, int]
) -> tuple[Array, Array]:
    """Measure levels and releases of the notes of one instrument.

    Args:
        synthesizer: synthesizer and soundfont.
        instrument: MIDI channel and General MIDI program.

    Returns:
        log mel magnitudes, ``(notes, offsets, bands)``, and log gains after the end of a note,
        ``(notes, release offsets)``; notes are in the order of `TIMBRE_NOTES`.

    Raises:
        MissingDependencyError: fluidsynth or its soundfont is not installed.
    """
    pitches = [note[2] for note in TIMBRE_NOTES if note[:2] == instrument]
    short_pitches = pitches[:: max(len(pitches) // N_SHORT_NOTES, 1)][:N_SHORT_NOTES]
    held_s = [FIRST_ONSET_S + NOTE_SPACING_S * k for k in range(len(pitches))]
    short_s = [
        held_s[-1] + NOTE_SPACING_S + SHORT_NOTE_SPACING_S * k
        for k in range(len(short_pitches))
    ]
    notes = [
        *_build_note_rows(instrument[0], held_s, NOTE_DURATION_S, pitches),
        *_build_note_rows(instrument[0], short_s, SHORT_NOTE_DURATION_S, short_pitches),
    ]
    arrangement = Arrangement(note_array=np.array(notes), channel_programs=dict([instrument]))
    blocks = synthesize_blocks(
        arrangement,
        MEAN_MIX,
        duration_s=short_s[-1] + SHORT_NOTE_SPACING_S,
        n_channels=1,
        synthesizer=synthesizer,
    )
    samples = np.concatenate([block[0] for block in blocks])
    offsets = ONSET_FRAME_OFFSETS - ONSET_FRAME_OFFSETS[0]
    held = {
        pitch: _measure_mel_magnitudes(samples, onset_s, offsets[-1] + 1)
        for pitch, onset_s in zip(pitches, held_s, strict=True)
    }
    levels = np.stack([np.log(held[pitch][offsets]) for pitch in pitches])
    ends = round(SHORT_NOTE_DURATION_S * mel.MEL_FPS) - ONSET_FRAME_OFFSETS[0]
    ends = ends + RELEASE_FRAME_OFFSETS
    gains = []
    for pitch, onset_s in zip(short_pitches, short_s, strict=True):
        short = _measure_mel_magnitudes(samples, onset_s, int(ends[-1]) + 1)
        ratios = np.square(short[ends]).sum(axis=1) / np.square(held[pitch][ends]).sum(axis=1)
        gains.append(np.log(np.minimum(ratios, 1)) / 2)
    released: Array = np.mean(gains, axis=0)
    if instrument[0] == DRUM_CHANNEL:  # drums have no release phase
        released = np.zeros(len(RELEASE_FRAME_OFFSETS))
    return levels, np.tile(released, (len(pitches), 1))


def _build_note_rows(
    channel: int, onsets_s: Sequence[float], duration_s: float, pitches: Sequence[int]
) -> list[list[float]]:
    return [
        [onset_s, duration_s, channel, pitch, REFERENCE_VELOCITY]
        for onset_s, pitch in zip(onsets_s, pitches, strict=True)
    ]


def _measure_mel_magnitudes(samples: Array, onset_s: float, n_frames: int) -> Array:
    """Return the mel magnitudes of a note, ``(frames, bands)``.

    The first frame is at `ONSET_FRAME_OFFSETS[0]` from the onset.
    """
    margin = NOTE_MEL_CONFIG.n_fft // mel.HOP_LENGTH
    first = round(onset_s * SAMPLE_RATE_HZ) + (ONSET_FRAME_OFFSETS[0] - margin) * mel.HOP_LENGTH
    note = samples[first : first + (n_frames + 2 * margin) * mel.HOP_LENGTH]
    gain = 100.0  # lifts the signal far above the offset of the logarithm
    log_mel = mel.compute_log_mel((note * gain).astype(np.float32), NOTE_MEL_CONFIG)
    bands = log_mel[:, margin : margin + n_frames].astype(np.float64)
    magnitudes: Array = (np.exp(bands) - mel.LOG_OFFSET).clip(1e-4) / gain
    return magnitudes.T * TRAINING_LEVEL_GAIN


def main() -> None:
    """Parse arguments, measure the notes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--synthesizer", choices=["builtin", "fluidsynth"], required=True)
    parser.add_argument("--soundfont", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    results: dict[int, tuple[Array, Array]] = {}
    synthesizer = SynthesizerSettings(name=arguments.synthesizer, soundfont=arguments.soundfont)
    measure = partial(measure_timbre, synthesizer)
    for index, result in map_in_processes(measure, INSTRUMENTS, n_workers=arguments.jobs):
        if isinstance(result, WorkerCrash):
            raise LorisError(f"a worker process crashed (exit code {result.exit_code})")
        results[index] = result
    levels, released = map(
        np.concatenate, zip(*(results[k] for k in sorted(results)), strict=True)
    )
    stored = np.round((levels - MIN_LOG_LEVEL) / LOG_LEVEL_STEP).clip(0, 255).astype(np.uint8)
    with atomic_write(arguments.out, overwrite=True) as path, path.open("wb") as stream:
        np.savez_compressed(stream, levels=stored, released=released.astype(np.float16))


if __name__ == "__main__":
    main()

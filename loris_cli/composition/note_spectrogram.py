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
    BASS_CHANNEL,
    BASS_LOWEST_PITCH,
    CLAP,
    CRASH,
    DRUM_CHANNEL,
    HAT,
    HIGH_TOM,
    INSTRUMENTS,
    KEYS_CHANNEL,
    KICK,
    LEAD_CHANNEL,
    LOW_TOM,
    OPEN_HAT,
    PAD_CHANNEL,
    PAD_LOWEST_PITCH,
    RIDE,
    SECOND_CRASH,
    SNARE,
    TIMPANI_CHANNEL,
    TIMPANI_PROGRAM,
    Arrangement,
)

Array = NDArray[np.float32]

NOTE_MEL_CONFIG = mel.FINE_MEL_CONFIG
ONSET_FRAME_OFFSETS = np.array(
    [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 26, 32, 40, 52, 64, 80, 104, 128, 168,
     224, 320]
)  # fmt: skip
"""Log-mel frames from a note's beginning at which the table has its spectrum; between them it
is drawn straight in the logarithm, and after the last it stays."""
RELEASE_FRAME_OFFSETS = np.array([0, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96])
"""Frames from a note's end at which the table has how much is left of it; then it is silent."""
REFERENCE_VELOCITY = 64
"""Of the notes that were measured; others are louder by its square (General MIDI)."""

_PITCHES_BY_CHANNEL: dict[int, tuple[int, ...]] = {
    BASS_CHANNEL: tuple(range(BASS_LOWEST_PITCH, BASS_LOWEST_PITCH + 12)),
    PAD_CHANNEL: tuple(range(PAD_LOWEST_PITCH, PAD_LOWEST_PITCH + 12)),
    KEYS_CHANNEL: tuple(range(58, 97)),
    LEAD_CHANNEL: tuple(range(58, 97)),
    TIMPANI_CHANNEL: tuple(range(BASS_LOWEST_PITCH + 12, BASS_LOWEST_PITCH + 24)),
    DRUM_CHANNEL: (
        KICK, SNARE, CLAP, LOW_TOM, HAT, OPEN_HAT, HIGH_TOM, CRASH, RIDE, SECOND_CRASH,
    ),
}  # fmt: skip
TIMBRE_INSTRUMENTS: tuple[tuple[int, int], ...] = (
    *INSTRUMENTS,
    (TIMPANI_CHANNEL, TIMPANI_PROGRAM),
)
"""Channel and General MIDI program of all that the table knows."""
TIMBRE_NOTES: tuple[tuple[int, int, int], ...] = tuple(
    (channel, program, pitch)
    for channel, program in TIMBRE_INSTRUMENTS
    for pitch in _PITCHES_BY_CHANNEL[channel]
)
"""What each row of the table is: channel, program, pitch."""
TIMBRE_ROW_BY_NOTE = {sound: row for row, sound in enumerate(TIMBRE_NOTES)}

MIN_LOG_LEVEL, LOG_LEVEL_STEP = -12.0, 0.07
"""Of the levels as they are kept: a byte each, 0.6 dB apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TimbreTable:
    """What each of `TIMBRE_NOTES` sounds like."""

    log_levels: Array
    """Natural logarithm of its mel magnitude at `ONSET_FRAME_OFFSETS`, ``(sounds, points, bands)``."""
    release_log_gains: Array
    """Logarithm of what is left of it at `RELEASE_FRAME_OFFSETS`, 0 or less, ``(sounds, points)``."""


@cache
def load_timbre_table() -> TimbreTable:
    """The table that ships with the package."""
    with (
        files("loris_cli.composition").joinpath("timbres.npz").open("rb") as stream,
        np.load(stream, allow_pickle=False) as arrays,
    ):
        levels = arrays["levels"].astype(np.float32)
        return TimbreTable(
            log_levels=MIN_LOG_LEVEL + LOG_LEVEL_STEP * levels,
            release_log_gains=arrays["released"].astype(np.float32),
        )


def render_note_spectrogram(
    arrangement: Arrangement,
    start_frame: int,
    n_frames: int,
    timbre_table: TimbreTable | None = None,
) -> Array:
    """Log-mel frames that notes would about have.

    Args:
        arrangement: the notes; those of nobody in `TIMBRE_NOTES` are left out.
        start_frame: first frame, counted from second 0, 256 samples each.
        n_frames: how many.
        timbre_table: None is the one of the package.

    Returns:
        natural logarithm of the mel magnitude, ``(160, frames)``, as `mel.log_mel` has it.
    """
    timbre_table = timbre_table or load_timbre_table()
    power = np.zeros((n_frames, NOTE_MEL_CONFIG.n_mels), dtype=np.float32)
    starts, lengths = arrangement.note_array[:, :2].T * mel.MEL_FPS
    starts = starts - start_frame
    tails = np.where(
        arrangement.note_array[:, 2] == DRUM_CHANNEL,
        ONSET_FRAME_OFFSETS[-1],
        lengths + RELEASE_FRAME_OFFSETS[-1],
    )
    near = (starts + ONSET_FRAME_OFFSETS[0] < n_frames) & (starts + tails > 0)
    for begins, long, tail, (channel, pitch, velocity) in zip(
        starts[near], lengths[near], tails[near], arrangement.note_array[near, 2:], strict=True
    ):
        program = arrangement.channel_programs.get(int(channel))
        row = TIMBRE_ROW_BY_NOTE.get(
            (int(channel), -1 if program is None else program, int(pitch))
        )
        first = max(int(np.ceil(begins + ONSET_FRAME_OFFSETS[0])), 0)
        after = np.arange(first, min(int(begins + tail), n_frames)) - begins
        if row is None or not len(after):
            continue
        left = (
            np.searchsorted(ONSET_FRAME_OFFSETS, after, side="right").clip(
                1, len(ONSET_FRAME_OFFSETS) - 1
            )
            - 1
        )
        share = ((after - ONSET_FRAME_OFFSETS[left]) / np.diff(ONSET_FRAME_OFFSETS)[left]).clip(
            0, 1
        )
        share = share[:, None].astype(np.float32)
        level = (
            timbre_table.log_levels[row, left] * (1 - share)
            + timbre_table.log_levels[row, left + 1] * share
        )
        gain = np.interp(
            after - long, RELEASE_FRAME_OFFSETS, timbre_table.release_log_gains[row], left=0.0
        )
        gain += 2 * np.log(max(velocity, 1) / REFERENCE_VELOCITY)
        power[first : first + len(after)] += np.exp(2 * level + 2 * gain[:, None])
    return np.log(np.sqrt(power.T) + np.float32(mel.LOG_OFFSET))

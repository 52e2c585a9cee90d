"""Polyphonic transcription: notes of an audio recording.

    samples -> windows -> network -> onset and note posteriorgrams -> notes

Network and note creation of Basic Pitch: Bittner et al., "A Lightweight Instrument-Agnostic
Model for Polyphonic Note Transcription and Multipitch Estimation" (ICASSP 2022). Instruments
are not distinguished, and drums have no notes of their own.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.system.tflite_network import TfliteNetwork

NETWORK_FILE = (
    "nmp.tflite",
    "3db297d54af8e01c6e5618245c956b1d71b6a2b978cb2dedb527173186552676",
)
WINDOW_SAMPLES = 43_844
FRAME_SAMPLES = 256
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
WINDOW_FRAMES = 172
MARGIN_FRAMES = 15
"""Frames at both ends of a window that are discarded."""
VALID_FRAMES = WINDOW_FRAMES - 2 * MARGIN_FRAMES
HOP_FRAMES = VALID_FRAMES // 2
"""Frames between windows, which are averaged with triangular weights. The package advances by
36,164 samples without an overlap. The network normalizes the level of each window, so a window
without attacks has a higher likelihood, and its first frame would be an onset."""
N_PITCHES = 88
LOWEST_PITCH = 21
"""MIDI pitch of the lowest key of a piano."""
ONSET_THRESHOLD, NOTE_THRESHOLD = 0.5, 0.3
"""Least likelihood of an onset, and of a sounding note (package, default values)."""
TOLERANCE_FRAMES = 11
"""Frames below the threshold after which a note has ended, 128 ms."""
MIN_NOTE_FRAMES = 11
"""Notes of this duration, 128 ms, and shorter ones are removed."""


def transcribe_notes(samples: Samples) -> Array:
    """Return the notes of a recording.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``.

    Returns:
        Notes in order of onset and pitch, ``(notes, 4)``: onset and duration in seconds, MIDI
        pitch 21..108, velocity 1..127.

    Raises:
        WeightsError: the network is missing or damaged.
    """
    onsets, notes = compute_posteriorgrams(samples)
    return create_notes(onsets, notes)


def compute_posteriorgrams(samples: Samples) -> tuple[Float32Array, Float32Array]:
    """Return the likelihoods of onsets and of sounding notes.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``.

    Returns:
        Onset and note posteriorgram, each ``(frames, 88)``, 0..1; frame ``k`` is at sample
        ``256 * k``.
    """
    network = _load_network()
    n_frames = -(-len(samples) // FRAME_SAMPLES)
    n_windows = max(-(-(n_frames - VALID_FRAMES) // HOP_FRAMES), 0) + 1
    n_margin = MARGIN_FRAMES * FRAME_SAMPLES
    n_padded = (n_windows - 1) * HOP_FRAMES * FRAME_SAMPLES + WINDOW_SAMPLES
    padded = np.zeros(max(n_padded, n_margin + len(samples)), dtype=np.float32)
    padded[n_margin : n_margin + len(samples)] = samples
    weights = np.minimum(np.arange(1, VALID_FRAMES + 1), np.arange(VALID_FRAMES, 0, -1))
    rows = slice(MARGIN_FRAMES, MARGIN_FRAMES + VALID_FRAMES)
    shape = (n_windows - 1) * HOP_FRAMES + VALID_FRAMES, N_PITCHES
    onsets, notes, total = np.zeros(shape), np.zeros(shape), np.zeros((shape[0], 1))
    for first in range(0, n_windows * HOP_FRAMES, HOP_FRAMES):
        window = padded[first * FRAME_SAMPLES :][:WINDOW_SAMPLES]
        onset, note, _ = network(window[:, None])  # file order; the third is the contour
        frames = slice(first, first + VALID_FRAMES)
        onsets[frames] += weights[:, None] * onset[0, rows]
        notes[frames] += weights[:, None] * note[0, rows]
        total[frames] += weights[:, None]
    onsets, notes = onsets / total, notes / total
    return onsets[:n_frames].astype(np.float32), notes[:n_frames].astype(np.float32)


def create_notes(onsets: Float32Array, notes: Float32Array) -> Array:
    """Return notes from posteriorgrams.

    From each onset, latest first, a note lasts until its likelihood stays below the threshold.
    Then notes are created from the likelihood that remains, largest first, in both directions.

    Args:
        onsets: onset posteriorgram, ``(frames, 88)``, 0..1.
        notes: note posteriorgram, ``(frames, 88)``, 0..1.

    Returns:
        as `transcribe_notes`.
    """
    remaining = notes.astype(np.float64)
    rows: list[tuple[float, float, int, float]] = []

    def add_note(start: int, end: int, pitch: int) -> None:
        if end - start > MIN_NOTE_FRAMES:
            velocity = round(127 * float(notes[start:end, pitch].mean()))
            level = min(max(velocity, 1), 127)
            times_s = start * FRAME_S, (end - start) * FRAME_S
            rows.append((*times_s, LOWEST_PITCH + pitch, level))

    for start, pitch in _find_onsets(np.maximum(onsets, infer_onsets(onsets, notes))):
        end = start + 1 + _count_sounding(remaining[start + 1 :, pitch])
        if end - start > MIN_NOTE_FRAMES:
            _clear(remaining, start, end, pitch)
        add_note(start, end, pitch)
    while remaining.size and remaining.max() > NOTE_THRESHOLD:
        middle, pitch = divmod(int(remaining.argmax()), N_PITCHES)
        end = middle + 1 + _count_sounding(remaining[middle + 1 :, pitch])
        start = middle - _count_sounding(remaining[:middle, pitch][::-1])
        _clear(remaining, start, end, pitch)
        add_note(start, end, pitch)
    array = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return array[np.lexsort((array[:, 2], array[:, 0]))]


def infer_onsets(onsets: Float32Array, notes: Float32Array) -> Float32Array:
    """Return onset likelihoods from increases of the note likelihood over one and two frames.

    Part of the package, not of the paper. The largest increase has the likelihood of the
    largest onset.
    """
    padded = np.pad(notes, ((2, 0), (0, 0)))
    increase = np.minimum(notes - padded[1:-1], notes - padded[:-2]).clip(min=0)
    increase[:2] = 0
    largest = float(increase.max(initial=0))
    if largest <= 0:
        return np.zeros_like(onsets)
    return np.asarray(increase * (float(onsets.max()) / largest), dtype=np.float32)


def _find_onsets(onsets: Float32Array) -> list[tuple[int, int]]:
    """Return frame and pitch index of the peaks above the threshold, latest first."""
    is_peak = np.zeros(onsets.shape, dtype=bool)
    inner = onsets[1:-1]
    is_peak[1:-1] = (inner > onsets[:-2]) & (inner > onsets[2:]) & (inner >= ONSET_THRESHOLD)
    found: list[tuple[int, int]] = np.argwhere(is_peak)[::-1].tolist()
    return found


def _count_sounding(likelihoods: Array) -> int:
    """Return the number of frames before the note has ended.

    A note ends where the likelihood is below the threshold for `TOLERANCE_FRAMES` frames, or at
    the last frame above it.
    """
    is_below = likelihoods < NOTE_THRESHOLD
    n_below = np.concatenate([[0], np.cumsum(is_below)])
    runs = n_below[TOLERANCE_FRAMES:] - n_below[:-TOLERANCE_FRAMES]
    ends = np.flatnonzero(runs == TOLERANCE_FRAMES)
    if len(ends):
        return int(ends[0])
    above: NDArray[np.int64] = np.flatnonzero(~is_below)
    return int(above[-1]) + 1 if len(above) else 0


def _clear(remaining: Array, start: int, end: int, pitch: int) -> None:
    """Remove a note, and its leakage into the neighbouring pitches, from the likelihood."""
    remaining[start:end, max(pitch - 1, 0) : pitch + 2] = 0


@lru_cache(maxsize=1)
def _load_network() -> TfliteNetwork:
    return TfliteNetwork("loris_cli.audio", *NETWORK_FILE, purpose="transcription")

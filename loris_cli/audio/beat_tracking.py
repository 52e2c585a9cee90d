"""Beat tracking by librosa, madmom or BeatNet.

librosa's tracker (Ellis, 2007) is the default and is always installed. madmom's (Boeck, Krebs
and Widmer, 2016) is more accurate, but its models are CC BY-NC-SA 4.0: for non-commercial use
only. BeatNet's networks (Heydari, Cwitkowitz and Duan, 2021) are CC BY 4.0; their output is
decoded by madmom's state-space model, which uses none of madmom's trained networks. The same
tracker analyses both signals of a comparison, and reports state which one was used.
"""

from typing import Any, Literal

import numpy as np

from loris_cli.array_types import Array, Samples
from loris_cli.audio import madmom_process
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.system.librosa_import import librosa
from loris_cli.system.optional_packages import import_optional

BeatTracker = Literal["librosa", "madmom", "beatnet"]

MODEL = 1
"""Index of the only one of BeatNet's three networks that was not trained on GTZAN."""


def track_beats(samples: Samples, tracker: BeatTracker = "librosa") -> Array:
    """Return the beat times of an audio clip.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        tracker: library that tracks the beats.

    Returns:
        beat times in seconds, ``(beats,)``, ascending; empty for silence.

    Raises:
        MissingDependencyError: the tracker is not installed.
    """
    if not samples.any():
        return np.zeros(0)
    if tracker == "madmom":
        return madmom_process.detect_events(samples, "beats")["beats"]
    if tracker == "beatnet":
        return _track_beats_with_beatnet(samples)
    _, beats_s = librosa.beat.beat_track(y=samples, sr=SAMPLE_RATE_HZ, units="time", trim=False)
    return np.asarray(beats_s, dtype=np.float64)


def _track_beats_with_beatnet(samples: Samples) -> Array:
    module: Any = import_optional("BeatNet.BeatNet", extra="madmom", purpose="track beats")
    # A new instance for each signal, because the network keeps its state between signals.
    model = module.BeatNet(MODEL, mode="offline", inference_model="DBN", plot=[], thread=False)
    beats = np.asarray(model.process(samples), dtype=np.float64).reshape(-1, 2)
    return beats[:, 0]

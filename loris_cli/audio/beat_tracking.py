"""Who hears the beats of a sound: librosa's tracker, madmom's or BeatNet's.

librosa's (Ellis, 2007) is the default and comes with the program. madmom's (Boeck, Krebs and
Widmer, 2016) hears better, but its models are CC BY-NC-SA 4.0: for non-commercial use only.
BeatNet's (Heydari, Cwitkowitz and Duan, 2021) networks are CC BY 4.0; it follows them with
madmom's state space, of which no model is used. Both sounds of a comparison are heard by one
tracker, named beside the figures.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loris_cli.audio import madmom_process
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.system.librosa_import import import_librosa_module
from loris_cli.system.optional_packages import import_optional

Array = NDArray[np.float64]
BeatTracker = Literal["librosa", "madmom", "beatnet"]

BEATNET_MODEL = 1
"""The network that was not trained on GTZAN, of three."""


def track_beats(samples: NDArray[np.float32], tracker: BeatTracker = "librosa") -> Array:
    """Beats of a sound.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        tracker: who hears.

    Returns:
        rising seconds, none in silence.

    Raises:
        MissingDependencyError: the tracker is not installed.
    """
    if tracker != "librosa" and not samples.any():
        return np.zeros(0)
    if tracker == "madmom":
        return madmom_process.track_beats_with_madmom(samples)
    if tracker == "beatnet":
        return _track_beats_with_beatnet(samples)
    return track_beats_with_librosa(samples)


def _track_beats_with_beatnet(samples: NDArray[np.float32]) -> Array:
    module: Any = import_optional("BeatNet.BeatNet", extra="madmom", purpose="hear its beats")
    # A new one for each sound: its network remembers what it heard last.
    tracker = module.BeatNet(
        BEATNET_MODEL, mode="offline", inference_model="DBN", plot=[], thread=False
    )
    found: Array = np.asarray(tracker.process(samples), dtype=np.float64).reshape(-1, 2)
    return found[:, 0]


def track_beats_with_librosa(samples: NDArray[np.float32]) -> Array:
    """Beats as librosa's tracker hears them (Ellis, 2007), seconds."""
    _, beats = import_librosa_module("beat").beat_track(
        y=samples, sr=SAMPLE_RATE_HZ, units="time", trim=False
    )
    found: Array = np.asarray(beats, dtype=np.float64)
    return found

"""Onset and beat detection by madmom, in a Python process of its own.

audio -> 44.1 kHz -> subprocess: recurrent networks, peak picking, state space -> times

madmom's code is BSD, its models are CC BY-NC-SA 4.0: for non-commercial use only, so it runs
only on request. The models are pickles and are only loaded from the installed package.

Boeck, Arzt, Krebs and Schedl (DAFx 2012) for onsets; Boeck, Krebs and Widmer (ISMIR 2016) for
beats.
"""

from typing import Any, Literal

import numpy as np
import soxr

from loris_cli.array_types import Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.system.optional_packages import find_package_folder, import_optional
from loris_cli.system.python_subprocess import NamedArrays, call_module, serve_call

MADMOM_RATE_HZ = 44_100
"""For any other rate madmom would look for an ffmpeg program."""
ACTIVATION_FPS = 100
PURPOSE = "detect onsets and beats with it"


def check_madmom_installed() -> None:
    """Check that madmom is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    find_package_folder("madmom", extra="madmom", purpose=PURPOSE)


def detect_events(samples: Samples, *events: Literal["onsets", "beats"]) -> dict[str, Array]:
    """Return the onset or beat times of an audio clip, or both from one start of madmom.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        events: events to detect.

    Returns:
        for each name rising seconds, empty in silence.

    Raises:
        MissingDependencyError: madmom is not installed.
        LorisError: it failed.
    """
    check_madmom_installed()
    if not samples.any():
        return {name: np.zeros(0) for name in events}
    resampled = soxr.resample(samples, SAMPLE_RATE_HZ, MADMOM_RATE_HZ)
    inputs = {"samples": resampled, "event_names": np.array(events)}
    results = call_module(__name__, inputs, task="madmom")
    return {name: np.asarray(results[name], np.float64) for name in events}


def _detect_in_subprocess(inputs: NamedArrays) -> NamedArrays:
    """Events ``event_names`` of ``samples``, ``(samples,)`` at 44,100 Hz."""
    signal = _import_madmom_module("audio.signal").Signal(
        inputs["samples"], sample_rate=MADMOM_RATE_HZ, num_channels=1
    )
    events = {}
    for name in inputs["event_names"].tolist():
        features = _import_madmom_module(f"features.{name}")
        if name == "onsets":
            strength = features.RNNOnsetProcessor(fps=ACTIVATION_FPS)(signal)
            events[name] = features.OnsetPeakPickingProcessor(fps=ACTIVATION_FPS)(strength)
        else:
            strength = features.RNNBeatProcessor()(signal)
            events[name] = features.DBNBeatTrackingProcessor(fps=ACTIVATION_FPS)(strength)
    return events


def _import_madmom_module(module_name: str) -> Any:
    return import_optional(f"madmom.{module_name}", extra="madmom", purpose=PURPOSE)


if __name__ == "__main__":
    serve_call(_detect_in_subprocess)

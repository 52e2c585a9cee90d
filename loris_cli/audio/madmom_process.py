"""Onset and beat detection by madmom, in a separate Python process.

audio -> 44.1 kHz -> subprocess: recurrent networks, peak picking or state space -> times

madmom's code is BSD-licensed. Its models are CC BY-NC-SA 4.0, for non-commercial use only, so
madmom runs only if it is selected. The models are pickles and are loaded only from the
installed package.

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
"""madmom's own sample rate; for any other rate it would call an external ffmpeg."""
ACTIVATION_FPS = 100
PURPOSE = "detect onsets and beats"


def check_madmom_installed() -> None:
    """Check that madmom is installed.

    Raises:
        MissingDependencyError: madmom is not installed.
    """
    find_package_folder("madmom", extra="madmom", purpose=PURPOSE)


def detect_events(samples: Samples, *events: Literal["onsets", "beats"]) -> dict[str, Array]:
    """Detect onsets, beats, or both in an audio clip, in one madmom process.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        events: events to detect.

    Returns:
        times in seconds by event name, each ascending; empty for silence.

    Raises:
        MissingDependencyError: madmom is not installed.
        LorisError: madmom failed.
    """
    check_madmom_installed()
    if not samples.any():
        return {name: np.zeros(0) for name in events}
    resampled = soxr.resample(samples, SAMPLE_RATE_HZ, MADMOM_RATE_HZ)
    inputs = {"samples": resampled, "event_names": np.array(events)}
    results = call_module(__name__, inputs, task="madmom")
    return {name: np.asarray(results[name], np.float64) for name in events}


def _detect_in_subprocess(inputs: NamedArrays) -> NamedArrays:
    """Detect the events ``event_names`` in ``samples``, ``(samples,)`` at 44,100 Hz."""
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

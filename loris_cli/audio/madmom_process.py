"""Onsets and beats as madmom hears them, in a Python of its own.

sound -> 44.1 kHz -> another Python: recurrent networks, peak picking, state space -> moments

madmom's code is BSD, its models are CC BY-NC-SA 4.0: for non-commercial use only, so nobody is
given them unasked. They are pickles, and are only loaded from the installed package.

Boeck, Arzt, Krebs and Schedl (DAFx 2012) for onsets; Boeck, Krebs and Widmer (ISMIR 2016) for
beats.
"""

from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.system.optional_packages import find_package_folder, import_optional
from loris_cli.system.python_subprocess import NamedArrays, call_module, serve_call

Array = NDArray[np.float64]

MADMOM_RATE_HZ = 44_100
"""Of another rate madmom would look for an ffmpeg program."""
ACTIVATION_FPS = 100


def check_madmom_installed(purpose: str = "hear with it") -> None:
    """See that madmom is there.

    Raises:
        MissingDependencyError: it is not.
    """
    find_package_folder("madmom", extra="madmom", purpose=purpose)


def detect_onsets_with_madmom(samples: NDArray[np.float32]) -> Array:
    """Moments at which a sound begins.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.

    Returns:
        rising seconds, none in silence.

    Raises:
        MissingDependencyError: madmom is absent.
        LorisError: it failed.
    """
    check_madmom_installed("hear onsets with it")
    return _run_madmom(samples, "onsets")["onsets"]


def track_beats_with_madmom(samples: NDArray[np.float32]) -> Array:
    """Beats of a sound, as `detect_onsets_with_madmom`."""
    check_madmom_installed("hear beats with it")
    return _run_madmom(samples, "beats")["beats"]


def detect_onsets_and_beats(samples: NDArray[np.float32]) -> tuple[Array, Array]:
    """Both, of one start of madmom, as `detect_onsets_with_madmom`."""
    check_madmom_installed()
    found = _run_madmom(samples, "onsets", "beats")
    return found["onsets"], found["beats"]


def _run_madmom(samples: NDArray[np.float32], *event_names: str) -> dict[str, Array]:
    if not samples.any():
        return {name: np.zeros(0) for name in event_names}
    fine = soxr.resample(samples, SAMPLE_RATE_HZ, MADMOM_RATE_HZ)
    found = call_module(
        __name__, {"sound": fine, "wanted": np.array(event_names)}, task_label="madmom"
    )
    return {name: np.asarray(found[name], np.float64) for name in event_names}


def detect_events(inputs: NamedArrays) -> NamedArrays:
    """What is ``wanted`` of ``sound``, ``(samples,)`` at 44,100 Hz; in the other Python."""
    signal = _import_madmom_module("audio.signal").Signal(
        inputs["sound"], sample_rate=MADMOM_RATE_HZ, num_channels=1
    )
    found = {}
    for name in inputs["wanted"].tolist():
        features = _import_madmom_module(f"features.{name}")
        if name == "onsets":
            strength = features.RNNOnsetProcessor(fps=ACTIVATION_FPS)(signal)
            found[name] = features.OnsetPeakPickingProcessor(fps=ACTIVATION_FPS)(strength)
        else:
            strength = features.RNNBeatProcessor()(signal)
            found[name] = features.DBNBeatTrackingProcessor(fps=ACTIVATION_FPS)(strength)
    return found


def _import_madmom_module(module_name: str) -> Any:
    return import_optional(f"madmom.{module_name}", extra="madmom", purpose="hear with it")


if __name__ == "__main__":
    serve_call(detect_events)

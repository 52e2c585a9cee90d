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
from loris_cli.system.optional_packages import folder_of_package, require
from loris_cli.system.python_subprocess import Arrays, answer, ask

Array = NDArray[np.float64]

RATE_HZ = 44_100
"""Of another rate madmom would look for an ffmpeg program."""
FPS = 100


def check_madmom(purpose: str = "hear with it") -> None:
    """See that madmom is there.

    Raises:
        MissingDependencyError: it is not.
    """
    folder_of_package("madmom", extra="madmom", purpose=purpose)


def onsets(samples: NDArray[np.float32]) -> Array:
    """Moments at which a sound begins.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.

    Returns:
        rising seconds, none in silence.

    Raises:
        MissingDependencyError: madmom is absent.
        LorisError: it failed.
    """
    check_madmom("hear onsets with it")
    return _ask(samples, "onsets")["onsets"]


def beats(samples: NDArray[np.float32]) -> Array:
    """Beats of a sound, as `onsets`."""
    check_madmom("hear beats with it")
    return _ask(samples, "beats")["beats"]


def onsets_and_beats(samples: NDArray[np.float32]) -> tuple[Array, Array]:
    """Both, of one start of madmom, as `onsets`."""
    check_madmom()
    found = _ask(samples, "onsets", "beats")
    return found["onsets"], found["beats"]


def _ask(samples: NDArray[np.float32], *wanted: str) -> dict[str, Array]:
    if not samples.any():
        return {name: np.zeros(0) for name in wanted}
    fine = soxr.resample(samples, SAMPLE_RATE_HZ, RATE_HZ)
    found = ask(__name__, {"sound": fine, "wanted": np.array(wanted)}, task="madmom")
    return {name: np.asarray(found[name], np.float64) for name in wanted}


def hear(given: Arrays) -> Arrays:
    """What is ``wanted`` of ``sound``, ``(samples,)`` at 44,100 Hz; in the other Python."""
    signal = _madmom("audio.signal").Signal(given["sound"], sample_rate=RATE_HZ, num_channels=1)
    found = {}
    for name in given["wanted"].tolist():
        features = _madmom(f"features.{name}")
        if name == "onsets":
            strength = features.RNNOnsetProcessor(fps=FPS)(signal)
            found[name] = features.OnsetPeakPickingProcessor(fps=FPS)(strength)
        else:
            strength = features.RNNBeatProcessor()(signal)
            found[name] = features.DBNBeatTrackingProcessor(fps=FPS)(strength)
    return found


def _madmom(module: str) -> Any:
    return require(f"madmom.{module}", extra="madmom", purpose="hear with it")


if __name__ == "__main__":
    answer(hear)

"""Beat trackers on a click train, and install hints for trackers that are not installed."""

import sys
from importlib.machinery import BuiltinImporter
from typing import Literal

import numpy as np
import pytest

from loris_cli.array_types import Samples
from loris_cli.audio.beat_tracking import BeatTracker, track_beats
from loris_cli.errors import MissingDependencyError
from loris_cli.evaluation.runner.audio_sources import ClickTrain, load_samples

CLICK_TIMES_S = np.arange(0.3, 9.8, 0.5)


def make_click_samples() -> Samples:
    """Ten seconds of clicks at 120 bpm."""
    source = ClickTrain(click_times_s=tuple(CLICK_TIMES_S.tolist()), n_samples=220_500)
    samples, _ = load_samples(source)
    return samples


def check_beats_on_clicks(tracker: BeatTracker) -> None:
    beats_s = track_beats(make_click_samples(), tracker)

    distance_s = np.abs(beats_s[:, None] - CLICK_TIMES_S).min(axis=1)
    assert 18 <= len(beats_s) <= len(CLICK_TIMES_S) + 1
    assert np.mean(distance_s < 0.07) > 0.9


def test_librosa_tracks_the_beats_of_clicks() -> None:
    check_beats_on_clicks("librosa")


@pytest.mark.legacy
@pytest.mark.filterwarnings("ignore")  # about the packages themselves
@pytest.mark.parametrize("tracker", ["madmom", "beatnet"])
def test_optional_trackers_track_the_beats_of_clicks(
    tracker: Literal["madmom", "beatnet"],
) -> None:
    try:
        check_beats_on_clicks(tracker)
    except MissingDependencyError as missing:
        pytest.skip(f"{missing}: {missing.hint}")


def test_silence_has_no_beats() -> None:
    assert len(track_beats(np.zeros(66_150, np.float32))) == 0


@pytest.mark.parametrize(
    ("tracker", "package", "hint"),
    [("madmom", "madmom", "loris[madmom]"), ("beatnet", "BeatNet", "--no-deps BeatNet==")],
    ids=["madmom", "beatnet"],
)
def test_missing_tracker_is_refused_with_an_install_command(
    monkeypatch: pytest.MonkeyPatch,
    tracker: Literal["madmom", "beatnet"],
    package: str,
    hint: str,
) -> None:
    samples = make_click_samples()
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])  # hides installed packages

    with pytest.raises(MissingDependencyError, match=rf"^{package}\b") as raised:
        track_beats(samples, tracker)

    assert hint in raised.value.hint

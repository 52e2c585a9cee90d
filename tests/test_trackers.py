"""Beat trackers: each on clicks, or the hint how to install it."""

import sys
from importlib.machinery import BuiltinImporter
from typing import Literal

import numpy as np
import pytest

from loris_cli.audio.beat_tracking import BeatTracker, track_beats
from loris_cli.errors import MissingDependencyError
from loris_cli.evaluation.runner.audio_sources import ClickTrain, load_samples

CLICKS_S = np.arange(0.3, 9.8, 0.5)


def click_samples() -> np.ndarray:
    return load_samples(ClickTrain(click_times_s=tuple(CLICKS_S.tolist()), n_samples=220_500))[
        0
    ]


def check_tracker(tracker: BeatTracker) -> None:
    beats_s = track_beats(click_samples(), tracker)
    near = np.abs(beats_s[:, None] - CLICKS_S).min(axis=1)
    assert len(beats_s) >= 18
    assert np.mean(near < 0.07) > 0.9


def test_librosa_hears_clicks() -> None:
    check_tracker("librosa")


@pytest.mark.legacy
@pytest.mark.filterwarnings("ignore")  # about the packages themselves
@pytest.mark.parametrize("tracker", ["madmom", "beatnet"])
def test_the_others_hear_clicks(tracker: Literal["madmom", "beatnet"]) -> None:
    try:
        check_tracker(tracker)
    except MissingDependencyError as missing:
        pytest.skip(f"{missing}: {missing.hint}")


def test_silence_has_no_beats() -> None:
    assert len(track_beats(np.zeros(66_150, np.float32))) == 0


@pytest.mark.parametrize(
    ("tracker", "package", "hint"),
    [("madmom", "madmom", "loris[madmom]"), ("beatnet", "BeatNet", "--no-deps BeatNet==")],
)
def test_a_tracker_that_is_not_there_tells_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
    tracker: Literal["madmom", "beatnet"],
    package: str,
    hint: str,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    samples = click_samples()
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])  # as if nothing were installed

    with pytest.raises(MissingDependencyError, match=f"{package} is needed") as raised:
        track_beats(samples, tracker)

    assert hint in raised.value.hint

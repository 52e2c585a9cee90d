"""madmom in its subprocess: on clicks, and where it is not installed."""

import sys
from importlib.machinery import BuiltinImporter
from importlib.util import find_spec

import numpy as np
import pytest

from loris_cli.audio import madmom_process
from loris_cli.audio.accents import MIN_ACCENT_GAP_S, detect_accents, select_accents
from loris_cli.errors import MissingDependencyError

CLICKS_S = np.array([0.5, 1.25, 2.0, 3.1])

needs_madmom = pytest.mark.skipif(
    find_spec("madmom") is None, reason="madmom: `make legacy` installs it"
)


def click_samples() -> np.ndarray:
    """Bursts of noise, ``(samples,)`` at 22,050 Hz."""
    rng = np.random.default_rng(0)
    samples = np.zeros(4 * 22_050, np.float32)
    for click_s in CLICKS_S:
        start = round(click_s * 22_050)
        samples[start : start + 100] = rng.normal(size=100) / 3
    return samples


def test_silence_is_heard_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(madmom_process, "check_madmom_installed", lambda *_: None)
    assert (
        len(madmom_process.detect_events(np.zeros(22_050, np.float32), "onsets")["onsets"]) == 0
    )
    assert len(detect_accents(np.zeros(22_050, np.float32), "madmom").accents_s) == 0


def test_where_it_is_absent_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = click_samples()
    detect_accents(samples)  # librosa imports the parts of it that are used, when they are
    for name in [name for name in sys.modules if name.partition(".")[0] == "madmom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])
    with pytest.raises(MissingDependencyError, match="madmom is needed") as raised:
        detect_accents(samples, "madmom")
    assert "loris[madmom]" in raised.value.hint


def test_the_hardest_of_onsets_that_crowd_is_the_accent() -> None:
    rate_hz = 22_050 / 256
    envelope = np.zeros(400, np.float32)
    at_s = np.array([1.0, 1.1, 1.15, 2.0, 3.0])
    for onset_s, height in zip(at_s, (1.0, 5.0, 2.0, 3.0, 0.0), strict=True):
        envelope[round((onset_s + 0.0125) * rate_hz)] = height
    times_s, heights = select_accents(at_s, envelope)
    np.testing.assert_allclose(times_s, [1.1, 2.0])  # nothing begins where nothing rises
    np.testing.assert_allclose(heights, [5.0, 3.0])
    assert np.diff(times_s).min() > MIN_ACCENT_GAP_S
    assert len(select_accents(np.zeros(0), envelope)[0]) == 0


@pytest.mark.legacy
@pytest.mark.timeout(1800)
@needs_madmom
def test_accents_are_where_clicks_are() -> None:
    before = set(sys.modules)
    analysis = detect_accents(click_samples(), "madmom")
    np.testing.assert_allclose(analysis.accents_s, CLICKS_S, atol=0.025)
    assert analysis.strengths.max() == 1
    assert (analysis.strengths > 0).all()
    assert not {name for name in set(sys.modules) - before if name.startswith("madmom.")}

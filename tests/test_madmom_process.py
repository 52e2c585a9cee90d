"""madmom in a subprocess: on clicks, on silence, and if it is not installed."""

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
    find_spec("madmom") is None, reason="madmom is not installed; `make legacy` installs it"
)


def make_clicks() -> np.ndarray:
    """Return bursts of noise at ``CLICKS_S``, ``(samples,)`` at 22,050 Hz."""
    rng = np.random.default_rng(0)
    samples = np.zeros(4 * 22_050, np.float32)
    for click_s in CLICKS_S:
        start = round(click_s * 22_050)
        samples[start : start + 100] = rng.normal(size=100) / 3
    return samples


def test_silence_has_no_events_and_starts_no_madmom_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(madmom_process, "check_madmom_installed", lambda *_: None)
    monkeypatch.setattr(
        madmom_process, "call_module", lambda *_, **__: pytest.fail("madmom was started")
    )
    silence = np.zeros(22_050, np.float32)
    events = madmom_process.detect_events(silence, "onsets", "beats")
    assert {name: len(times_s) for name, times_s in events.items()} == {"onsets": 0, "beats": 0}
    assert len(detect_accents(silence, "madmom").accents_s) == 0


def test_a_missing_madmom_is_an_error_with_an_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = make_clicks()
    detect_accents(samples)  # lazy imports of librosa happen before imports are blocked
    for name in [name for name in sys.modules if name.partition(".")[0] == "madmom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [BuiltinImporter])
    with pytest.raises(MissingDependencyError, match="madmom") as caught:
        detect_accents(samples, "madmom")
    assert caught.value.hint == "pip install 'loris[madmom]'"


def test_the_strongest_of_close_onsets_is_the_accent() -> None:
    rate_hz = 22_050 / 256
    envelope = np.zeros(400, np.float32)
    onsets_s = np.array([1.0, 1.1, 1.15, 2.0, 3.0])
    for onset_s, height in zip(onsets_s, (1.0, 5.0, 2.0, 3.0, 0.0), strict=True):
        envelope[round((onset_s + 0.0125) * rate_hz)] = height
    times_s, heights = select_accents(onsets_s, envelope)
    np.testing.assert_allclose(times_s, [1.1, 2.0])  # not 3.0: the envelope is 0 there
    np.testing.assert_allclose(heights, [5.0, 3.0])
    assert np.diff(times_s).min() > MIN_ACCENT_GAP_S
    assert len(select_accents(np.zeros(0), envelope)[0]) == 0


@pytest.mark.legacy
@pytest.mark.timeout(1800)
@needs_madmom
def test_madmom_accents_are_at_the_times_of_clicks() -> None:
    modules_before = set(sys.modules)
    analysis = detect_accents(make_clicks(), "madmom")
    np.testing.assert_allclose(analysis.accents_s, CLICKS_S, atol=0.025)
    assert analysis.strengths.max() == 1
    assert (analysis.strengths > 0).all()
    new_modules = set(sys.modules) - modules_before
    assert not {name for name in new_modules if name.startswith("madmom.")}

"""The learned ear: it hears what is there, as its authors' network does."""

import numpy as np
import pytest

from loris_cli.array_types import Samples
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.musicnn import TAGS, embed

RATE = 22_050


def plucked() -> Samples:
    """Strings after Karplus and Strong (1983): noise through a short, lossy loop."""
    rng = np.random.default_rng(0)
    sound = np.zeros(6 * RATE)
    for k in range(12):
        period = round(RATE / (196 * 2 ** (rng.choice([0, 3, 5, 7, 10, 12]) / 12)))
        line, tone = rng.uniform(-1, 1, period), np.empty(RATE)
        for start in range(0, RATE - period, period):
            tone[start : start + period] = line
            line = 0.498 * (line + np.roll(line, 1))
        tone[start + period :] = 0
        at = k * RATE // 2
        sound[at : at + RATE] += tone[: len(sound) - at]
    samples: Samples = (0.4 * sound).astype(np.float32)
    return samples


def drummed() -> Samples:
    rng = np.random.default_rng(0)
    sound = np.zeros(6 * RATE)
    fall = np.exp(-np.arange(4000) / 700)
    for k in range(24):
        at = k * RATE // 4
        low = np.sin(2 * np.pi * 60 * np.arange(4000) / RATE) * np.exp(-np.arange(4000) / 1500)
        hit = low if k % 2 == 0 else 0.5 * rng.normal(size=4000) * fall
        sound[at : at + 4000] += hit
    samples: Samples = (0.5 * sound).astype(np.float32)
    return samples


def best(samples: Samples, n: int) -> list[str]:
    _, tags = embed(samples)
    return [TAGS[k] for k in np.argsort(-tags.mean(axis=0))[:n]]


def test_plucked_strings_are_a_guitar_and_bursts_are_drums() -> None:
    assert best(plucked(), 1) == ["guitar"]
    assert {"drums", "beat", "techno", "beats"} & set(best(drummed(), 2))
    assert "guitar" not in best(drummed(), 2)


def test_every_three_seconds_are_heard_apart() -> None:
    features, tags = embed(plucked())
    assert features.shape == (2, 200)
    assert tags.shape == (2, len(TAGS)) == (2, 50)
    assert ((tags >= 0) & (tags <= 1)).all()
    both = np.concatenate([plucked()[: 3 * RATE], drummed()[: 3 * RATE]])
    alone, together = embed(plucked())[0], embed(both)[0]
    assert np.linalg.norm(together[0] - alone[0]) < 0.2 * np.linalg.norm(together[1] - alone[1])


def test_what_is_too_short_is_refused() -> None:
    with pytest.raises(InputError, match="3 s"):
        embed(np.zeros(RATE, dtype=np.float32))

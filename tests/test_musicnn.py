"""musicnn: tags of synthetic instruments, and features of each 3 s patch."""

import numpy as np
import pytest

from loris_cli.array_types import Samples
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.musicnn import TAGS, embed

RATE = 22_050


@pytest.fixture(scope="module")
def plucked_strings() -> Samples:
    """6 s of strings by Karplus and Strong (1983): noise in a lossy delay line."""
    rng = np.random.default_rng(0)
    mix = np.zeros(6 * RATE)
    for k in range(12):
        period = round(RATE / (196 * 2 ** (rng.choice([0, 3, 5, 7, 10, 12]) / 12)))
        delay_line, tone = rng.uniform(-1, 1, period), np.empty(RATE)
        for start in range(0, RATE - period, period):
            tone[start : start + period] = delay_line
            delay_line = 0.498 * (delay_line + np.roll(delay_line, 1))
        tone[start + period :] = 0
        onset = k * RATE // 2
        mix[onset : onset + RATE] += tone[: len(mix) - onset]
    samples: Samples = (0.4 * mix).astype(np.float32)
    return samples


@pytest.fixture(scope="module")
def drum_pattern() -> Samples:
    """6 s of kicks and noise bursts, four hits per second."""
    rng = np.random.default_rng(0)
    mix = np.zeros(6 * RATE)
    times = np.arange(4000)
    for k in range(24):
        onset = k * RATE // 4
        kick = np.sin(2 * np.pi * 60 * times / RATE) * np.exp(-times / 1500)
        hit = kick if k % 2 == 0 else 0.5 * rng.normal(size=4000) * np.exp(-times / 700)
        mix[onset : onset + 4000] += hit
    samples: Samples = (0.5 * mix).astype(np.float32)
    return samples


def find_top_tags(samples: Samples, n: int) -> list[str]:
    _, tags = embed(samples)
    return [TAGS[k] for k in np.argsort(-tags.mean(axis=0))[:n]]


def test_top_tags_name_the_instrument(plucked_strings: Samples, drum_pattern: Samples) -> None:
    assert find_top_tags(plucked_strings, 1) == ["guitar"]
    drum_tags = set(find_top_tags(drum_pattern, 2))
    assert drum_tags & {"drums", "beat", "techno", "beats"}
    assert "guitar" not in drum_tags


def test_features_and_tags_have_one_row_per_3_s(plucked_strings: Samples) -> None:
    features, tags = embed(plucked_strings)
    assert features.shape == (2, 200)
    assert tags.shape == (2, len(TAGS)) == (2, 50)
    assert ((tags >= 0) & (tags <= 1)).all()


def test_features_of_a_patch_depend_on_its_own_3_s(
    plucked_strings: Samples, drum_pattern: Samples
) -> None:
    mixed = np.concatenate([plucked_strings[: 3 * RATE], drum_pattern[: 3 * RATE]])
    changes = np.linalg.norm(embed(mixed)[0] - embed(plucked_strings)[0], axis=1)
    assert changes[0] < 0.2 * changes[1]


def test_audio_shorter_than_3_s_is_rejected() -> None:
    with pytest.raises(InputError, match=r"\b3 s\b"):
        embed(np.zeros(RATE, dtype=np.float32))

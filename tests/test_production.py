"""Production as a condition: settings of training pieces as numbers."""

from pathlib import Path

import numpy as np
import pytest
from builders import make_clip, write_clip

from loris_cli.array_types import Array
from loris_cli.composition.mastering import MasteringSettings
from loris_cli.composition.mix import MixSettings
from loris_cli.composition.production import (
    NEUTRAL_PRODUCTION,
    PRODUCTION_CHANNELS,
    describe_production,
)
from loris_cli.composition.synthesis import describe_training_piece
from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER
from loris_cli.dataset.read_clips import read_annotations
from loris_cli.errors import InputError


def test_productions_of_training_pieces_are_in_range_and_differ() -> None:
    vectors = np.stack(
        [describe_training_piece(seed, DEFAULT_SYNTHESIZER) for seed in range(200)]
    )
    assert vectors.shape == (200, PRODUCTION_CHANNELS)
    assert np.abs(vectors).max() <= 1
    assert (vectors[:, :2] == 1).all()
    assert (vectors[:, 2:].std(axis=0) > 0.1).all()


def test_neutral_production_is_that_of_default_settings() -> None:
    vector = describe_production(MixSettings(), MasteringSettings(), bundled_soundfont=True)
    np.testing.assert_array_equal(vector, NEUTRAL_PRODUCTION)
    assert vector[:4].tolist() == [1, 1, 0.5, 0.5]
    assert not vector[4:].any()


def test_production_has_the_settings_of_mastering() -> None:
    mastering = MasteringSettings(
        equalizer_db=np.array([8.0, 0, 0, 0, 0, 0, -4.0]),
        ratio=4.0,
        threshold_db=-3.0,
        drive=1.5,
    )
    vector = describe_production(MixSettings(), mastering, bundled_soundfont=False)
    assert vector[1] == 0
    np.testing.assert_allclose(vector[5:], [1, 0, 0, 0, 0, 0, -0.5, 0.75, -0.5, 1])


def test_production_of_a_clip_is_read_from_its_rhythm_file(tmp_path: Path) -> None:
    clip = make_clip("a")
    write_clip(tmp_path, clip, np.zeros(44_100), np.array([1.0]))
    assert read_annotations(tmp_path, clip).production is None
    write_clip(tmp_path, clip, np.zeros(44_100), np.array([1.0]), production=NEUTRAL_PRODUCTION)
    production = read_annotations(tmp_path, clip).production
    assert production is not None
    np.testing.assert_array_equal(production, NEUTRAL_PRODUCTION)


@pytest.mark.parametrize(
    "damaged",
    [np.zeros(3), np.zeros((PRODUCTION_CHANNELS, 1)), np.full(PRODUCTION_CHANNELS, np.nan)],
    ids=["short", "matrix", "nan"],
)
def test_damaged_production_is_an_input_error(tmp_path: Path, damaged: Array) -> None:
    clip = make_clip("a")
    write_clip(tmp_path, clip, np.zeros(44_100), np.array([1.0]), production=damaged)
    with pytest.raises(InputError):
        read_annotations(tmp_path, clip)

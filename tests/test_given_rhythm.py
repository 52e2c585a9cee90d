"""Experiment on given rhythm: comparable Fréchet distances."""

import numpy as np
import pytest
from given_rhythm import mean_frechet_distance

from loris_cli.evaluation.metrics.frechet import fit_gaussian


def test_frechet_distance_does_not_depend_on_the_number_of_seeds() -> None:
    """Takes of several seeds in one set would have a smaller bias: here 0.6 times as large."""
    rng = np.random.default_rng(0)

    def draw_takes(n_seeds: int) -> list[list[np.ndarray]]:
        takes = rng.normal(size=(40, n_seeds, 16, 2)).astype(np.float32)
        return [list(clip) for clip in takes]

    reference = fit_gaussian(take for [take] in draw_takes(1) * 20)
    single = [mean_frechet_distance(draw_takes(1), reference) for _ in range(20)]
    triple = [mean_frechet_distance(draw_takes(3), reference) for _ in range(20)]
    assert np.mean(triple) == pytest.approx(np.mean(single), rel=0.1)

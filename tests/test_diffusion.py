"""The diffusion against cases with known answers."""

import math

import pytest
import torch

from loris_cli.diffusion import karras_sigmas, loss, precondition, sample_dpmpp_2m, scalings

SIGMA_DATA = 0.5


def ideal(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The posterior mean where the data are N(0, SIGMA_DATA**2)."""
    return x * SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2)


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        # From a run of the released code at sigma_data 0.1.
        (0.1, (0.5, 0.0707107, 7.071068, -0.575646, 200)),
        (0.01, (0.990099, 0.009950, 9.950373, -1.151293, 10100)),
        (1.0, (0.009901, 0.099504, 0.995037, 0, 101)),
        (3.0, (0.001110, 0.099944, 0.333148, 0.274653, 100.1111)),
    ],
)
def test_scalings_are_those_of_the_released_code(
    sigma: float, expected: tuple[float, ...]
) -> None:
    found = [float(value) for value in scalings(torch.tensor([sigma]), 0.1)]

    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_schedule_is_that_of_the_released_code() -> None:
    sigmas = karras_sigmas(50, sigma_min=1e-4, sigma_max=3.0, rho=9.0).tolist()

    assert [sigmas[i] for i in (0, 1, 10, 25, 40, 48, 49, 50)] == pytest.approx(
        [3, 2.644502, 0.778742, 0.063952, 0.0019847, 1.47019e-4, 1e-4, 0], rel=1e-4
    )


def test_a_perfect_network_has_no_loss() -> None:
    clean = torch.zeros(4, 2, 16)

    def network(x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        scale = scalings((4 * c_noise).exp(), SIGMA_DATA)
        noisy = x / scale.c_in[:, None, None]
        return -(scale.c_skip / scale.c_out)[:, None, None] * noisy

    value = loss(
        network,
        clean,
        noise=torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)),
        sigma=torch.tensor([0.1, 0.4, 1.0, 3.0]),
        sigma_data=SIGMA_DATA,
    )

    assert float(value) == pytest.approx(0, abs=1e-8)


def test_a_silent_network_passes_the_signal_where_there_is_no_noise() -> None:
    x = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(0))

    seen = precondition(lambda a, b: torch.zeros_like(a), x, torch.tensor([1e-6]), SIGMA_DATA)

    torch.testing.assert_close(seen, x)


def relative_error(n_steps: int) -> float:
    sigma_max = 20.0
    noise = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(1)).double()
    x = noise * sigma_max
    sigmas = karras_sigmas(n_steps, sigma_min=0.05, sigma_max=sigma_max, rho=7.0)[:-1]
    sample = sample_dpmpp_2m(ideal, x, sigmas)
    # The probability-flow ODE has the closed form x(s') = x(s) hypot(sd, s') / hypot(sd, s).
    exact = x * math.hypot(SIGMA_DATA, 0.05) / math.hypot(SIGMA_DATA, sigma_max)
    return float((sample / exact - 1).abs().max())


def test_dpm_solver_lands_on_the_exact_solution() -> None:
    assert relative_error(200) < 2e-3


def test_dpm_solver_is_second_order() -> None:
    assert relative_error(20) / relative_error(80) > 4**1.6


def test_the_last_step_is_the_denoised_signal() -> None:
    sigmas = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)

    sample = sample_dpmpp_2m(lambda x, sigma: torch.full_like(x, sigma), torch.ones(1), sigmas)

    assert sample.tolist() == [1.0]

"""Diffusion: preconditioning, schedules and samplers with closed forms and golden numbers."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch

from loris_cli.config import SamplerName
from loris_cli.models.diffusion import (
    ancestral_step,
    compute_scalings,
    denoising_loss,
    draw_sample,
    guidance_sigmas,
    karras_sigmas,
    precondition,
    sample_adpm2,
    sample_dpmpp_2m,
    sample_euler,
    sample_heun,
)
from loris_cli.soundtrack.window_layout import count_evaluations

SIGMA_DATA = 0.5


def denoise_gaussian(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Posterior mean for data distributed as N(0, SIGMA_DATA**2)."""
    return x * SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2)


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        # Output of the released code for sigma_data 0.1.
        (0.1, (0.5, 0.0707107, 7.071068, -0.575646, 200)),
        (0.01, (0.990099, 0.009950, 9.950373, -1.151293, 10100)),
        (1.0, (0.009901, 0.099504, 0.995037, 0, 101)),
        (3.0, (0.001110, 0.099944, 0.333148, 0.274653, 100.1111)),
    ],
)
def test_scalings_equal_those_of_the_released_code(
    sigma: float, expected: tuple[float, ...]
) -> None:
    scalings = [float(value) for value in compute_scalings(torch.tensor([sigma]), 0.1)]

    assert scalings == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_karras_schedule_equals_that_of_the_released_code() -> None:
    sigmas = karras_sigmas(50, sigma_min=1e-4, sigma_max=3.0, rho=9.0).tolist()

    assert [sigmas[i] for i in (0, 1, 10, 25, 40, 48, 49, 50)] == pytest.approx(
        [3, 2.644502, 0.778742, 0.063952, 0.0019847, 1.47019e-4, 1e-4, 0], rel=1e-4
    )


def test_loss_of_a_perfect_network_is_zero() -> None:
    clean = torch.zeros(4, 2, 16)

    def network(x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        scale = compute_scalings((4 * c_noise).exp(), SIGMA_DATA)
        noisy = x / scale.c_in[:, None, None]
        return -(scale.c_skip / scale.c_out)[:, None, None] * noisy

    value = denoising_loss(
        network,
        clean,
        noise=torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)),
        sigma=torch.tensor([0.1, 0.4, 1.0, 3.0]),
        sigma_data=SIGMA_DATA,
    )

    assert float(value) == pytest.approx(0, abs=1e-8)


def test_preconditioning_with_zero_network_returns_a_clean_signal() -> None:
    x = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(0))

    denoised = precondition(
        lambda x, c_noise: torch.zeros_like(x), x, torch.tensor([1e-6]), SIGMA_DATA
    )

    torch.testing.assert_close(denoised, x)


def test_last_step_of_dpm_solver_returns_the_denoised_signal() -> None:
    sigmas = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)

    sample = sample_dpmpp_2m(lambda x, sigma: torch.full_like(x, sigma), torch.ones(1), sigmas)

    assert sample.tolist() == [1.0]


Sampler = Callable[..., torch.Tensor]
SIGMA_MIN, SIGMA_MAX = 0.05, 20.0


def make_sigmas(n_steps: int) -> torch.Tensor:
    """Noise levels that end at SIGMA_MIN, without the final 0."""
    return karras_sigmas(n_steps, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, rho=7.0)[:-1]


def compute_ode_error(sampler: Sampler, n_steps: int) -> float:
    """Relative error of an ODE sampler for Gaussian data.

    The probability-flow ODE has the closed form x(s') = x(s) hypot(sd, s') / hypot(sd, s). It
    is linear in x, so one value is enough.
    """
    x = torch.full((1, 1, 1), SIGMA_MAX, dtype=torch.float64)
    exact = x * math.hypot(SIGMA_DATA, SIGMA_MIN) / math.hypot(SIGMA_DATA, SIGMA_MAX)
    return float((sampler(denoise_gaussian, x, make_sigmas(n_steps)) / exact - 1).abs())


@pytest.mark.parametrize(
    ("sampler", "order", "max_error"),
    [(sample_euler, 1, 0.01), (sample_heun, 2, 1e-4), (sample_dpmpp_2m, 2, 1e-4)],
)
def test_ode_samplers_converge_with_their_order(
    sampler: Sampler, order: int, max_error: float
) -> None:
    coarse, fine = compute_ode_error(sampler, 80), compute_ode_error(sampler, 320)
    assert 4 ** (order - 0.3) < coarse / fine < 4 ** (order + 0.5)
    assert fine < max_error


def compute_variance_error(sampler: Sampler, n_steps: int) -> float:
    """Relative error of the variance of a stochastic sampler for Gaussian data.

    The sample is linear in the start and in the noise of each step. Its variance is therefore
    the sum of the squared responses to each of them, without random numbers. The responses are
    computed in one batch.
    """
    n_draws = 0

    def draw_impulse(x: torch.Tensor) -> torch.Tensor:
        nonlocal n_draws
        n_draws += 1
        return torch.eye(n_steps, dtype=torch.float64)[n_draws]

    x = SIGMA_MAX * torch.eye(n_steps, dtype=torch.float64)[0]
    responses = sampler(denoise_gaussian, x, make_sigmas(n_steps), noise_sampler=draw_impulse)
    assert n_draws == n_steps - 1
    variance = float(responses.square().sum())
    return abs(variance / (SIGMA_DATA**2 + SIGMA_MIN**2) - 1)


@pytest.mark.parametrize(
    ("sampler", "order"), [(sample_euler, 1), (sample_adpm2, 2), (sample_dpmpp_2m, 2)]
)
def test_variance_of_stochastic_samplers_converges_with_their_order(
    sampler: Sampler, order: int
) -> None:
    coarse, fine = (compute_variance_error(sampler, n_steps) for n_steps in (40, 160))
    assert coarse / fine > 4 ** (order - 0.5)
    assert fine < 0.2


def test_ancestral_step_preserves_the_variance() -> None:
    down, up = ancestral_step(3.0, 2.644502)
    assert [down, up] == pytest.approx([2.331130, 1.248688], rel=1e-6)
    assert down**2 + up**2 == pytest.approx(2.644502**2)


def test_adpm2_sample_equals_that_of_the_released_code() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 2, 8, generator=generator)
    sigmas = karras_sigmas(10, sigma_min=1e-4, sigma_max=3.0, rho=9.0)[:-1].float()

    sample = sample_adpm2(
        lambda x, sigma: x * 0.01 / (0.01 + sigma**2),
        noise * sigmas[0],
        sigmas,
        noise_sampler=lambda x: torch.randn(x.shape, generator=generator),
    )

    expected = [
        -0.096194,
        0.075557,
        0.091428,
        0.111334,
        -0.079716,
        0.099138,
        0.040505,
        0.035614,
        -0.12598,
        0.088913,
        -0.016313,
        0.151444,
        -0.146837,
        0.054233,
        0.079439,
        -0.011785,
    ]
    assert sample.flatten().tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("sampler", [sample_euler, sample_adpm2, sample_dpmpp_2m])
def test_last_step_to_sigma_zero_draws_no_noise(sampler: Sampler) -> None:
    sigmas = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    n_draws = 0

    def draw_zeros(x: torch.Tensor) -> torch.Tensor:
        nonlocal n_draws
        n_draws += 1
        return torch.zeros_like(x)

    sample = sampler(
        lambda x, sigma: torch.full_like(x, 3.0),
        torch.ones(2).double(),
        sigmas,
        noise_sampler=draw_zeros,
    )

    assert n_draws == 1
    assert sample.tolist() == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("name", get_args(SamplerName))
def test_named_sampler_has_the_data_variance_and_the_counted_evaluations(
    name: SamplerName,
) -> None:
    n_calls = 0

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        nonlocal n_calls
        n_calls += 1
        return denoise_gaussian(x, sigma)

    rng = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(1, 1, 4096, generator=rng)

    def draw_noise(x: torch.Tensor) -> torch.Tensor:
        return torch.randn(x.shape, generator=rng)

    sample = draw_sample(
        name,
        denoise,
        x,
        karras_sigmas(50, sigma_min=1e-4, sigma_max=3.0, rho=7.0),
        noise_sampler=draw_noise,
    )

    assert n_calls == count_evaluations(name, 50)
    assert float(sample.std()) == pytest.approx(SIGMA_DATA, rel=0.15)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("adpm2", 98), ("heun", 99), ("euler", 50), ("dpmpp-2m", 50)],
)
def test_number_of_evaluations_for_50_steps(name: SamplerName, expected: int) -> None:
    assert count_evaluations(name, 50) == expected


def test_guidance_interval_is_given_in_noise_levels_of_the_schedule() -> None:
    sigmas = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.0])
    assert guidance_sigmas(sigmas, (0.0, 1.0)) == (0.0, 8.0)
    assert guidance_sigmas(sigmas, (0.25, 0.75)) == (1.0, 4.0)
    assert guidance_sigmas(sigmas, (0.3, 0.7)) == (1.0, 4.0)


@pytest.mark.parametrize("clamp_limit", [1.0, math.inf])
def test_denoised_signal_is_clamped_before_the_loss(clamp_limit: float) -> None:
    clean = torch.ones(1, 2, 16)

    loss = denoising_loss(
        lambda x, c_noise: torch.full_like(x, 1e3),
        clean,
        noise=torch.zeros(1, 2, 16),
        sigma=torch.ones(1),
        sigma_data=0.1,
        clamp_limit=clamp_limit,
    )

    assert (float(loss) == 0) == (clamp_limit == 1)
    assert (float(loss) > 1e3) == (clamp_limit == math.inf)

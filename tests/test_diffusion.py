"""The diffusion against cases with known answers."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch

from loris_cli.models import diffusion
from loris_cli.models.diffusion import (
    ancestral_step,
    compute_scalings,
    count_evaluations,
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
    found = [float(value) for value in compute_scalings(torch.tensor([sigma]), 0.1)]

    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_schedule_is_that_of_the_released_code() -> None:
    sigmas = karras_sigmas(50, sigma_min=1e-4, sigma_max=3.0, rho=9.0).tolist()

    assert [sigmas[i] for i in (0, 1, 10, 25, 40, 48, 49, 50)] == pytest.approx(
        [3, 2.644502, 0.778742, 0.063952, 0.0019847, 1.47019e-4, 1e-4, 0], rel=1e-4
    )


def test_a_perfect_network_has_no_loss() -> None:
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


def test_a_silent_network_passes_the_signal_where_there_is_no_noise() -> None:
    x = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(0))

    denoised = precondition(
        lambda a, b: torch.zeros_like(a), x, torch.tensor([1e-6]), SIGMA_DATA
    )

    torch.testing.assert_close(denoised, x)


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


def steps(n_steps: int) -> torch.Tensor:
    return karras_sigmas(n_steps, sigma_min=0.05, sigma_max=20.0, rho=7.0)[:-1]


Sampler = Callable[..., torch.Tensor]


def ode_error(sampler: Sampler, n_steps: int) -> float:
    """How far a sampler of the ODE ends from its closed form."""
    x = torch.full((1, 1, 1), 20.0, dtype=torch.float64)
    exact = x * math.hypot(SIGMA_DATA, 0.05) / math.hypot(SIGMA_DATA, 20.0)
    return float((sampler(ideal, x, steps(n_steps)) / exact - 1).abs())


@pytest.mark.parametrize(
    ("sampler", "order"), [(sample_euler, 1), (sample_heun, 2), (sample_dpmpp_2m, 2)]
)
def test_samplers_of_the_ode_are_of_their_order(sampler: Sampler, order: int) -> None:
    coarse, fine = ode_error(sampler, 80), ode_error(sampler, 320)
    assert 4 ** (order - 0.3) < coarse / fine < 4 ** (order + 0.5)
    assert fine < 0.05


def variance_error(sampler: Sampler, n_steps: int) -> float:
    """How far a sampler with fresh noise is from the variance of Gaussian data.

    All is linear in start and noise, so the variance is the sum of the squares of what each of
    them alone leads to: no drawing is needed.
    """
    levels = steps(n_steps)

    def response(impulse: int | None) -> float:
        drawn = 0

        def draw(x: torch.Tensor) -> torch.Tensor:
            nonlocal drawn
            drawn += 1
            return torch.ones_like(x) if drawn - 1 == impulse else torch.zeros_like(x)

        start = 20.0 if impulse is None else 0.0
        x = torch.full((1,), start, dtype=torch.float64)
        return float(sampler(ideal, x, levels, noise_sampler=draw))

    impulses = [None, *range(n_steps - 1)]
    variance = sum(response(impulse) ** 2 for impulse in impulses)
    return abs(variance / (SIGMA_DATA**2 + 0.05**2) - 1)


@pytest.mark.parametrize(
    ("sampler", "order"), [(sample_euler, 1), (sample_adpm2, 2), (sample_dpmpp_2m, 2)]
)
def test_samplers_with_fresh_noise_are_of_their_order(sampler: Sampler, order: int) -> None:
    coarse, fine = variance_error(sampler, 40), variance_error(sampler, 160)
    assert coarse / fine > 4 ** (order - 0.5)
    assert fine < 0.2


def test_an_ancestral_step_keeps_the_variance() -> None:
    down, up = ancestral_step(3.0, 2.644502)
    assert [down, up] == pytest.approx([2.331130, 1.248688], rel=1e-6)
    assert down**2 + up**2 == pytest.approx(2.644502**2)


def test_the_papers_sampler_gives_what_the_released_code_gives() -> None:
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
def test_a_zero_at_the_end_is_reached_without_noise(sampler: Sampler) -> None:
    sigmas = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    drawn: list[int] = []

    def draw(x: torch.Tensor) -> torch.Tensor:
        drawn.append(1)
        return torch.zeros_like(x)

    sample = sampler(
        lambda x, sigma: torch.full_like(x, 3.0),
        torch.ones(2).double(),
        sigmas,
        noise_sampler=draw,
    )

    assert len(drawn) == 1
    assert sample.tolist() == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("name", get_args(diffusion.SamplerName))
def test_a_sampler_is_found_by_its_name_and_costs_what_is_told(
    name: diffusion.SamplerName,
) -> None:
    n_calls = 0

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        nonlocal n_calls
        n_calls += 1
        return ideal(x, sigma)

    rng = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(1, 1, 4096, generator=rng)

    def draw(x: torch.Tensor) -> torch.Tensor:
        return torch.randn(x.shape, generator=rng)

    sample = draw_sample(
        name,
        denoise,
        x,
        karras_sigmas(50, sigma_min=1e-4, sigma_max=3.0, rho=7.0),
        noise_sampler=draw,
    )

    assert n_calls == count_evaluations(name, 50)
    assert float(sample.std()) == pytest.approx(SIGMA_DATA, rel=0.15)
    assert count_evaluations("adpm2", 50) == 98  # 49 transitions of two


def test_the_middle_of_a_schedule_lies_between_its_levels() -> None:
    sigmas = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.0])
    assert guidance_sigmas(sigmas, (0.0, 1.0)) == (0.0, 8.0)
    assert guidance_sigmas(sigmas, (0.25, 0.75)) == (1.0, 4.0)
    assert guidance_sigmas(sigmas, (0.3, 0.7)) == (1.0, 4.0)


def test_what_is_seen_is_clamped_before_it_is_judged() -> None:
    clean, nothing = torch.ones(1, 2, 16), torch.zeros(1, 2, 16)

    def loud(x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, 1e3)

    arguments = {"noise": nothing, "sigma": torch.ones(1), "sigma_data": 0.1}
    assert float(denoising_loss(loud, clean, clamp_limit=1.0, **arguments)) == 0  # type: ignore[arg-type]
    assert float(denoising_loss(loud, clean, **arguments)) > 1e3  # type: ignore[arg-type]

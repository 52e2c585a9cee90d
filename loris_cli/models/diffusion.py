"""Diffusion after Karras et al. (2022), "Elucidating the Design Space": loss and samplers.

All functions share one contract, ``denoise(x, sigma) -> clean signal estimated from x at that
noise level``. Samplers are plain functions over it; the preconditioning of a network into it
exists once.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]
NoiseSampler = Callable[[Tensor], Tensor]
"""Draws standard normal noise shaped like its argument."""
RawNetwork = Callable[[Tensor, Tensor], Tensor]
SamplerName = Literal["adpm2", "heun", "euler", "euler-ancestral", "dpmpp-2m", "dpmpp-2m-sde"]


class Scalings(NamedTuple):
    """Scalings around the raw network (Karras et al., Table 1, column "Ours")."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor
    loss_weight: Tensor


def compute_scalings(sigma: Tensor, sigma_data: float) -> Scalings:
    """Return preconditioning and loss weight of noise levels (LORIS Eq. 14 to 17).

    Args:
        sigma: noise levels, any shape.
        sigma_data: standard deviation of the clean signal.
    """
    total = sigma**2 + sigma_data**2
    return Scalings(
        c_skip=sigma_data**2 / total,
        c_out=sigma * sigma_data * total.rsqrt(),
        c_in=total.rsqrt(),
        c_noise=sigma.log() / 4,
        loss_weight=total / (sigma * sigma_data) ** 2,
    )


def precondition(network: RawNetwork, x: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """Return the clean signal that a raw network estimates from a noisy one (LORIS Eq. 13).

    Args:
        network: F of ``(scaled x, c_noise)``.
        x: ``(batch, channels, frames)``.
        sigma: noise level of each, ``(batch,)``.
        sigma_data: standard deviation of the clean signal.
    """
    scale = compute_scalings(sigma, sigma_data)
    c_skip, c_out, c_in = (c[:, None, None] for c in scale[:3])
    return c_skip * x + c_out * network(c_in * x, scale.c_noise)


def denoising_loss(
    network: RawNetwork,
    clean: Tensor,
    *,
    noise: Tensor,
    sigma: Tensor,
    sigma_data: float,
    clamp_limit: float = math.inf,
) -> Tensor:
    """Return the weighted denoising error (LORIS Eq. 12), a scalar.

    Args:
        network: F of ``(scaled x, c_noise)``.
        clean: ``(batch, channels, frames)``.
        noise: standard normal, shaped like ``clean``.
        sigma: noise level of each, ``(batch,)``.
        sigma_data: standard deviation of ``clean``.
        clamp_limit: the estimate is clamped to this on both sides.
    """
    denoised = precondition(network, clean + sigma[:, None, None] * noise, sigma, sigma_data)
    error = (denoised.clamp(-clamp_limit, clamp_limit) - clean).square().mean(dim=(1, 2))
    return (compute_scalings(sigma, sigma_data).loss_weight * error).mean()


def karras_sigmas(n_steps: int, *, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """Return falling noise levels (Karras et al., Eq. 5) and a zero.

    Args:
        n_steps: number of levels above zero, at least 2.
        sigma_min: the last of them.
        sigma_max: the first of them.
        rho: the larger, the more of them lie near ``sigma_min``.

    Returns:
        ``(n_steps + 1,)`` float64, strictly falling to 0.
    """
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    ramp = torch.linspace(*ends, n_steps, dtype=torch.float64)
    return torch.cat([ramp**rho, torch.zeros(1, dtype=torch.float64)])


def sample_dpmpp_2m(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise_sampler: NoiseSampler | None = None
) -> Tensor:
    """Sample by DPM-Solver++(2M) (Lu et al., 2022, Alg. 2, and SDE-DPM-Solver++(2M)).

    Second order at one evaluation a step, for data-prediction; the first step and the
    last, to zero, are first order. With a noise sampler it solves the reverse-time SDE, whose
    noise corrects errors of earlier steps; without one, the probability-flow ODE.

    Args:
        denoise: the contract.
        x: noise of standard deviation ``sigmas[0]``.
        sigmas: falling levels that end in 0, ``(steps + 1,)``.
        noise_sampler: source of the noise of the SDE; None solves the ODE.

    Returns:
        The sample, shaped like ``x``.
    """
    eta = 0 if noise_sampler is None else 1
    old_h, old_denoised = 0.0, x
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)  # step in log signal-to-noise
        estimate = denoised
        if i:  # the line through the last two, half a step on
            r = old_h / h
            estimate = (1 + 1 / (2 * r)) * denoised - old_denoised / (2 * r)
        x = sigma_next / sigma * math.exp(-eta * h) * x - math.expm1(-(1 + eta) * h) * estimate
        if noise_sampler is not None:
            x = x + sigma_next * math.sqrt(-math.expm1(-2 * h)) * noise_sampler(x)
        old_h, old_denoised = h, denoised
    return x


def sample_euler(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise_sampler: NoiseSampler | None = None
) -> Tensor:
    """Sample by Euler's method (Karras et al., Alg. 1, its first half), one evaluation a step.

    First order. With a noise sampler each step is ancestral: it goes further down and adds
    noise. Arguments as for `sample_dpmpp_2m`.
    """
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        sigma_down, sigma_up = sigma_next, 0.0
        if noise_sampler is not None:
            sigma_down, sigma_up = ancestral_step(sigma, sigma_next)
        d = (x - denoise(x, sigma)) / sigma
        x = x + (sigma_down - sigma) * d
        if noise_sampler is not None and sigma_up:
            x = x + sigma_up * noise_sampler(x)
    return x


def sample_heun(denoise: Denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    """Sample by Heun's method on the probability-flow ODE (Karras et al., Alg. 1).

    Second order, two evaluations a step but the last. audio-diffusion-pytorch 0.0.43 has a
    sampler of this name whose second half steps from the wrong level. Arguments as for
    `sample_dpmpp_2m`.
    """
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        d = (x - denoise(x, sigma)) / sigma
        x_2 = x + (sigma_next - sigma) * d
        if sigma_next > 0:
            d = (d + (x_2 - denoise(x_2, sigma_next)) / sigma_next) / 2
            x_2 = x + (sigma_next - sigma) * d
        x = x_2
    return x


def ancestral_step(sigma: float, sigma_next: float) -> tuple[float, float]:
    """Return the level a step goes down to, and the noise that leads back to ``sigma_next``."""
    sigma_up = math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2)
    return math.sqrt(sigma_next**2 - sigma_up**2), sigma_up


def sample_adpm2(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise_sampler: NoiseSampler
) -> Tensor:
    """Sample by the paper's DPM-Solver-2 with noise after each step (App. B; fact 6).

    Two evaluations a step. The released code makes 49 steps from 50 levels and stops at the
    last of them, which is above zero (M14): give it the levels without the zero.

    Args:
        denoise: the contract.
        x: noise of standard deviation ``sigmas[0]``.
        sigmas: falling levels; a zero at the end is reached by a step of Euler's.
        noise_sampler: source of the noise of each step.
    """
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next)
        d = (x - denoise(x, sigma)) / sigma
        if sigma_next == 0:
            x = x - sigma * d
            return x
        sigma_mid = (sigma + sigma_down) / 2
        x_mid = x + (sigma_mid - sigma) * d
        d = (x_mid - denoise(x_mid, sigma_mid)) / sigma_mid
        x = x + (sigma_down - sigma) * d + sigma_up * noise_sampler(x)
    return x


SAMPLERS: dict[SamplerName, tuple[Callable[..., Tensor], bool]] = {
    "adpm2": (sample_adpm2, True),
    "heun": (sample_heun, False),
    "euler": (sample_euler, False),
    "euler-ancestral": (sample_euler, True),
    "dpmpp-2m": (sample_dpmpp_2m, False),
    "dpmpp-2m-sde": (sample_dpmpp_2m, True),
}
"""Function of each sampler, and whether it adds noise."""


def draw_sample(
    sampler: SamplerName,
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: NoiseSampler,
) -> Tensor:
    """Turn noise into a sample by a named method.

    Args:
        sampler: name of the method.
        denoise: the contract.
        x: noise of standard deviation ``sigmas[0]``.
        sigmas: falling levels that end in 0, ``(steps + 1,)``; ``adpm2`` stops before it.
        noise_sampler: source of noise, for the methods that add some.
    """
    function, adds_noise = SAMPLERS[sampler]
    levels = sigmas[:-1] if sampler == "adpm2" else sigmas
    options = {"noise_sampler": noise_sampler} if adds_noise else {}
    return function(denoise, x, levels, **options)


def count_evaluations(sampler: SamplerName, n_steps: int) -> int:
    """Return how often `draw_sample` calls ``denoise`` in ``n_steps`` steps."""
    return {"adpm2": 2 * (n_steps - 1), "heun": 2 * n_steps - 1}.get(sampler, n_steps)


def guidance_sigmas(sigmas: Tensor, interval: tuple[float, float]) -> tuple[float, float]:
    """Return the lowest and the highest noise level of an interval of a schedule.

    Args:
        sigmas: falling levels that end in 0, ``(steps + 1,)``.
        interval: its start and end, as fractions of the steps, 0..1.
    """
    last, (start, end) = len(sigmas) - 2, interval
    low = 0.0 if end >= 1 else float(sigmas[math.ceil(end * last)])
    return low, float(sigmas[math.floor(start * last)])

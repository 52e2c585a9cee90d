"""Diffusion loss and samplers after Karras et al. (2022), "Elucidating the Design Space".

All samplers take a denoiser: ``denoise(x, sigma)`` returns the clean signal estimated from
``x`` at noise level ``sigma``. `precondition` turns a raw network into a denoiser.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from loris_cli.config import SamplerName

Denoiser = Callable[[Tensor, float], Tensor]
NoiseSampler = Callable[[Tensor], Tensor]
"""Function that returns standard normal noise shaped like its argument."""
RawNetwork = Callable[[Tensor, Tensor], Tensor]


class Scalings(NamedTuple):
    """Preconditioning factors and loss weight (Karras et al., Table 1, column "Ours")."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor
    loss_weight: Tensor


def compute_scalings(sigma: Tensor, sigma_data: float) -> Scalings:
    """Return the preconditioning factors and loss weight of noise levels (LORIS Eq. 14 to 17).

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
    """Return the clean signal estimated by a preconditioned network (LORIS Eq. 13).

    Args:
        network: raw network F, called with ``(c_in * x, c_noise)``.
        x: noisy signal, ``(batch, channels, frames)``.
        sigma: noise level of each example, ``(batch,)``.
        sigma_data: standard deviation of the clean signal.

    Returns:
        ``(batch, channels, frames)``
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
    """Return the weighted denoising loss (LORIS Eq. 12), a scalar.

    Args:
        network: raw network F, called with ``(c_in * x, c_noise)``.
        clean: clean signal, ``(batch, channels, frames)``.
        noise: standard normal noise, shaped like ``clean``.
        sigma: noise level of each example, ``(batch,)``.
        sigma_data: standard deviation of ``clean``.
        clamp_limit: the estimate is clamped to ``[-clamp_limit, clamp_limit]``.
    """
    denoised = precondition(network, clean + sigma[:, None, None] * noise, sigma, sigma_data)
    error = (denoised.clamp(-clamp_limit, clamp_limit) - clean).square().mean(dim=(1, 2))
    return (compute_scalings(sigma, sigma_data).loss_weight * error).mean()


def karras_sigmas(n_steps: int, *, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """Return decreasing noise levels, followed by zero (Karras et al., Eq. 5).

    Args:
        n_steps: number of nonzero levels, at least 2.
        sigma_min: lowest nonzero level.
        sigma_max: highest level.
        rho: exponent of the schedule; larger values place more levels near ``sigma_min``.

    Returns:
        ``(n_steps + 1,)`` float64, strictly decreasing to 0.
    """
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    ramp = torch.linspace(*ends, n_steps, dtype=torch.float64)
    return torch.cat([ramp**rho, torch.zeros(1, dtype=torch.float64)])


def sample_dpmpp_2m(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise_sampler: NoiseSampler | None = None
) -> Tensor:
    """Sample with DPM-Solver++(2M) (Lu et al., 2022, Alg. 2) or SDE-DPM-Solver++(2M).

    Second order with one evaluation per step, for data prediction; the first step and the last
    step, to zero, are first order. With a noise sampler it solves the reverse-time SDE, where
    the added noise corrects errors of earlier steps. Without one it solves the probability-flow
    ODE.

    Args:
        denoise: denoiser, see the module docstring.
        x: initial noise of standard deviation ``sigmas[0]``.
        sigmas: decreasing noise levels that end in 0, ``(steps + 1,)``.
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
        h = math.log(sigma / sigma_next)  # step in half log-SNR
        estimate = denoised
        if i:  # extrapolate the last two estimates by half a step
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
    """Sample with Euler's method (Karras et al., Alg. 1 without the correction step).

    First order, one evaluation per step. With a noise sampler the steps are ancestral: each
    goes to a lower noise level and then adds noise. Arguments as for `sample_dpmpp_2m`.
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
    """Sample with Heun's method on the probability-flow ODE (Karras et al., Alg. 1).

    Second order, two evaluations per step except the last. The sampler of the same name in
    audio-diffusion-pytorch 0.0.43 uses the wrong step size in its correction. Arguments as for
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
    """Return ``(sigma_down, sigma_up)`` of an ancestral step.

    The step goes from ``sigma`` to ``sigma_down``; added noise of standard deviation
    ``sigma_up`` then raises the noise level to ``sigma_next``.
    """
    sigma_up = math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2)
    return math.sqrt(sigma_next**2 - sigma_up**2), sigma_up


def sample_adpm2(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise_sampler: NoiseSampler
) -> Tensor:
    """Sample with ancestral DPM-Solver-2, the sampler of the released code.

    Two evaluations per step. The released code makes 49 steps from 50 levels and stops at the
    last level, which is above zero (docs/differences.md, M14). To reproduce it, pass the levels
    without the final zero.

    Args:
        denoise: denoiser, see the module docstring.
        x: initial noise of standard deviation ``sigmas[0]``.
        sigmas: decreasing noise levels; a final zero is reached with an Euler step.
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
"""Function of each sampler, and whether it takes a noise sampler."""


def draw_sample(
    sampler: SamplerName,
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: NoiseSampler,
) -> Tensor:
    """Draw a sample with a named sampler.

    Args:
        sampler: name of the sampler.
        denoise: denoiser, see the module docstring.
        x: initial noise of standard deviation ``sigmas[0]``.
        sigmas: decreasing noise levels that end in 0, ``(steps + 1,)``; ``adpm2`` stops at the
            last nonzero level.
        noise_sampler: source of noise for stochastic samplers.
    """
    function, adds_noise = SAMPLERS[sampler]
    levels = sigmas[:-1] if sampler == "adpm2" else sigmas
    options = {"noise_sampler": noise_sampler} if adds_noise else {}
    return function(denoise, x, levels, **options)


def guidance_sigmas(sigmas: Tensor, interval: tuple[float, float]) -> tuple[float, float]:
    """Return the lowest and highest noise level at which guidance is applied.

    Args:
        sigmas: decreasing noise levels that end in 0, ``(steps + 1,)``.
        interval: first and last step with guidance, as fractions of all steps, 0..1.
    """
    last, (start, end) = len(sigmas) - 2, interval
    low = 0.0 if end >= 1 else float(sigmas[math.ceil(end * last)])
    return low, float(sigmas[math.floor(start * last)])

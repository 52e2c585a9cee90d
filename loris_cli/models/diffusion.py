"""Diffusion after Karras et al. (2022), "Elucidating the Design Space"; it knows no music.

Everything speaks one contract, ``denoise(x, sigma) -> the clean signal seen in x at that
level``. Samplers are plain functions over it; the preconditioning of a network into it exists
once.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

DenoiseFunction = Callable[[Tensor, float], Tensor]
NoiseSampler = Callable[[Tensor], Tensor]
"""Gives standard normal noise shaped like its argument."""
RawNetwork = Callable[[Tensor, Tensor], Tensor]
SamplerName = Literal["adpm2", "heun", "euler", "euler-ancestral", "dpmpp-2m", "dpmpp-sde"]


class Scalings(NamedTuple):
    """Table 1, column "Ours", of the paper: what wraps the raw network."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor
    loss_weight: Tensor


def compute_scalings(sigma: Tensor, sigma_data: float) -> Scalings:
    """Preconditioning and loss weight of noise levels (LORIS Eq. 14 to 17).

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
    """The clean signal a raw network sees in a noisy one (LORIS Eq. 13).

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
    """Weighted error of denoising (LORIS Eq. 12), a scalar.

    Args:
        network: F of ``(scaled x, c_noise)``.
        clean: ``(batch, channels, frames)``.
        noise: standard normal, shaped like ``clean``.
        sigma: noise level of each, ``(batch,)``.
        sigma_data: standard deviation of ``clean``.
        clamp_limit: what is seen is clamped to this on both sides.
    """
    seen = precondition(network, clean + sigma[:, None, None] * noise, sigma, sigma_data)
    error = (seen.clamp(-clamp_limit, clamp_limit) - clean).square().mean(dim=(1, 2))
    return (compute_scalings(sigma, sigma_data).loss_weight * error).mean()


def karras_sigmas(n_steps: int, *, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """Noise levels from loud to silent, Eq. 5, and a zero.

    Args:
        n_steps: levels above zero, at least 2.
        sigma_min: the last of them.
        sigma_max: the first of them.
        rho: the larger, the more of them lie near ``sigma_min``.

    Returns:
        ``(n_steps + 1,)`` float64, strictly falling to 0.
    """
    ramp = torch.linspace(
        sigma_max ** (1 / rho), sigma_min ** (1 / rho), n_steps, dtype=torch.float64
    )
    return torch.cat([ramp**rho, torch.zeros(1, dtype=torch.float64)])


def sample_dpmpp_2m(denoise: DenoiseFunction, x: Tensor, sigmas: Tensor) -> Tensor:
    """Turn noise into a sample by DPM-Solver++(2M) (Lu et al., 2022, Alg. 2).

    Second order at one evaluation a step, for data-prediction; the first step and the
    last, to zero, are first order.

    Args:
        denoise: the contract.
        x: noise of standard deviation ``sigmas[0]``.
        sigmas: falling levels that end in 0, ``(steps + 1,)``.

    Returns:
        The sample, shaped like ``x``.
    """
    levels = sigmas.tolist()
    seen_before: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        seen = denoise(x, sigma)
        if sigma_next == 0:
            return seen
        h = math.log(sigma / sigma_next)  # step in log signal-to-noise
        guess = _extrapolate(seen, seen_before, levels[max(i - 1, 0)] / sigma, h)
        x = (sigma_next / sigma) * x - math.expm1(-h) * guess
        seen_before = seen
    return x


def _extrapolate(
    denoised: Tensor, old_denoised: Tensor | None, sigma_ratio: float, h: float
) -> Tensor:
    """The clean signal half a step on, by the line through the last two looks at it.

    Args:
        denoised: at this level.
        old_denoised: at the level before, if there was one.
        sigma_ratio: that level, in this one's.
        h: length of the coming step in log signal-to-noise.
    """
    if old_denoised is None:
        return denoised
    ratio = math.log(sigma_ratio) / h
    return (1 + 1 / (2 * ratio)) * denoised - old_denoised / (2 * ratio)


def sample_euler(denoise: DenoiseFunction, x: Tensor, sigmas: Tensor) -> Tensor:
    """Euler's method on the probability-flow ODE (Karras et al., Alg. 1, its first half).

    First order, one evaluation a step. Arguments as for `sample_dpmpp_2m`.
    """
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        slope = (x - denoise(x, sigma)) / sigma
        x = x + (sigma_next - sigma) * slope
    return x


def sample_heun(denoise: DenoiseFunction, x: Tensor, sigmas: Tensor) -> Tensor:
    """Heun's method on the probability-flow ODE (Karras et al., Alg. 1).

    Second order, two evaluations a step but the last. audio-diffusion-pytorch 0.0.43 has a
    sampler of this name whose second half steps from the wrong level. Arguments as for
    `sample_dpmpp_2m`.
    """
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        slope = (x - denoise(x, sigma)) / sigma
        guess = x + (sigma_next - sigma) * slope
        if sigma_next > 0:
            slope = (slope + (guess - denoise(guess, sigma_next)) / sigma_next) / 2
            guess = x + (sigma_next - sigma) * slope
        x = guess
    return x


def ancestral_step(sigma: float, sigma_next: float) -> tuple[float, float]:
    """How far down a step goes, and how much fresh noise brings it up to ``sigma_next``."""
    up = math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2)
    return math.sqrt(sigma_next**2 - up**2), up


def sample_euler_ancestral(
    denoise: DenoiseFunction, x: Tensor, sigmas: Tensor, *, noise_sampler: NoiseSampler
) -> Tensor:
    """Euler's steps with fresh noise after each; first order in law.

    Args:
        denoise: the contract.
        x: noise of standard deviation ``sigmas[0]``.
        sigmas: falling levels, ``(steps + 1,)``.
        noise_sampler: of the fresh noise.
    """
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        down, up = ancestral_step(sigma, sigma_next)
        slope = (x - denoise(x, sigma)) / sigma
        x = x + (down - sigma) * slope
        if up:
            x = x + up * noise_sampler(x)
    return x


def sample_adpm2(
    denoise: DenoiseFunction,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: NoiseSampler,
    rho: float = 1.0,
) -> Tensor:
    """The paper's sampler: DPM-Solver-2 with fresh noise after each step (App. B; fact 6).

    Two evaluations a step. The released code makes 49 steps from 50 levels and stops at the
    last of them, which is above zero (M14): give it the levels without the zero.

    Args:
        denoise: the contract.
        x: noise of standard deviation ``sigmas[0]``.
        sigmas: falling levels; a zero at the end is reached by a step of Euler's.
        noise_sampler: of the fresh noise.
        rho: where between the levels of a step its middle lies.
    """
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        down, up = ancestral_step(sigma, sigma_next)
        slope = (x - denoise(x, sigma)) / sigma
        if sigma_next == 0:
            x = x - sigma * slope
            return x
        middle = math.pow((sigma ** (1 / rho) + down ** (1 / rho)) / 2, rho)
        half_way = x + (middle - sigma) * slope
        slope = (half_way - denoise(half_way, middle)) / middle
        x = x + (down - sigma) * slope + up * noise_sampler(x)
    return x


def sample_dpmpp_2m_sde(
    denoise: DenoiseFunction, x: Tensor, sigmas: Tensor, *, noise_sampler: NoiseSampler
) -> Tensor:
    """DPM-Solver++(2M) of the reverse-time SDE (Lu et al., 2022, SDE-DPM-Solver++(2M)).

    One evaluation a step; fresh noise forgives errors of the steps before.

    Args:
        denoise: the contract.
        x: noise of standard deviation ``sigmas[0]``.
        sigmas: falling levels that end in 0, ``(steps + 1,)``.
        noise_sampler: of the fresh noise.
    """
    levels = sigmas.tolist()
    seen_before: Tensor | None = None
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        seen = denoise(x, sigma)
        if sigma_next == 0:
            return seen
        h = math.log(sigma / sigma_next)
        guess = _extrapolate(seen, seen_before, levels[max(i - 1, 0)] / sigma, h)
        fresh = sigma_next * math.sqrt(-math.expm1(-2 * h))
        x = (sigma_next / sigma) * math.exp(-h) * x - math.expm1(-2 * h) * guess
        x = x + fresh * noise_sampler(x)
        seen_before = seen
    return x


def draw_sample(
    sampler: SamplerName,
    denoise: DenoiseFunction,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise_sampler: NoiseSampler,
) -> Tensor:
    """Turn noise into a sample by the method of a name.

    Args:
        sampler: the name.
        denoise: the contract.
        x: noise of standard deviation ``sigmas[0]``.
        sigmas: falling levels that end in 0, ``(steps + 1,)``; ``adpm2`` stops before it.
        noise_sampler: of fresh noise, for those that add some.
    """
    if sampler == "adpm2":
        return sample_adpm2(denoise, x, sigmas[:-1], noise_sampler=noise_sampler)
    if sampler == "euler-ancestral":
        return sample_euler_ancestral(denoise, x, sigmas, noise_sampler=noise_sampler)
    if sampler == "dpmpp-sde":
        return sample_dpmpp_2m_sde(denoise, x, sigmas, noise_sampler=noise_sampler)
    plain = {"heun": sample_heun, "euler": sample_euler, "dpmpp-2m": sample_dpmpp_2m}
    return plain[sampler](denoise, x, sigmas)


def count_evaluations(sampler: SamplerName, n_steps: int) -> int:
    """How often `draw_sample` calls ``denoise`` for so many steps."""
    return {"adpm2": 2 * (n_steps - 1), "heun": 2 * n_steps - 1}.get(sampler, n_steps)


def guidance_sigmas(
    sigmas: Tensor, guidance_interval: tuple[float, float]
) -> tuple[float, float]:
    """Lowest and highest noise level of a part of a schedule.

    Args:
        sigmas: falling levels that end in 0, ``(steps + 1,)``.
        guidance_interval: where the part begins and ends, as shares of the steps, 0..1.
    """
    last = len(sigmas) - 2
    start, end = guidance_interval
    low = 0.0 if end >= 1 else float(sigmas[math.ceil(end * last)])
    return low, float(sigmas[math.floor(start * last)])

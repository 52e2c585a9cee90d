"""Mask-and-uniform diffusion of discrete codes, in closed form and in the log domain.

After Gu et al., "Vector Quantized Diffusion Model for Text-to-Image Synthesis" (CVPR 2022),
Sec. 4. A step from ``x_s`` to ``x_t`` keeps a code with probability alpha, replaces it with
[MASK] with probability gamma, and otherwise draws a uniform code, each of the K codes with
probability beta:

    q(x_t = k | x_s = j)       = alpha [k = j] + beta       codes k, j
    q(x_t = MASK | x_s = j)    = gamma                      alpha + K beta + gamma = 1
    q(x_t = MASK | x_s = MASK) = 1

Steps compose to steps of the same form. The posterior for an estimate p(x_0) is

    p(x_s = k | x_t) = q(x_t | x_s = k) * sum over x_0 of p(x_0) q(x_s = k | x_0) / q(x_t | x_0)
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

FIRST_ALPHA, LAST_ALPHA = 0.99999, 0.000009
FIRST_GAMMA, LAST_GAMMA = 0.000009, 0.99999
"""Cumulative alpha and gamma after the first and the last step in the release."""
TRUNCATED_LOG_PROBABILITY = -70.0


class Transition(NamedTuple):
    """Probabilities of a step, ``(batch,)`` each, float64 on the CPU."""

    alpha: Tensor
    beta: Tensor
    gamma: Tensor


class TransitionPair(NamedTuple):
    """Transitions of a denoising step, ``(batch, 1)`` each, float32."""

    earlier: Transition
    """From step 0 to the earlier step s."""
    current: Transition
    """From step 0 to the current step t."""
    step: Transition
    """From s to t."""


class NoiseSchedule:
    """Cumulative alpha and gamma, which are linear in the step.

    Both are linear with the same sum, so the uniform share K beta of the cumulative transition
    is 1e-6 at all steps. The release divides it by K + 1, so that its probabilities do not sum
    to one (docs/differences.md, X5).
    """

    def __init__(self, n_codes: int, n_steps: int) -> None:
        """Compute the schedule; step 0 is without noise."""
        self.n_codes, self.n_steps = n_codes, n_steps
        alpha = np.linspace(FIRST_ALPHA, LAST_ALPHA, n_steps)
        gamma = np.linspace(FIRST_GAMMA, LAST_GAMMA, n_steps)
        self._alpha = torch.from_numpy(np.concatenate([[1.0], alpha]))
        self._gamma = torch.from_numpy(np.concatenate([[0.0], gamma]))

    def transition(self, start: Tensor, end: Tensor) -> Transition:
        """Return the transition between steps, ``(batch,)``; ``start`` <= ``end``."""
        alpha = self._alpha[end] / self._alpha[start]
        unmasked = (1 - self._gamma[end]) / (1 - self._gamma[start])
        # Rounding leaves a tiny negative value where the steps are equal.
        beta = ((unmasked - alpha) / self.n_codes).clamp(min=0)
        return Transition(alpha, beta, 1 - unmasked)

    def transition_pair(self, earlier: Tensor, current: Tensor) -> TransitionPair:
        """Return the transitions of the denoising step from ``current`` to ``earlier``."""
        s, t, device = earlier.cpu(), current.cpu(), current.device
        zero = torch.zeros_like(s)
        ranges = (zero, s), (zero, t), (s, t)
        return TransitionPair(
            *(
                Transition(*(x.float().to(device)[:, None] for x in self.transition(*limits)))
                for limits in ranges
            )
        )

    def sample_noisy_tokens(
        self, codes: Tensor, steps: Tensor, *, uniform: Tensor, random_codes: Tensor
    ) -> Tensor:
        """Sample from q(x_t | x_0).

        Args:
            codes: codes x_0, ``(batch, tokens)``.
            steps: step t of each example, ``(batch,)``.
            uniform: uniform random numbers in 0..1, ``(batch, tokens)``.
            random_codes: uniform random codes, ``(batch, tokens)``.

        Returns:
            tokens x_t, ``(batch, tokens)``; [MASK] is ``n_codes``.
        """
        start = torch.zeros_like(steps.cpu())
        alpha, beta, _ = (
            x.float().to(codes.device)[:, None] for x in self.transition(start, steps.cpu())
        )
        tokens = torch.where(uniform < alpha + self.n_codes * beta, random_codes, self.n_codes)
        return torch.where(uniform < alpha, codes, tokens)


def compute_log_mixture(log_start: Tensor, tokens: Tensor, pair: TransitionPair) -> Tensor:
    """Return the sum over x_0 of p(x_0) q(x_s = k | x_0) / q(x_t | x_0), as a logarithm.

    Args:
        log_start: log probabilities p(x_0) of the codes, ``(batch, tokens, n_codes)``.
        tokens: tokens x_t, ``(batch, tokens)``.
        pair: transitions of the denoising step.

    Returns:
        ``(batch, tokens, n_codes)``
    """
    n_codes = log_start.shape[-1]
    is_masked = tokens == n_codes
    current, earlier = pair.current, pair.earlier
    # q(x_t | x_0) of a code x_0 other than x_t, and its logarithmic difference at x_0 = x_t
    other = torch.where(is_masked, current.gamma, current.beta).log()
    difference = torch.where(
        is_masked, 0.0, current.beta.log() - (current.alpha + current.beta).log()
    )
    index = torch.where(is_masked, 0, tokens)[..., None]
    ratio = log_start.scatter_add(2, index, difference[..., None]) - other[..., None]
    total = ratio.logsumexp(dim=2, keepdim=True)
    return torch.logaddexp(
        ratio + earlier.alpha.log()[..., None], total + earlier.beta.log()[..., None]
    )


def compute_log_posterior(log_start: Tensor, tokens: Tensor, pair: TransitionPair) -> Tensor:
    """Return the posterior p(x_s | x_t) in the log domain.

    Args:
        log_start: log probabilities p(x_0) of the codes, ``(batch, tokens, n_codes)``.
        tokens: tokens x_t, ``(batch, tokens)``; [MASK] is ``n_codes``.
        pair: transitions of the denoising step.

    Returns:
        ``(batch, tokens, n_codes + 1)``; the last entry is [MASK].
    """
    n_codes = log_start.shape[-1]
    is_masked = tokens == n_codes
    step = pair.step
    likelihood = torch.where(is_masked, step.gamma, step.beta).log()
    difference = torch.where(is_masked, 0.0, (step.alpha + step.beta).log() - step.beta.log())
    index = torch.where(is_masked, 0, tokens)[..., None]
    codes = compute_log_mixture(log_start, tokens, pair) + likelihood[..., None]
    codes = codes.scatter_add(2, index, difference[..., None])
    mask = (pair.earlier.gamma.log() - pair.current.gamma.log()).expand_as(likelihood)
    mask = torch.where(is_masked, mask, -torch.inf)
    return torch.cat([codes, mask[..., None]], dim=2)


def truncate_probabilities(log_start: Tensor, share: float) -> Tensor:
    """Restrict p(x_0) to its most probable codes.

    Args:
        log_start: log probabilities without gradient, ``(batch, tokens, n_codes)``.
        share: total probability of the codes that remain; at least one remains.

    Returns:
        ``(batch, tokens, n_codes)``, normalized.
    """
    if log_start.device.type == "cpu":  # a fifth of the time of torch, which sorts indices, too
        ascending = torch.from_numpy(np.sort(log_start.numpy(), axis=2))
    else:
        ascending = log_start.sort(dim=2).values
    is_excluded = ascending.exp().cumsum(dim=2) <= 1 - share
    n_excluded = is_excluded.sum(dim=2, keepdim=True).clamp(max=log_start.shape[2] - 1)
    threshold = ascending.gather(2, n_excluded)
    remaining = log_start.masked_fill(log_start < threshold, TRUNCATED_LOG_PROBABILITY)
    return remaining.log_softmax(dim=2)


def sample_tokens(log_probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Sample tokens with Gumbel noise from a generator of the CPU.

    Args:
        log_probabilities: ``(batch, tokens, classes)``.
        generator: random generator.

    Returns:
        ``(batch, tokens)``, int64.
    """
    uniform = torch.rand(log_probabilities.shape, generator=generator).clamp_(min=1e-30)
    gumbel = uniform.log_().neg_().log_().neg_()
    return (log_probabilities + gumbel.to(log_probabilities.device)).argmax(dim=2)

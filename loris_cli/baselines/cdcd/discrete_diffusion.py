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

which is sampled in two steps, x_0 from its estimate and x_s from q(x_s | x_t, x_0).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

FIRST_ALPHA, LAST_ALPHA = 0.99999, 0.000009
FIRST_GAMMA, LAST_GAMMA = 0.000009, 0.99999
"""Cumulative alpha and gamma after the first and the last step in the release."""


class Transition(NamedTuple):
    """Probabilities of a step, ``(batch,)`` each, float64 on the CPU."""

    alpha: Tensor
    beta: Tensor
    gamma: Tensor


class TransitionPair(NamedTuple):
    """Transitions of a denoising step, ``(batch, 1)`` each, float32."""

    n_codes: int
    """Codes without [MASK]."""
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
            self.n_codes,
            *(
                Transition(*(x.float().to(device)[:, None] for x in self.transition(*limits)))
                for limits in ranges
            ),
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


def sample_start(log_start: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Sample codes x_0 from the most probable ones of each token.

    Args:
        log_start: log probabilities without gradient, ``(batch, tokens, n_codes)``.
        share: total probability of the codes that can be drawn, at least one per token.
        generator: random generator of the CPU.

    Returns:
        ``(batch, tokens)``, int64.
    """
    probabilities = log_start.exp()
    if log_start.device.type == "cpu":  # a fifth of the time of torch, which sorts indices, too
        ascending = torch.from_numpy(np.sort(probabilities.numpy(), axis=2))
    else:
        ascending = probabilities.sort(dim=2).values
    is_excluded = ascending.cumsum(dim=2) <= 1 - share
    n_excluded = is_excluded.sum(dim=2, keepdim=True).clamp(max=log_start.shape[2] - 1)
    threshold = ascending.gather(2, n_excluded)
    cumulative = probabilities.masked_fill_(probabilities < threshold, 0).cumsum(dim=2)
    uniform = torch.rand(log_start.shape[:2], generator=generator).to(log_start.device)
    # Rounding must not raise the product to the total, after which there is no code.
    target = uniform * (1 - torch.finfo(uniform.dtype).eps) * cumulative[..., -1]
    return torch.searchsorted(cumulative, target[..., None], right=True)[..., 0]


def sample_earlier_tokens(
    codes: Tensor, tokens: Tensor, pair: TransitionPair, generator: torch.Generator
) -> Tensor:
    """Sample from q(x_s | x_t, x_0), which has a closed form.

    With x_0 from p(x_0) the result has the distribution p(x_s | x_t) of the network. The
    product of q(x_s | x_0) and q(x_t | x_s) is a sum of four terms, in which each of the two
    transitions keeps its code or draws a uniform one:

        (alpha [x_s = x_0] + beta) (alpha' [x_s = x_t] + beta')

    Args:
        codes: codes x_0, ``(batch, tokens)``.
        tokens: tokens x_t, ``(batch, tokens)``; [MASK] is ``n_codes``.
        pair: transitions of the denoising step.
        generator: random generator of the CPU.

    Returns:
        tokens x_s, ``(batch, tokens)``.
    """
    n_codes, earlier, step = pair.n_codes, pair.earlier, pair.step
    is_masked = tokens == n_codes
    # A masked token is [MASK] before the step, too, or was masked in the step.
    token_weight = torch.where(is_masked, earlier.gamma, step.alpha * earlier.beta)
    code_weight = torch.where(is_masked, step.gamma, step.beta) * earlier.alpha
    code_weight = code_weight + torch.where(tokens == codes, step.alpha * earlier.alpha, 0.0)
    uniform_weight = n_codes * torch.where(is_masked, step.gamma, step.beta) * earlier.beta
    limits = torch.stack([token_weight, code_weight, uniform_weight]).cumsum(dim=0)
    uniform = torch.rand(tokens.shape, generator=generator).to(tokens.device) * limits[2]
    random_codes = torch.randint(n_codes, tokens.shape, generator=generator)
    drawn = torch.where(uniform < limits[1], codes, random_codes.to(tokens.device))
    return torch.where(uniform < limits[0], tokens, drawn)

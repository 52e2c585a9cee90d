"""Loss of CDCD: variational bound, auxiliary loss and step-wise intra contrastive loss.

    L = [KL(x_0) + w aux - v mean over negatives of KL(negative)] / p(t) / tokens

KL(c) compares the posterior q(x_s | x_t, x_0 = c) with that of the network, summed over tokens;
at the first step it is the negative log likelihood of x_0. Zhu et al. (2022b), Sec. 3.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from loris_cli.baselines.cdcd.discrete_diffusion import (
    NoiseSchedule,
    Transition,
    TransitionPair,
    compute_log_mixture,
)
from loris_cli.baselines.cdcd.examples import batch_condition, permute_chunks
from loris_cli.baselines.cdcd.network import CdcdNetwork
from loris_cli.baselines.learned_method import Example

AUXILIARY_WEIGHT = 5e-4
CONTRASTIVE_WEIGHT = 5e-5
"""Weights of the release; the contrastive one is of the text (docs/differences.md, X11)."""
HISTORY_DECAY, MIN_HISTORY_COUNT = 0.9, 10
"""Decay of the squared bounds, and examples per step before they are used."""


class LossTerms(NamedTuple):
    """Terms of the loss, ``(batch,)``, summed over tokens, before importance weights."""

    bound: Tensor
    auxiliary: Tensor
    contrast: Tensor
    """Mean bound of the negative samples."""


class CdcdLoss(nn.Module):
    """Loss module of CDCD.

    Training draws steps in proportion to the root mean square of their bounds (Nichol and
    Dhariwal, 2021, "Improved Denoising Diffusion Probabilistic Models", Eq. 18), validation
    uniformly. The history is updated in training only.
    """

    history: Tensor
    counts: Tensor

    def __init__(self, network: CdcdNetwork) -> None:
        """Set the network."""
        super().__init__()
        self.network = network
        n_steps = network.config.n_steps
        self.schedule = NoiseSchedule(network.config.n_codes, n_steps)
        self.register_buffer("history", torch.zeros(n_steps))
        self.register_buffer("counts", torch.zeros(n_steps))

    def forward(self, batch: Example) -> Tensor:
        """Return the loss of a batch of examples, in nats per token."""
        steps, probability = self.choose_steps(batch["step_quantile"])
        terms = self.compute_terms(batch, steps)
        if self.training:
            self._update_history(steps, terms.bound.detach())
        weight = 1 + steps / self.schedule.n_steps  # adaptive weight of the release
        loss = (
            terms.bound
            + AUXILIARY_WEIGHT * weight * terms.auxiliary
            - CONTRASTIVE_WEIGHT * weight * terms.contrast
        )
        return (loss / probability).mean() / batch["codes"].shape[1]

    def choose_steps(self, quantile: Tensor) -> tuple[Tensor, Tensor]:
        """Map uniform random numbers to steps.

        Args:
            quantile: ``(batch,)``, 0..1.

        Returns:
            steps, ``(batch,)``, 0 for the least noise; and their probabilities, ``(batch,)``.
        """
        n_steps = self.schedule.n_steps
        weights = torch.ones(n_steps, device=quantile.device)
        if self.training and bool((self.counts > MIN_HISTORY_COUNT).all()):
            weights = (self.history + 1e-10).sqrt() + 1e-4
            weights[0] = weights[1]  # as in the release: the first term is another quantity
        probabilities = weights / weights.sum()
        steps = torch.searchsorted(probabilities.cumsum(0), quantile.contiguous(), right=True)
        steps = steps.clamp(max=n_steps - 1)
        return steps, probabilities[steps]

    def compute_terms(self, batch: Example, steps: Tensor) -> LossTerms:
        """Return the terms of the loss.

        Args:
            batch: batch of examples.
            steps: step of each example, ``(batch,)``, 0 for the least noise.
        """
        codes, schedule = batch["codes"], self.schedule
        tokens = schedule.sample_noisy_tokens(
            codes, steps + 1, uniform=batch["uniform"], random_codes=batch["random_codes"]
        )
        condition = self.network.encode_condition(batch_condition(batch))
        log_start = self.network(tokens, condition, steps)
        candidates = torch.cat(
            [codes[:, None], permute_chunks(codes, batch["chunk_orders"])], dim=1
        )
        pair = schedule.transition_pair(steps, steps + 1)
        bounds = compute_bounds(log_start, tokens, candidates, pair)
        likelihood = -log_start.gather(2, codes[..., None]).sum(dim=(1, 2))
        # At the first step the release uses the bound here, too.
        auxiliary = torch.where(steps == 0, bounds[:, 0], likelihood)
        negatives = bounds[:, 1:]
        contrast = negatives.mean(dim=1) if negatives.shape[1] else torch.zeros_like(likelihood)
        return LossTerms(bounds[:, 0], auxiliary, contrast)

    @torch.no_grad()
    def _update_history(self, steps: Tensor, bounds: Tensor) -> None:
        """Update the moving averages one by one, because a step can occur more than once."""
        for step, bound in zip(steps.tolist(), bounds.square(), strict=True):
            self.history[step].lerp_(bound.to(self.history), 1 - HISTORY_DECAY)
            self.counts[step] += 1


def compute_bounds(
    log_start: Tensor, tokens: Tensor, candidates: Tensor, pair: TransitionPair
) -> Tensor:
    """Return KL(q(x_s | x_t, x_0 = c) || p(x_s | x_t)) for candidates c, summed over tokens.

    The posterior of a known x_0 has only three different probabilities of codes, so the sum
    over all codes needs the network's log probabilities at two codes and their total. With
    x_t = [MASK] both sides have equal probabilities of [MASK], which contribute nothing.

    Args:
        log_start: log probabilities of the codes x_0, ``(batch, tokens, n_codes)``.
        tokens: tokens x_t, ``(batch, tokens)``.
        candidates: codes c, ``(batch, candidates, tokens)``.
        pair: transitions of the denoising step.

    Returns:
        ``(batch, candidates)``
    """
    known = compute_known_posterior(tokens, candidates, pair, log_start.shape[2])
    mixture = compute_log_mixture(log_start, tokens, pair)
    index = torch.where(tokens == log_start.shape[2], 0, tokens)[..., None]
    at_token = mixture.gather(2, index)[..., 0][:, None]
    at_candidate = mixture.gather(2, candidates.transpose(1, 2)).transpose(1, 2)
    at_token_if_other = torch.where(known.q_token > 0, at_token, 0.0)
    at_rest = mixture.sum(dim=2)[:, None] - at_candidate - at_token_if_other
    # p(x_s) of a code is its likelihood q(x_t | x_s) by its mixture; the likelihoods of both
    # sides are equal.
    divergence = (
        torch.xlogy(known.q_candidate, known.prior_candidate)
        - known.q_candidate * at_candidate
        + torch.xlogy(known.q_token, known.prior_other)
        - known.q_token * at_token
        + known.n_rest * torch.xlogy(known.q_rest, known.prior_other)
        - known.q_rest * at_rest
    )
    return divergence.sum(dim=2)


class KnownPosterior(NamedTuple):
    """q(x_s | x_t, x_0 = c) of codes, ``(batch, candidates, tokens)`` each.

    A probability is the likelihood q(x_t | x_s) by q(x_s | x_0) / q(x_t | x_0), the ``prior``.
    """

    q_candidate: Tensor
    """Probability of c."""
    q_token: Tensor
    """Probability of x_t, if it is a code other than c; else 0."""
    q_rest: Tensor
    """Probability of each other code."""
    n_rest: Tensor
    """Number of other codes."""
    prior_candidate: Tensor
    prior_other: Tensor
    """Prior of c, and of any other code."""


def compute_known_posterior(
    tokens: Tensor, candidates: Tensor, pair: TransitionPair, n_codes: int
) -> KnownPosterior:
    """Return the posterior of the codes x_s for known codes x_0.

    Args:
        tokens: tokens x_t, ``(batch, tokens)``.
        candidates: codes c, ``(batch, candidates, tokens)``.
        pair: transitions of the denoising step.
        n_codes: number of codes.
    """
    earlier, current, step = (
        Transition(*(x[:, None] for x in transition))
        for transition in (pair.earlier, pair.current, pair.step)
    )
    is_masked = (tokens == n_codes)[:, None]
    is_same = (candidates == tokens[:, None]) & ~is_masked
    has_other = ~is_masked & ~is_same
    unmasked = torch.where(is_same, current.alpha + current.beta, current.beta)
    evidence = torch.where(is_masked, current.gamma, unmasked)
    prior_candidate = (earlier.alpha + earlier.beta) / evidence
    prior_other = earlier.beta / evidence
    likelihood = torch.where(is_masked, step.gamma, step.beta)
    at_token = step.alpha + step.beta
    return KnownPosterior(
        q_candidate=torch.where(is_same, at_token, likelihood) * prior_candidate,
        q_token=torch.where(has_other, at_token * prior_other, 0.0),
        q_rest=likelihood * prior_other,
        n_rest=n_codes - 1 - has_other.float(),
        prior_candidate=prior_candidate,
        prior_other=prior_other,
    )

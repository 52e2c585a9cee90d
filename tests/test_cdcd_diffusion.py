"""Mask-and-uniform diffusion: schedule, posterior, bounds and sampling in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor

from loris_cli.baselines.cdcd.discrete_diffusion import (
    NoiseSchedule,
    sample_earlier_tokens,
    sample_start,
)
from loris_cli.baselines.cdcd.loss import compute_bounds

N_CODES, N_STEPS = 5, 9
MASK = N_CODES
SCHEDULE = NoiseSchedule(N_CODES, N_STEPS)
STEP_PAIRS = [(0, 1), (1, 2), (4, 5), (8, 9), (0, 4), (2, 7), (3, 9)]


class WideSchedule(NoiseSchedule):
    """A schedule with 40 % uniform codes at the end, so that all terms matter."""

    def __init__(self, n_codes: int, n_steps: int) -> None:
        super().__init__(n_codes, n_steps)
        self._gamma = 0.6 * self._gamma


def build_matrix(start: int, end: int, schedule: NoiseSchedule = SCHEDULE) -> Tensor:
    """Return q(x_end = column | x_start = row), built from the definition."""
    alpha, beta, gamma = (float(x) for x in schedule.transition(as_step(start), as_step(end)))
    matrix = torch.zeros(N_CODES + 1, N_CODES + 1, dtype=torch.float64)
    matrix[:MASK, :MASK] = beta + alpha * torch.eye(N_CODES, dtype=torch.float64)
    matrix[:MASK, MASK] = gamma
    matrix[MASK, MASK] = 1
    return matrix


def as_step(step: int) -> Tensor:
    return torch.tensor([step])


def compute_dense_posterior(start: Tensor, token: int, earlier: int, current: int) -> Tensor:
    """Return p(x_s | x_t) for p(x_0) = ``start`` by Bayes' theorem on the matrices."""
    to_earlier, to_current = build_matrix(0, earlier), build_matrix(0, current)
    likelihood = build_matrix(earlier, current)[:, token]
    return sum(
        start[k] * likelihood * to_earlier[k] / to_current[k, token] for k in range(N_CODES)
    )  # type: ignore[return-value]


def draw_start(n_tokens: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(1, n_tokens, N_CODES).log_softmax(dim=2)


def test_schedule_is_linear_between_the_values_of_the_release() -> None:
    schedule = NoiseSchedule(2048, 80)
    steps = torch.tensor([1, 80])
    alpha, beta, gamma = schedule.transition(torch.zeros_like(steps), steps)
    assert alpha.tolist() == pytest.approx([0.99999, 0.000009])
    assert gamma.tolist() == pytest.approx([0.000009, 0.99999])
    assert (2048 * beta).tolist() == pytest.approx([1e-6, 1e-6])
    middle = schedule.transition(as_step(0), torch.tensor([40]))
    assert float(middle.alpha) == pytest.approx(0.99999 - 39 / 79 * (0.99999 - 0.000009))


@pytest.mark.parametrize("step", range(1, N_STEPS + 1))
def test_rows_of_a_transition_sum_to_one(step: int) -> None:
    rows = build_matrix(step - 1, step).sum(dim=1)
    torch.testing.assert_close(rows, torch.ones_like(rows), rtol=0, atol=1e-14)
    assert (build_matrix(step - 1, step) >= 0).all()


@pytest.mark.parametrize("step", range(1, N_STEPS + 1))
def test_cumulative_transition_is_the_product_of_steps(step: int) -> None:
    product = torch.eye(N_CODES + 1, dtype=torch.float64)
    for k in range(step):
        product = product @ build_matrix(k, k + 1)
    torch.testing.assert_close(build_matrix(0, step), product, rtol=1e-9, atol=1e-15)


def test_skipped_steps_are_the_product_of_steps() -> None:
    product = torch.eye(N_CODES + 1, dtype=torch.float64)
    for k in range(3, 7):
        product = product @ build_matrix(k, k + 1)
    torch.testing.assert_close(build_matrix(3, 7), product, rtol=1e-9, atol=1e-15)


def test_everything_is_masked_at_the_last_step() -> None:
    schedule = NoiseSchedule(2048, 80)
    codes = torch.zeros(1, 1033, dtype=torch.int64)
    uniform = torch.linspace(1.1e-5, 1, 1033)[None]  # 1e-5 is the probability of another token
    tokens = schedule.sample_noisy_tokens(
        codes, torch.tensor([80]), uniform=uniform, random_codes=codes
    )
    assert (tokens == 2048).all()


def test_noisy_tokens_are_codes_uniform_codes_and_masks() -> None:
    alpha, beta, _ = (float(x) for x in SCHEDULE.transition(as_step(0), as_step(4)))
    uniform = torch.tensor([[0.0, alpha - 1e-4, alpha + 2 * beta, alpha + 1e-4, 0.9999]])
    tokens = SCHEDULE.sample_noisy_tokens(
        torch.full((1, 5), 2),
        torch.tensor([4]),
        uniform=uniform,
        random_codes=torch.full((1, 5), 3),
    )
    assert tokens.tolist() == [[2, 2, 3, MASK, MASK]]


@pytest.mark.parametrize(("earlier", "current"), STEP_PAIRS)
def test_sampled_tokens_have_the_posterior_of_bayes(earlier: int, current: int) -> None:
    n_samples, n_tokens = 20_000, N_CODES + 1
    tokens = torch.arange(n_tokens).expand(n_samples, -1)
    log_start = draw_start(n_tokens)
    pair = SCHEDULE.transition_pair(as_step(earlier), as_step(current))
    generator = torch.Generator().manual_seed(0)

    codes = sample_start(log_start.expand(n_samples, -1, -1), 1.0, generator)
    sampled = sample_earlier_tokens(codes, tokens, pair, generator)

    for position in range(n_tokens):
        start = log_start[0, position].exp().double()
        expected = compute_dense_posterior(start, position, earlier, current)
        frequencies = torch.bincount(sampled[:, position], minlength=n_tokens) / n_samples
        np.testing.assert_allclose(frequencies, expected, atol=0.015)


@pytest.mark.parametrize(("earlier", "current"), STEP_PAIRS)
def test_tokens_sampled_from_known_codes_have_the_posterior(earlier: int, current: int) -> None:
    schedule = WideSchedule(N_CODES, N_STEPS)
    n_samples = 20_000
    pair = schedule.transition_pair(as_step(earlier), as_step(current))
    to_earlier, to_current = (
        build_matrix(0, end, schedule).float() for end in (earlier, current)
    )
    in_step = build_matrix(earlier, current, schedule).float()
    for token in range(N_CODES + 1):
        tokens, codes = torch.full((1, n_samples), token), torch.full((1, n_samples), 2)
        sampled = sample_earlier_tokens(codes, tokens, pair, torch.Generator().manual_seed(0))
        frequencies = torch.bincount(sampled[0], minlength=N_CODES + 1) / n_samples
        expected = in_step[:, token] * to_earlier[2] / to_current[2, token]
        np.testing.assert_allclose(frequencies, expected, atol=0.015)


def test_tokens_before_the_first_step_are_codes() -> None:
    pair = SCHEDULE.transition_pair(as_step(0), as_step(3))
    tokens = torch.arange(N_CODES + 1).expand(1000, -1)
    generator = torch.Generator().manual_seed(0)
    codes = sample_start(draw_start(N_CODES + 1).expand(1000, -1, -1), 1.0, generator)
    assert (sample_earlier_tokens(codes, tokens, pair, generator) < MASK).all()


@pytest.mark.parametrize(("earlier", "current"), STEP_PAIRS)
def test_bounds_equal_the_divergence_of_dense_posteriors(earlier: int, current: int) -> None:
    tokens = torch.arange(N_CODES + 1)[None]
    candidates = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 1, 4, 0, 4, 3], [2, 0, 0, 1, 3, 2]])
    log_start = draw_start(N_CODES + 1)
    pair = SCHEDULE.transition_pair(as_step(earlier), as_step(current))

    bounds = compute_bounds(log_start, tokens, candidates[None], pair)

    expected = []
    for codes in candidates:
        total = 0.0
        for position, token in enumerate(tokens[0].tolist()):
            known = torch.eye(N_CODES, dtype=torch.float64)[codes[position]]
            start = log_start[0, position].exp().double()
            q = compute_dense_posterior(known, token, earlier, current)
            p = compute_dense_posterior(start, token, earlier, current)
            total += float((torch.xlogy(q, q) - torch.xlogy(q, p)).sum())
        expected.append(total)
    assert bounds[0].tolist() == pytest.approx(expected, rel=1e-3)


def test_bound_of_the_first_step_is_the_likelihood_of_masked_codes() -> None:
    log_start = draw_start(4)
    codes = torch.tensor([[3, 1, 4, 0]])
    pair = SCHEDULE.transition_pair(as_step(0), as_step(1))
    bound = compute_bounds(log_start, torch.full((1, 4), MASK), codes[None], pair)
    expected = -log_start[0].gather(1, codes[0][:, None]).sum()
    torch.testing.assert_close(bound[0, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [0, 1, 40, 79])
def test_gradients_of_the_bound_are_finite_at_2048_codes(step: int) -> None:
    schedule = NoiseSchedule(2048, 80)
    torch.manual_seed(0)
    logits = (3 * torch.randn(1, 6, 2048)).requires_grad_()
    tokens = torch.tensor([[0, 2048, 5, 2048, 7, 9]])
    pair = schedule.transition_pair(as_step(step), as_step(step + 1))
    codes = torch.tensor([[0, 1, 2, 3, 7, 8]])

    bound = compute_bounds(logits.log_softmax(dim=2), tokens, codes[None], pair).sum()
    bound.backward()  # type: ignore[no-untyped-call]

    assert logits.grad is not None
    assert bound.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("share", [0.5, 0.86, 1.0])
def test_codes_are_sampled_from_the_smallest_set_of_the_share(share: float) -> None:
    n_samples = 20_000
    probabilities = torch.tensor([[[0.1, 0.5, 0.05, 0.3, 0.05], [0.0, 0.0, 1.0, 0.0, 0.0]]])
    remaining: dict[float, list[list[float]]] = {
        0.5: [[0, 1, 0, 0, 0]],
        0.86: [[1 / 9, 5 / 9, 0, 3 / 9, 0]],
        1.0: probabilities[0, :1].tolist(),
    }
    log_start = probabilities.log().expand(n_samples, -1, -1)

    codes = sample_start(log_start, share, torch.Generator().manual_seed(0))

    frequencies = torch.bincount(codes[:, 0], minlength=5) / n_samples
    np.testing.assert_allclose(frequencies, remaining[share][0], atol=0.012)
    assert (codes[:, 1] == 2).all()


def test_sampling_never_draws_a_code_of_probability_zero() -> None:
    log_start = torch.full((1, 50_000, 4), -torch.inf)
    log_start[..., 1] = 0.0
    assert (sample_start(log_start, 0.86, torch.Generator().manual_seed(0)) == 1).all()


def test_denoising_with_known_codes_restores_them() -> None:
    codes = torch.tensor([[0, 3, 1, 4, 2, 2]])
    tokens = torch.full((1, 6), MASK)
    generator = torch.Generator().manual_seed(1)
    for step in range(N_STEPS, 0, -1):
        pair = SCHEDULE.transition_pair(as_step(step - 1), as_step(step))
        tokens = sample_earlier_tokens(codes, tokens, pair, generator)
    assert torch.equal(tokens, codes)

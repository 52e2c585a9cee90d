"""Mask-and-uniform diffusion: schedule, posterior, bounds and sampling in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor

from loris_cli.baselines.cdcd.discrete_diffusion import (
    NoiseSchedule,
    compute_log_posterior,
    sample_tokens,
    truncate_probabilities,
)
from loris_cli.baselines.cdcd.loss import compute_bounds

N_CODES, N_STEPS = 5, 9
MASK = N_CODES
SCHEDULE = NoiseSchedule(N_CODES, N_STEPS)
STEP_PAIRS = [(0, 1), (1, 2), (4, 5), (8, 9), (0, 4), (2, 7), (3, 9)]


def build_matrix(start: int, end: int) -> Tensor:
    """Return q(x_end = column | x_start = row), built from the definition."""
    alpha, beta, gamma = (float(x) for x in SCHEDULE.transition(as_step(start), as_step(end)))
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
def test_posterior_sums_to_one_and_is_that_of_bayes(earlier: int, current: int) -> None:
    tokens = torch.arange(N_CODES + 1)[None]
    log_start = draw_start(N_CODES + 1)
    pair = SCHEDULE.transition_pair(as_step(earlier), as_step(current))

    posterior = compute_log_posterior(log_start, tokens, pair).exp()

    torch.testing.assert_close(posterior.sum(dim=2), torch.ones(1, N_CODES + 1))
    for position, token in enumerate(tokens[0].tolist()):
        start = log_start[0, position].exp().double()
        expected = compute_dense_posterior(start, token, earlier, current)
        torch.testing.assert_close(
            posterior[0, position].double(), expected, rtol=2e-4, atol=1e-9
        )


def test_posterior_of_the_first_step_has_no_mask() -> None:
    pair = SCHEDULE.transition_pair(as_step(0), as_step(3))
    tokens = torch.arange(N_CODES + 1)[None]
    posterior = compute_log_posterior(draw_start(N_CODES + 1), tokens, pair)
    assert (posterior[..., MASK] == -torch.inf).all()


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


def test_truncation_leaves_the_smallest_set_of_the_share() -> None:
    probabilities = torch.tensor([[[0.1, 0.5, 0.05, 0.3, 0.05], [0.0, 0.0, 1.0, 0.0, 0.0]]])
    truncated = truncate_probabilities(probabilities.clamp(min=1e-30).log(), 0.86).exp()
    expected = torch.tensor([[[1 / 9, 5 / 9, 0, 3 / 9, 0], [0, 0, 1, 0, 0]]])
    torch.testing.assert_close(truncated, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.86, 1.0])
def test_truncated_probabilities_are_normalized(share: float) -> None:
    log_start = draw_start(20)
    truncated = truncate_probabilities(log_start, share).exp()
    torch.testing.assert_close(truncated.sum(dim=2), torch.ones(1, 20))
    remains = truncated > 1e-20
    mass = torch.where(remains, log_start.exp(), 0).sum(dim=2)
    assert (mass >= share - 1e-5).all()
    if share == 1:
        torch.testing.assert_close(truncated, log_start.exp())


def test_frequencies_of_sampled_tokens_equal_their_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logarithms = probabilities.log().expand(1, 20_000, 4)
    tokens = sample_tokens(logarithms, torch.Generator().manual_seed(0))
    frequencies = np.bincount(tokens[0].numpy(), minlength=4) / 20_000
    np.testing.assert_allclose(frequencies, probabilities.numpy(), atol=0.012)


def test_denoising_with_known_codes_restores_them() -> None:
    codes = torch.tensor([[0, 3, 1, 4, 2, 2]])
    known = torch.nn.functional.one_hot(codes, N_CODES).float().clamp(min=1e-30).log()
    tokens = torch.full((1, 6), MASK)
    generator = torch.Generator().manual_seed(1)
    for step in range(N_STEPS, 0, -1):
        pair = SCHEDULE.transition_pair(as_step(step - 1), as_step(step))
        tokens = sample_tokens(compute_log_posterior(known, tokens, pair), generator)
    assert torch.equal(tokens, codes)

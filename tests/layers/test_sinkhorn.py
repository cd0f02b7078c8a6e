import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_gserec.layers.quantization import balanced_codes, centred_costs, sinkhorn_plan, sinkhorn_plan_in_logarithms


def plain_plan(costs: np.ndarray, epsilon: float, n_iterations: int) -> np.ndarray:
    """The algorithm as it is written: scale rows, scale columns, on the plan itself."""
    plan = np.exp(-costs / epsilon)
    n_rows, n_codes = plan.shape
    for _ in range(n_iterations):
        plan /= plan.sum(1, keepdims=True) * n_rows
        plan /= plan.sum(0, keepdims=True) * n_codes
    return plan * n_rows


@pytest.fixture
def distances():
    generator = torch.Generator().manual_seed(3)
    rows, codes = torch.randn(40, 6, generator=generator), torch.randn(12, 6, generator=generator)
    return torch.cdist(rows, codes).square()


def test_centred_costs_span_minus_one_to_one_in_order(distances):
    costs = centred_costs(distances)
    assert costs.dtype == torch.float64
    assert costs.min().item() == pytest.approx(-1) and costs.max().item() == pytest.approx(1)
    assert torch.equal(costs.flatten().argsort(stable=True), distances.double().flatten().argsort(stable=True))
    middle = (distances.double().max() + distances.double().min()) / 2
    torch.testing.assert_close(costs.sign(), (distances.double() - middle).sign())


def test_centred_costs_of_equal_distances_are_zero():
    assert torch.equal(centred_costs(torch.full((3, 4), 2.5)), torch.zeros(3, 4, dtype=torch.float64))


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("plan_of", [sinkhorn_plan, sinkhorn_plan_in_logarithms])
def test_plan_is_the_written_algorithm(distances, plan_of, epsilon):
    costs = centred_costs(distances)
    expected = plain_plan(costs.numpy().copy(), epsilon, 50)
    np.testing.assert_allclose(plan_of(costs, epsilon, 50).numpy(), expected, rtol=1e-8, atol=1e-300)


@settings(max_examples=40, deadline=None)
@given(
    n_rows=st.integers(1, 12),
    n_codes=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    n_iterations=st.integers(1, 50),
    hard=st.booleans(),
)
def test_scaling_form_equals_logarithms(n_rows, n_codes, seed, n_iterations, hard):
    costs = torch.rand(n_rows, n_codes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    if hard:
        # Nothing but the extremes: the kernel then spans all of 1 to exp(-2 / epsilon).
        costs = costs.sign()
    scaled = sinkhorn_plan(costs, 0.003, n_iterations)
    assert scaled.isfinite().all()
    torch.testing.assert_close(scaled, sinkhorn_plan_in_logarithms(costs, 0.003, n_iterations), rtol=1e-7, atol=1e-12)


def test_marginals(distances):
    n_rows, n_codes = distances.shape
    plan = sinkhorn_plan(centred_costs(distances), epsilon=0.05, n_iterations=500)
    ones = torch.ones(n_rows, dtype=torch.float64)
    torch.testing.assert_close(plan.sum(1), ones, rtol=1e-6, atol=0)
    torch.testing.assert_close(plan.sum(0), ones[:n_codes] * n_rows / n_codes, rtol=1e-12, atol=0)
    after_fifty = sinkhorn_plan(centred_costs(distances))
    torch.testing.assert_close(after_fifty.sum(0), ones[:n_codes] * n_rows / n_codes, rtol=1e-12, atol=0)


def test_tiny_epsilon_stays_finite(distances):
    plan = sinkhorn_plan(centred_costs(distances), epsilon=1e-5, n_iterations=20)
    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(0), torch.full((12,), 40 / 12, dtype=torch.float64))


def test_leading_dimensions_are_separate_problems(distances):
    problems = torch.stack([distances[:20], distances[20:] * 7])
    plans = sinkhorn_plan(centred_costs(problems))
    codes = balanced_codes(problems)
    for index, problem in enumerate(problems):
        torch.testing.assert_close(plans[index], sinkhorn_plan(centred_costs(problem)), rtol=1e-9, atol=1e-15)
        assert torch.equal(codes[index], balanced_codes(problem))


def test_codes_do_not_depend_on_scale_and_follow_rows(distances):
    codes = balanced_codes(distances)
    assert torch.equal(balanced_codes(distances * 1024), codes)
    order = torch.randperm(len(distances), generator=torch.Generator().manual_seed(0))
    assert torch.equal(balanced_codes(distances[order]), codes[order])


def test_as_many_rows_as_codes_find_the_cheapest_matching():
    # Both rows are nearest to code 0; moving the second costs 1, moving the first costs 8.
    distances = torch.tensor([[1.0, 9.0], [2.0, 3.0]])
    assert distances.argmin(1).tolist() == [0, 0]
    assert balanced_codes(distances).tolist() == [0, 1]


def test_codes_are_used_evenly():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(256, 4, generator=generator) * 0.1 + 1
    codes = torch.randn(16, 4, generator=generator)
    distances = torch.cdist(rows, codes).square()
    nearest = torch.bincount(distances.argmin(1), minlength=16)
    balanced = torch.bincount(balanced_codes(distances, epsilon=0.01), minlength=16)
    assert nearest.max() > 100
    assert balanced.min() >= 8 and balanced.max() <= 32


def test_a_single_row_takes_its_nearest_code():
    # A single row holds the same part of every code.
    assert balanced_codes(torch.tensor([[4.0, 3.0, 1.0, 2.0]])).tolist() == [2]


def test_equal_rows_get_equal_codes(distances):
    doubled = torch.cat([distances, distances])
    codes = balanced_codes(doubled)
    assert torch.equal(codes[:40], codes[40:])


@pytest.mark.parametrize(("n_rows", "n_codes"), [(118, 256), (300, 16), (1, 5), (5, 1)])
def test_default_plan_of_one_problem_and_of_several_is_the_written_algorithm(n_rows, n_codes):
    generator = torch.Generator().manual_seed(n_rows)
    distances = torch.rand(2, n_rows, n_codes, generator=generator)
    costs = centred_costs(distances)
    kept = costs.clone(), distances.clone()
    # Costs around 0 keep the plain form in the range of float64.
    expected = np.stack([plain_plan(problem, 0.003, 50) for problem in costs.numpy()])
    for plan in (sinkhorn_plan(costs), torch.stack([sinkhorn_plan(problem) for problem in costs])):
        np.testing.assert_allclose(plan.numpy(), expected, rtol=1e-6, atol=1e-12)
    nearest_of_best = np.where(expected < expected.max(-1, keepdims=True) * (1 - 1e-9), np.inf, costs.numpy())
    assert np.array_equal(balanced_codes(distances).numpy(), nearest_of_best.argmin(-1))
    assert np.array_equal(balanced_codes(distances.double()).numpy(), nearest_of_best.argmin(-1))
    assert torch.equal(costs, kept[0]) and torch.equal(distances, kept[1])

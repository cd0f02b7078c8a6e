"""Ranks against a brute-force count."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recbole_gserec.evaluation import collector
from recbole_gserec.evaluation.collector import ranks_against_ties


def brute_force(scores, rows, columns):
    """Every candidate that is not lower stands before a target; targets of a row stand among each other by score."""
    result = []
    for position, (row, column) in enumerate(zip(rows, columns, strict=True)):
        own = scores[row][column]
        mates = [other for other in range(len(rows)) if rows[other] == row and other != position]
        rank = 1
        for index, other in enumerate(scores[row]):
            if index != column and index not in {columns[mate] for mate in mates}:
                rank += not other < own
        for mate in mates:
            other = scores[row][columns[mate]]
            key, other_key = ((-math.inf if math.isnan(score) else score) for score in (own, other))
            rank += other_key > key or (other_key == key and mate < position)
        result.append(rank)
    return result


SCORES = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, math.nan, -math.inf])


@st.composite
def targets(draw, at_most):
    n_rows, n_columns = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    scores = [[draw(SCORES) for _ in range(n_columns)] for _ in range(n_rows)]
    pairs = []
    for row in range(n_rows):
        size = st.integers(0, n_columns) if at_most is None else st.just(1)
        for column in draw(st.permutations(range(n_columns)))[: draw(size)]:
            pairs.append((row, column))
    if at_most is None:
        pairs = draw(st.permutations(pairs))
    return scores, [row for row, _ in pairs], [column for _, column in pairs]


def check(scores, rows, columns):
    given = torch.tensor(scores)
    before = given.clone()
    result = ranks_against_ties(given, torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long))
    assert result.dtype == torch.int64
    assert result.tolist() == brute_force(scores, rows, columns)
    torch.testing.assert_close(given, before, equal_nan=True)


@settings(max_examples=300, deadline=None)
@given(targets(at_most=1))
def test_one_target_in_each_row(case):
    check(*case)


@settings(max_examples=400, deadline=None)
@given(targets(at_most=None))
@example(([[1.0, math.nan]], [0, 0], [0, 1]))
@example(([[-math.inf, 0.0]], [0, 0], [0, 1]))
@example(([[math.nan, 0.0], [0.0, 1.0]], [0], [0]))
def test_any_number_of_targets_in_a_row(case):
    check(*case)


def test_rows_in_parts_give_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(5, (40, 9), generator=generator).float()
    columns = torch.randint(9, (40,), generator=generator)
    rows = torch.randint(40, (40,), generator=generator).unique()
    monkeypatch.setattr(collector, "_ELEMENTS", 27)
    check(scores.tolist(), list(range(40)), columns.tolist())
    check(scores.tolist(), rows.tolist(), columns[: len(rows)].tolist())


@pytest.mark.parametrize("value", [0.0, 7.5, math.nan, -math.inf])
@pytest.mark.parametrize("column", [0, 50, 99])
def test_a_model_without_opinion_gets_the_last_rank(value, column):
    scores = torch.full((3, 100), value)
    assert ranks_against_ties(scores, torch.arange(3), torch.full((3,), column)).tolist() == [100] * 3
    # With a target in some rows only, and in another order.
    assert ranks_against_ties(scores, torch.tensor([2, 0]), torch.tensor([column, column])).tolist() == [100] * 2


def test_padding_stands_behind_a_target():
    scores = torch.tensor([[0.5, 0.7, -math.inf, -math.inf]])
    assert ranks_against_ties(scores, torch.tensor([0]), torch.tensor([0])).tolist() == [2]


def test_no_target():
    nothing = torch.zeros(0, dtype=torch.long)
    assert ranks_against_ties(torch.zeros(4, 3), nothing, nothing).tolist() == []

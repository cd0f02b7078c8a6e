"""Candidates against their definition: distinct, new to the user, with the right odds, decided by the seed alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_gserec.evaluation import candidates
from recbole_gserec.evaluation.candidates import draw_candidates, order_of_tokens


def draw(touched, n_candidates, *, seed=0, phase="test", **options):
    """Candidates for users described by a boolean users x items matrix."""
    users, items = np.nonzero(touched)
    pairs = users * touched.shape[1] + items
    return draw_candidates(pairs, *touched.shape, n_candidates, seed=seed, phase=phase, **options)


def touched_at_random(n_users, n_items, n_touched, seed=0):
    rng = np.random.default_rng(seed)
    touched = np.zeros((n_users, n_items), dtype=bool)
    for row in touched:
        row[rng.choice(n_items, n_touched, replace=False)] = True
    return touched


def assert_lists_are_valid(drawn, touched, weights=None):
    possible = ~touched if weights is None else ~touched & (np.asarray(weights) > 0)
    for row, allowed in zip(drawn, possible, strict=True):
        given = row[row >= 0]
        assert len(set(given)) == len(given) == min(len(row), allowed.sum())
        assert allowed[given].all()
        assert (row[len(given) :] == -1).all()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_lists_are_distinct_new_to_the_user_and_as_long_as_can_be(data):
    n_users, n_items = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 60))
    n_candidates = data.draw(st.integers(0, 15))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    touched = rng.random((n_users, n_items)) < data.draw(st.sampled_from([0, 0.1, 0.5, 0.95, 1]))
    weights = None
    if data.draw(st.booleans()):
        weights = rng.integers(0, 4, n_items).astype(float)
        weights[rng.integers(n_items)] = 1
    drawn = draw(touched, n_candidates, weights=weights)
    assert drawn.shape == (n_users, n_candidates)
    assert_lists_are_valid(drawn, touched, weights)


@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_of_users_do_not_mix(monkeypatch, weighted):
    monkeypatch.setattr(candidates, "USERS_PER_BLOCK", 7)
    touched = touched_at_random(50, 90, 12)
    touched[[0, 6, 7, 20, 49]] = True
    touched[20, 3:6] = False
    weights = np.arange(90.0) if weighted else None
    drawn = draw(touched, 5, weights=weights)
    assert_lists_are_valid(drawn, touched, weights)
    assert (drawn[[0, 6, 7, 49]] == -1).all()
    assert sorted(drawn[20]) == [-1, -1, 3, 4, 5]
    assert len({tuple(row) for row in drawn}) > 40, "blocks must not repeat one another's draws"


def z_scores(observed, expected, variance):
    certain = variance == 0
    assert (observed[certain] == expected[certain]).all()
    return np.abs(observed - expected)[~certain] / np.sqrt(variance[~certain])


# 8 candidates: users with fewer than 32 items left are drawn one by one, others together.
@pytest.mark.parametrize("n_items", [60, 30])
def test_every_new_item_is_equally_likely(n_items):
    n_users, n_touched, n_candidates = 4000, 5, 8
    touched = touched_at_random(n_users, n_items, n_touched)
    drawn = draw(touched, n_candidates)
    chance = np.where(touched, 0, n_candidates / (n_items - n_touched))
    counts = np.bincount(drawn.ravel(), minlength=n_items)
    assert z_scores(counts, chance.sum(0), (chance * (1 - chance)).sum(0)).max() < 4.5
    for position in (0, n_candidates - 1):
        chance = np.where(touched, 0, 1 / (n_items - n_touched))
        counts = np.bincount(drawn[:, position], minlength=n_items)
        assert z_scores(counts, chance.sum(0), (chance * (1 - chance)).sum(0)).max() < 4.5


@pytest.mark.parametrize("n_candidates", [2, 9])
def test_popularity_draws_one_item_after_the_other_by_its_odds(n_candidates):
    n_users, n_items = 20_000, 30
    weights = np.arange(n_items).astype(float) ** 1.5
    touched = np.zeros((n_users, n_items), dtype=bool)
    touched[:, [4, 29]] = True
    drawn = draw(touched, n_candidates, weights=weights)
    odds = np.where(touched[0], 0, weights) / weights[~touched[0]].sum()
    second = np.zeros(n_items)
    for first, item in itertools.permutations(range(n_items), 2):
        second[item] += odds[first] * odds[item] / (1 - odds[first])
    for position, chance in enumerate((odds, second)):
        counts = np.bincount(drawn[:, position], minlength=n_items)
        assert z_scores(counts, n_users * chance, n_users * chance * (1 - chance)).max() < 4.5


@pytest.mark.parametrize("weighted", [False, True])
def test_lists_finished_one_by_one_have_the_same_odds(monkeypatch, weighted):
    n_users, n_items = 4000, 60
    touched = np.zeros((n_users, n_items), dtype=bool)
    touched[:, 30:55] = True
    weights = np.arange(n_items) ** 2.0 if weighted else None
    counts = []
    for rounds in (0, 1, 16):
        monkeypatch.setattr(candidates, "ROUNDS", rounds)
        drawn = draw(touched, 8, weights=weights)
        assert_lists_are_valid(drawn, touched, weights)
        counts.append(np.stack([np.bincount(column, minlength=n_items) for column in drawn.T]))
    for first, second in itertools.combinations(counts, 2):
        assert (first != second).any()
        chance = (first + second) / (2 * n_users)
        assert z_scores(first, second, 2 * n_users * chance * (1 - chance)).max() < 4.5


@pytest.mark.parametrize("n_items", [40, 8])
def test_equal_weights_are_even_odds(n_items):
    touched = np.zeros((6000, n_items), dtype=bool)
    counts = np.bincount(draw(touched, 5, weights=np.full(n_items, 7.0)).ravel(), minlength=n_items)
    chance = np.full(n_items, 5 / n_items)
    assert z_scores(counts, 6000 * chance, 6000 * chance * (1 - chance)).max() < 4.5


def test_lists_of_users_are_independent():
    touched = np.zeros((3000, 50), dtype=bool)
    drawn = draw(touched, 5)
    shared = [len(set(first) & set(second)) for first, second in itertools.pairwise(drawn.tolist())]
    # Hypergeometric: 5 of 50 drawn, 5 marked.
    assert np.mean(shared) == pytest.approx(0.5, abs=0.05)


def test_seed_phase_and_round_decide_alone():
    touched = touched_at_random(30, 80, 10)
    base = draw(touched, 10)
    np.random.seed(1)
    np.testing.assert_array_equal(draw(touched, 10), base)
    state = np.random.get_state()[1].copy()
    others = [draw(touched, 10, seed=1), draw(touched, 10, phase="valid"), draw(touched, 10, round_=1)]
    assert (np.random.get_state()[1] == state).all(), "the global generator is left alone"
    for first, second in itertools.combinations([base, *others], 2):
        assert (first != second).any(axis=1).all()


@pytest.mark.parametrize("left_over", [1e-3, 1e-7])
def test_popularity_with_all_odds_on_known_items_is_drawn_in_time(left_over):
    n_items = 300
    weights = np.full(n_items, left_over)
    weights[:5] = 1
    touched = np.zeros((3, n_items), dtype=bool)
    touched[0, :5] = True
    drawn = draw(touched, 20, weights=weights)
    assert_lists_are_valid(drawn, touched, weights)
    # All others have the five likely items among their first ones.
    assert all(set(row[:5]) == set(range(5)) for row in drawn[1:].tolist()) or left_over > 1e-4


def test_many_known_items_are_drawn_in_time():
    touched = np.ones((1, 300_000), dtype=bool)
    touched[0, ::3000] = False
    assert_lists_are_valid(draw(touched, 20), touched)


def test_order_of_tokens_is_that_of_the_original_ids():
    tokens = ["b", "10", "9", "a", "[PAD]"]
    np.testing.assert_array_equal(order_of_tokens(tokens), [sorted(tokens).index(token) for token in tokens])
    shuffled = ["9", "[PAD]", "b", "a", "10"]
    by_token = dict(zip(tokens, order_of_tokens(tokens), strict=True))
    assert dict(zip(shuffled, order_of_tokens(np.array(shuffled)), strict=True)) == by_token


def test_lists_do_not_depend_on_which_are_wanted(monkeypatch):
    monkeypatch.setattr("recbole_gserec.evaluation.candidates.USERS_PER_BLOCK", 10)
    interacted = np.arange(0, 40 * 500, 37)
    full = draw_candidates(interacted, 40, 500, 20, seed=1, phase="test")
    wanted = np.zeros(40, dtype=bool)
    wanted[[12, 35]] = True
    part = draw_candidates(interacted, 40, 500, 20, seed=1, phase="test", wanted=wanted)
    np.testing.assert_array_equal(part[wanted], full[wanted])
    assert (part[:10] == -1).all()

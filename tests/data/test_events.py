import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_gserec.data.events import build_event_log

N_USERS = 4  # User 0 is padding.


def log_of(interactions, searches, n_users=N_USERS):
    """EventLog of (user, item, time) and (user, query, time, clicks) in file order, and the order of interactions."""

    def columns(rows, *types):
        return tuple(np.array([row[i] for row in rows], dtype=kind) for i, kind in enumerate(types))

    clicks = [click for search in searches for click in search[3]]
    offsets = np.cumsum([0, *(len(search[3]) for search in searches)])
    return build_event_log(
        n_users,
        columns(interactions, np.int64, np.int64, np.float64),
        columns(searches, np.int64, np.int64, np.float64),
        (np.array(clicks, dtype=np.int32), offsets),
    )


def visible(interactions, searches, position):
    """The interaction at this place in the order of user, time and file, what came before it, and what was searched."""
    user, item, time = sorted(interactions, key=lambda row: (row[0], row[2]))[position]
    own = [row for row in sorted(interactions, key=lambda row: row[2]) if row[0] == user]
    n_earlier = position - sum(row[0] < user for row in interactions)
    searched = [row for row in sorted(searches, key=lambda row: row[2]) if row[0] == user and row[2] < time]
    return user, item, [row[1] for row in own[:n_earlier]], [(row[1], row[3]) for row in searched]


times = st.sampled_from([0.0, 1.0, 1.5, 2.0, 1e9, 1e9 + 1])
users = st.integers(1, N_USERS - 1)
items = st.integers(1, 9)
some_interactions = st.lists(st.tuples(users, items, times), min_size=1, max_size=14)
some_searches = st.lists(st.tuples(users, items, times, st.lists(items, max_size=3)), max_size=12)


@settings(deadline=None)
@given(some_interactions, some_searches, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_histories_equal_plain_loops(interactions, searches, n_items, n_searches, n_clicks):
    log, order = log_of(interactions, searches)
    targets = torch.arange(len(interactions))
    users = log.users_of_interactions()
    histories, lengths = log.item_histories(users, targets, n_items)
    queries, clicks, search_lengths = log.search_histories(users, log.search_ends[targets], n_searches, n_clicks)
    assert histories.dtype == queries.dtype == clicks.dtype == torch.int64
    for position in range(len(interactions)):
        user, item, earlier, searched = visible(interactions, searches, position)
        assert interactions[order[position]][:2] == (user, item)
        assert (users[position].item(), log.items[position].item()) == (user, item)
        kept, seen = earlier[-n_items:], searched[-n_searches:]
        assert (lengths[position].item(), search_lengths[position].item()) == (len(kept), len(seen))
        assert histories[position].tolist() == kept + [0] * (histories.shape[1] - len(kept))
        assert queries[position].tolist() == [q for q, _ in seen] + [0] * (queries.shape[1] - len(seen))
        for search, row in enumerate(clicks[position].tolist()):
            clicked = seen[search][1][-n_clicks:] if search < len(seen) else []
            assert row == clicked + [0] * (clicks.shape[2] - len(clicked))


@settings(deadline=None)
@given(some_interactions, some_searches)
def test_users_of_events(interactions, searches):
    log, _ = log_of(interactions, searches)
    assert log.n_users == N_USERS
    assert sorted(zip(log.users_of_interactions().tolist(), log.items.tolist(), strict=True)) == sorted(
        row[:2] for row in interactions
    )
    clicked = sorted((user, item) for user, _, _, clicks in searches for item in clicks)
    assert sorted(zip(log.users_of_clicks().tolist(), log.clicks.values.tolist(), strict=True)) == clicked


def test_a_history_never_has_the_place_of_its_own_target():
    log, _ = log_of([(1 + row % 3, 1 + row, row // 6) for row in range(60)], [])
    targets = torch.arange(60)
    histories, _ = log.item_histories(log.users_of_interactions(), targets, 100)
    # Every item occurs once, so an item shows its position.
    assert not (histories == log.items[targets].long().unsqueeze(1)).any()
    assert (histories[0] == 0).all()
    assert sorted(histories[-1][histories[-1] > 0].tolist()) == list(range(3, 60, 3))


@pytest.mark.parametrize("start", [0.0, 1.6e9, 1.6e12])
def test_a_search_at_the_moment_of_the_target_is_hidden_and_one_before_is_not(start):
    interactions = [(1, 1, start), (1, 2, start + 2)]
    log, _ = log_of(interactions, [(1, 7, start + 1, []), (1, 8, start + 2, [3])])
    queries, _, lengths = log.search_histories(torch.tensor([1, 1]), log.search_ends[:2], 5, 5)
    assert lengths.tolist() == [0, 1]
    assert queries.tolist() == [[0], [7]]


def test_training_ends_before_the_first_evaluation_target():
    interactions = [(1, 1, 1), (1, 2, 2), (1, 3, 4), (1, 4, 4), (2, 5, 9), (2, 6, 10)]
    searches = [(1, 1, 1, []), (1, 2, 3, []), (1, 3, 4, []), (2, 4, 99, []), (3, 5, 99, [])]
    log, _ = log_of(interactions, searches)
    assert log.train_ends.tolist() == [0, 4, 6, 6]
    assert log.train_search_ends.tolist() == [0, 3, 4, 5]
    # User 1 has targets at positions 2 and 3, both at time 4; user 2 and user 3 have none.
    log.limit_training(torch.tensor([1, 1]), torch.tensor([3, 2]))
    assert log.train_ends.tolist() == [0, 2, 6, 6]
    assert log.train_search_ends.tolist() == [0, 2, 4, 5]


def test_without_any_search():
    log, _ = log_of([(1, 5, 1), (1, 6, 2)], [])
    queries, clicks, lengths = log.search_histories(torch.tensor([1, 1]), log.search_ends[:2], 5, 5)
    assert (queries.tolist(), clicks.tolist(), lengths.tolist()) == ([[0], [0]], [[[0]], [[0]]], [0, 0])
    log.limit_training(torch.tensor([1]), torch.tensor([1]))
    assert (log.train_ends.tolist(), log.train_search_ends.tolist()) == ([0, 1, 2, 2], [0, 0, 0, 0])


def size_in_bytes(log):
    tensors = [value for value in vars(log).values() if isinstance(value, torch.Tensor)]
    tensors += [log.clicks.values, log.clicks.offsets]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def test_memory_grows_with_events_alone():
    def size(n):
        rng = np.random.default_rng(0)
        users, times = rng.integers(1, N_USERS, size=n).tolist(), rng.integers(1000, size=n).tolist()
        interactions = [(user, 1, time) for user, time in zip(users, times, strict=True)]
        return size_in_bytes(log_of(interactions, [(*row, [1, 2]) for row in interactions])[0])

    # An interaction and a search with two clicks: at most a position, an id and an offset of eight bytes each.
    assert size(2000) - size(1000) <= 1000 * 8 * (2 + 2 + 2)
    assert size(2000) - size(1000) == size(3000) - size(2000)

import numpy as np
import pytest
from scipy.stats import chisquare

from recbole_gserec.data.events import build_event_log
from recbole_gserec.data.train_dataloaders import NegativeSampler


def training_items(files):
    """Items that each user interacted with or clicked before the validation target, and how often, by plain loops."""
    known, counts = {}, {}
    for user in {row[0] for row in files["inter"]} | {row[0] for row in files["search"]}:
        own = sorted((row for row in files["inter"] if row[0] == user), key=lambda row: row[2])
        trained = own[:-2]
        end = own[-2][2] if own else np.inf
        clicked = [click for row in files["search"] if row[0] == user and row[2] < end for click in row[3].split()]
        known[user] = {row[1] for row in trained} | set(clicked)
        for row in trained:
            counts[row[1]] = counts.get(row[1], 0) + 1
    return known, counts


@pytest.fixture
def built(random_dataset, prepare):
    return prepare()[1]


def drawn_tokens(dataset, negatives):
    return dataset.field2id_token["item_id"][negatives]


def test_all_items_but_those_of_the_training_part_are_drawn(built, random_rows):
    known, _ = training_items(random_rows)
    with_interaction = {row[1] for row in random_rows["inter"]}
    sampler = NegativeSampler(built.events, built.item_num)
    users = built.field2id_token["user_id"]
    negatives = sampler.sample(np.arange(1, len(users)), 4000, np.random.default_rng(0))
    assert negatives.shape == (len(users) - 1, 4000) and negatives.dtype == np.int64
    for user, row in zip(users[1:], drawn_tokens(built, negatives), strict=True):
        assert set(row) == with_interaction - known[user]
    # The validation and test targets are among them, where the user did not click them before.
    targets = {(row[0], row[1]) for row in random_rows["inter"]} - {(u, i) for u in known for i in known[u]}
    assert len(targets) > 60


@pytest.mark.parametrize("alpha", [1.0, 0.5, None])
def test_odds(built, random_rows, alpha):
    known, counts = training_items(random_rows)
    sampler = NegativeSampler(built.events, built.item_num, popularity=alpha)
    for user in ("u1", "searcher"):
        id_ = built.token2id("user_id", user)
        rows = drawn_tokens(built, sampler.sample(np.full(100, id_), 300, np.random.default_rng(1)))
        items, observed = np.unique(rows, return_counts=True)
        allowed = sorted({row[1] for row in random_rows["inter"]} - known[user])
        if alpha is not None:
            allowed = [item for item in allowed if item in counts]
        odds = np.array([1.0 if alpha is None else counts[item] ** alpha for item in allowed])
        assert items.tolist() == allowed
        assert chisquare(observed, odds / odds.sum() * observed.sum()).pvalue > 0.01


def test_the_same_generator_gives_the_same_negatives(built):
    sampler = NegativeSampler(built.events, built.item_num, popularity=1.0)
    users = np.arange(1, 30)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    first, again, other = (sampler.sample(users, 5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(np.random.get_state()[1], before)


def log_of(interactions):
    nothing = np.zeros(0, dtype=np.int64)
    users, items = np.array(interactions).T
    times = np.arange(len(items)).astype(float)
    clicks = (nothing.astype(np.int32), np.zeros(1, dtype=np.int64))
    return build_event_log(users.max() + 1, (users, items, times), (nothing, nothing, np.zeros(0)), clicks)[0]


def test_a_user_who_knows_all_items_still_gets_some():
    sampler = NegativeSampler(log_of([(1, 1), (1, 2), (2, 1)]), 3)
    negatives = sampler.sample(np.array([1, 2, 1]), 4, np.random.default_rng(0))
    assert np.isin(negatives, [1, 2]).all()
    assert (negatives[1] == 2).all()


def test_the_largest_random_number_is_the_last_item():
    class Largest:
        def random(self, size):
            return np.full(size, np.nextafter(1, 0))

    rng = np.random.default_rng(0)
    log = log_of([(1, 1), *((2, item) for item in rng.integers(1, 400, size=3000)), (2, 400)])
    for alpha in (0.1, 0.3, 0.7):
        assert NegativeSampler(log, 401, popularity=alpha).sample(np.array([1]), 3, Largest()).tolist() == [[400] * 3]

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from recbole_gserec.preprocess import code_agreement as module
from recbole_gserec.preprocess.code_agreement import (
    activity_strata,
    chance_pairs,
    code_agreement,
    jaccard,
    lift_interval,
    node_agreement,
    prefix_groups,
    sharing_pairs,
)


def matrix(item_sets, n_items):
    rows = np.repeat(np.arange(len(item_sets)), [len(items) for items in item_sets])
    columns = [item for items in item_sets for item in sorted(items)]
    return sparse.csr_matrix((np.ones(len(rows), np.int32), (rows, columns)), (len(item_sets), n_items))


def random_sets(rng, sizes, n_items):
    return [set(rng.choice(n_items, size, replace=False).tolist()) for size in sizes]


def similarity(one, other):
    return len(one & other) / len(one | other)


def everyone(n):
    return np.ones(n, dtype=bool)


def agreement_of(groups, item_sets, n_items, **options):
    """Of users with one code each."""
    return code_agreement(np.array(groups)[:, None], everyone(len(groups)), matrix(item_sets, n_items), **options)


@pytest.fixture(scope="module")
def small():
    """40 users with 3 codes each; some have no codes and some no items."""
    rng = np.random.default_rng(3)
    codes = rng.integers(3, size=(40, 3))
    sets = random_sets(rng, rng.integers(0, 9, size=40), 25)
    coded = rng.random(40) < 0.9
    return codes, coded, sets


def test_all_pairs_against_brute_force(small):
    codes, coded, sets = small
    users = [user for user in range(40) if coded[user] and sets[user]]
    assert len(users) < 35
    result = code_agreement(codes, coded, matrix(sets, 25))
    rules = [lambda one, other, n=n: (codes[one, :n] == codes[other, :n]).all() for n in (1, 2, 3)]
    rules.append(lambda one, other: (codes[one] == codes[other]).any())
    sizes = []
    for rule, found in zip(rules, [*result.prefixes, result.neighbours], strict=True):
        pairs = [pair for pair in combinations(users, 2) if rule(*pair)]
        values = [similarity(sets[one], sets[other]) for one, other in pairs]
        assert found.n_pairs == len(pairs)
        assert found.n_users == len({user for pair in pairs for user in pair})
        assert found.jaccard == pytest.approx(sum(values) / len(values))
        assert found.common == pytest.approx(sum(value > 0 for value in values) / len(values))
        sizes.append(len(pairs))
    # The rules differ, so that a mix-up of theirs would be seen.
    assert len(set(sizes)) == 4 and min(sizes) >= 5


def test_chance_against_all_exchanges(monkeypatch):
    """The mean of chance pairs is that of all second members in all other pairs of users as active."""
    monkeypatch.setattr(module, "N_REPAIRINGS", 1000)
    rng = np.random.default_rng(4)
    sizes = [2] * 24 + [12] * 24
    sets = random_sets(rng, sizes, 30)
    groups = rng.integers(6, size=48)
    pairs = [pair for pair in combinations(range(48), 2) if groups[pair[0]] == groups[pair[1]]]
    turned = pairs + [pair[::-1] for pair in pairs]
    weights, total = 0.0, 0.0
    for first, second in turned:
        for other in [other for _, other in turned if sizes[other] == sizes[second] and other != first]:
            share = 1 / sum(sizes[member] == sizes[second] for _, member in turned)
            total, weights = total + share * similarity(sets[first], sets[other]), weights + share
    (found,) = agreement_of(groups, sets, 30).prefixes
    assert found.chance_jaccard == pytest.approx(total / weights, rel=0.005)
    assert found.lift == found.jaccard / found.chance_jaccard


def test_users_who_share_codes_and_items_are_found():
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(20), 15)
    # Of each user's 8 items 6 are among the 12 of the group.
    sets = [set((12 * group + rng.choice(12, 6, replace=False)).tolist()) for group in groups]
    sets = [own | set(rng.integers(240, size=2).tolist()) for own in sets]
    (found,) = agreement_of(groups, sets, 240).prefixes
    assert found.interval[0] > 8
    assert found.interval[0] < found.lift < found.interval[1] < 20
    assert found.common > 0.95 > 0.3 > found.chance_common


def test_the_first_of_two_codes_tells_more_where_the_second_is_noise():
    rng = np.random.default_rng(6)
    taste = rng.integers(4, size=400)
    sets = [set((10 * group + rng.choice(10, 4, replace=False)).tolist()) for group in taste]
    codes = np.stack([taste, rng.integers(4, size=400)], axis=1)
    found = code_agreement(codes, everyone(400), matrix(sets, 40))
    first, both = found.prefixes
    assert first.lift == pytest.approx(4, rel=0.15) and both.lift == pytest.approx(4, rel=0.15)
    # Of the pairs with a code in common, about 4 in 7 share the taste, against 1 in 4.
    assert found.neighbours.lift == pytest.approx(16 / 7, rel=0.1)


@pytest.mark.parametrize("n_pairs", [500, 20_000])
def test_random_codes_come_to_chance(n_pairs):
    covered, lifts = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sets = random_sets(rng, rng.integers(1, 20, size=120), 60)
        (found,) = agreement_of(rng.integers(5, size=120), sets, 60, n_pairs=n_pairs, seed=seed).prefixes
        covered += found.interval[0] <= 1 <= found.interval[1]
        lifts.append(found.lift)
        assert found.interval[1] / found.interval[0] < 1.6
    assert covered >= 36
    assert np.mean(lifts) == pytest.approx(1, abs=0.02)


def test_the_interval_holds_the_lift_of_new_users_as_often_as_it_says():
    """Users of 10 tastes, drawn anew 100 times; codes are right for 7 of 10 users."""
    taste_items = np.random.default_rng(9).integers(300, size=(10, 20))
    lifts, intervals = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        tastes, sizes = rng.integers(10, size=150), rng.integers(1, 16, size=150)
        sets = []
        for taste, size in zip(tastes, sizes, strict=True):
            own, any_items = rng.choice(taste_items[taste], size), rng.integers(300, size=size)
            sets.append(set(np.where(rng.random(size) < 0.5, own, any_items).tolist()))
        codes = np.where(rng.random(150) < 0.7, tastes, rng.integers(10, size=150))
        (found,) = agreement_of(codes, sets, 300, n_pairs=800, seed=seed).prefixes
        lifts.append(found.lift)
        intervals.append(found.interval)
    low, high = np.log(intervals).T
    true = np.log(lifts).mean()
    assert true > np.log(1.5)
    assert ((low < true) & (true < high)).mean() >= 0.88
    # Half the width is 1.96 standard deviations of the lift from sample to sample.
    assert np.mean(high - low) / (2 * 1.96) == pytest.approx(np.log(lifts).std(), rel=0.25)


def test_codes_that_only_tell_who_is_active_come_to_chance():
    rng = np.random.default_rng(7)
    sizes = np.where(np.arange(200) % 2, 40, 4)
    sets = random_sets(rng, sizes, 400)
    (found,) = agreement_of(sizes > 20, sets, 400).prefixes
    assert found.lift == pytest.approx(1, abs=0.03)
    assert found.interval[0] < 1 < found.interval[1]
    # Random pairs of all users would have made the codes look good.
    naive = np.mean([similarity(sets[one], sets[other]) for one, other in combinations(range(200), 2)])
    assert found.jaccard / naive > 1.3


def test_the_order_of_users_does_not_matter(small):
    codes, coded, sets = small
    order = np.random.default_rng(0).permutation(40)
    before = code_agreement(codes, coded, matrix(sets, 25))
    after = code_agreement(codes[order], coded[order], matrix([sets[user] for user in order], 25))
    for one, other in zip([*before.prefixes, before.neighbours], [*after.prefixes, after.neighbours], strict=True):
        assert one[:2] == other[:2]
        assert one[2:4] == pytest.approx(other[2:4])


def test_same_seed_same_result(small):
    codes, coded, sets = small
    items = matrix(sets, 25)
    results = [code_agreement(codes, coded, items, n_pairs=50, seed=seed) for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]


def test_nobody_shares():
    codes = np.array([[0, 1], [0, 2], [1, 0]])
    found = code_agreement(codes, everyone(3), matrix([{0}, {0}, {0}], 1))
    assert found.prefixes[1] is None
    # Two users are too few for chance.
    assert found.prefixes[0][:4] == (1, 2, 1.0, 1.0)
    assert found.prefixes[0].lift is found.prefixes[0].interval is None


@pytest.mark.parametrize("coded", [[True, True], [False, True], [False, False]])
def test_users_without_items_or_codes_are_left_out(coded):
    found = code_agreement(np.zeros((2, 2), dtype=np.int64), np.array(coded), matrix([{0}, set()], 1))
    assert found == ([None, None], None)


def test_no_items_in_common():
    rng = np.random.default_rng(0)
    (found,) = agreement_of(np.arange(60) // 2, [{user} for user in range(60)], 60).prefixes
    assert (found.jaccard, found.chance_jaccard, found.lift, found.interval) == (0, 0, None, None)
    # Only users of different groups have items in common.
    sets = [{user % 2, 2 + user} for user in range(60)]
    (found,) = agreement_of(rng.permutation(30)[np.arange(60) // 2], sets, 62).prefixes
    assert found.lift == 0 and found.chance_jaccard > 0 and found.interval is None


def test_prefix_groups():
    codes = np.array([[5, 1], [0, 1], [5, 1], [5, 0]])
    assert prefix_groups(codes).tolist() == [[1, 2], [0, 0], [1, 2], [1, 1]]


def test_sharing_pairs_are_drawn_uniformly_from_groups_of_all_sizes():
    groups = np.array([0, 1, 0, 2, 1, 0, 0, 1, 3, 3])
    expected = {pair for pair in combinations(range(10), 2) if groups[pair[0]] == groups[pair[1]]}
    assert len(expected) == 10
    generator = np.random.default_rng(1)
    counts = Counter(
        tuple(sorted(pair)) for _ in range(1000) for pair in sharing_pairs(groups[:, None], 3, generator).tolist()
    )
    assert set(counts) == expected
    assert sum(counts.values()) == 3000
    # Each pair is expected 300 times; draws of 3 without repetition vary less than independent ones.
    assert sum((count - 300) ** 2 / 300 for count in counts.values()) < 21.7  # the 99 % quantile with 9 degrees


def test_pairs_that_share_several_codes_are_drawn_no_more_often_than_others():
    groups = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 1], [1, 1, 2], [1, 0, 3], [2, 2, 0]])
    shared = {pair: (groups[pair[0]] == groups[pair[1]]).sum() for pair in combinations(range(6), 2)}
    expected = {pair for pair, count in shared.items() if count}
    assert len(expected) == 9 and shared[0, 1] == 3
    generator = np.random.default_rng(2)
    draws = [sharing_pairs(groups, 1, generator) for _ in range(3600)]
    counts = Counter(tuple(sorted(pair)) for draw in draws for pair in draw.tolist())
    assert set(counts) == expected
    mean = sum(counts.values()) / 9
    assert mean > 200
    assert sum((count - mean) ** 2 / mean for count in counts.values()) < 20.1  # the 99 % quantile with 8 degrees
    assert {tuple(sorted(pair)) for pair in sharing_pairs(groups, 99, generator).tolist()} == expected


def test_pairs_of_a_group_too_large_to_list():
    n = 300_000
    pairs = sharing_pairs(np.zeros((n, 1), dtype=np.int64), 20_000, np.random.default_rng(0))
    assert pairs.shape == (20_000, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all() and pairs.min() >= 0 and pairs.max() < n
    # Members are uniform: the mean of 40,000 has a standard error of n / sqrt(12 * 40,000).
    assert pairs.mean() == pytest.approx(n / 2, abs=4 * n / np.sqrt(12 * 40_000))


def test_numbers_of_pairs_are_exact_where_floats_are_not():
    high = np.array([1, 2, 3, 10**5, 2 * 10**8, 10**9])
    for offset, expected in ((0, (np.zeros_like(high), high)), (-1, (high - 2, high - 1))):
        keep = high + offset > 0
        found = module._pair_of_number((high * (high - 1) // 2 + offset)[keep])
        assert [part.tolist() for part in found] == [part[keep].tolist() for part in expected]


def test_chance_pairs_have_the_same_users_and_activities():
    rng = np.random.default_rng(0)
    strata = np.array([0] * 30 + [1] * 30)
    pairs = np.sort(rng.permutation(60).reshape(-1, 2), axis=1)
    chance, origins = chance_pairs(pairs, strata, rng)
    assert (chance[:, 0] != chance[:, 1]).all()
    assert (chance[:, [0]] == pairs[origins[:, 0]]).any(1).all()
    assert (chance[:, [1]] == pairs[origins[:, 1]]).any(1).all()
    n_left_out = module.N_REPAIRINGS * len(pairs) - len(chance)
    assert 0 <= n_left_out < 0.2 * module.N_REPAIRINGS * len(pairs)
    kinds, chance_kinds = (Counter(map(tuple, np.sort(strata[both], axis=1).tolist())) for both in (pairs, chance))
    # Only pairs of two users of one stratum can come out as one user with itself.
    assert chance_kinds[0, 1] == module.N_REPAIRINGS * kinds[0, 1]
    assert sum(chance_kinds.values()) + n_left_out == module.N_REPAIRINGS * sum(kinds.values())
    known = set(map(tuple, pairs.tolist()))
    assert np.mean([tuple(sorted(pair)) in known for pair in chance.tolist()]) < 0.2


def test_activity_strata():
    n_items = np.array([1] * 30 + [2] * 5 + [3] * 15 + [100] * 20 + [1000] * 3)
    strata = activity_strata(n_items)
    assert [set(strata[n_items == n].tolist()) for n in (1, 2, 3, 100, 1000)] == [{0}, {1}, {1}, {2}, {2}]
    assert set(activity_strata(np.array([1, 50, 700])).tolist()) == {0}


def test_jaccard_over_several_chunks(monkeypatch):
    monkeypatch.setattr(module, "_PAIRS_PER_CHUNK", 7)
    rng = np.random.default_rng(1)
    sets = random_sets(rng, rng.integers(1, 6, size=20), 8)
    pairs = rng.integers(20, size=(50, 2))
    for kind in (sparse.csr_matrix, sparse.csr_array):
        found = jaccard(pairs, kind(matrix(sets, 8)))
        assert found == pytest.approx([similarity(sets[one], sets[other]) for one, other in pairs])


def test_interval_against_a_sum_over_all_twos_of_pairs():
    rng = np.random.default_rng(8)
    pairs = np.array(list(combinations(range(12), 2)))[rng.permutation(66)[:30]]
    # Some users are alike to all, so that pairs with one of them in common are alike too.
    values, chance_values = rng.random(12)[pairs].sum(1) ** 2, rng.random(90)
    origins, strata = rng.integers(30, size=(90, 2)), rng.integers(2, size=90)
    usual = [chance_values[strata == stratum].mean() for stratum in range(2)]
    shares = []
    for index in range(30):
        share = (values[index] / values.mean() - 1) / 30
        for (first, second), stratum, value in zip(origins.tolist(), strata, chance_values, strict=True):
            share -= (first == index) * (value - chance_values.mean()) / chance_values.mean() / 90
            share -= (second == index) * (value - usual[stratum]) / chance_values.mean() / 90
        shares.append(share)
    rows = list(zip(map(set, pairs.tolist()), shares, strict=True))
    variance = sum(one * other for members, one in rows for others, other in rows if members & others)
    assert variance > 1.2 * np.square(shares).sum()
    lift, width = values.mean() / chance_values.mean(), 1.959964 * np.sqrt(variance)
    expected = (lift * np.exp(-width), lift * np.exp(width))
    assert lift_interval(pairs, values, origins, strata, chance_values) == pytest.approx(expected)


def weighted_cosine(one, other, weight):
    lengths = [math.sqrt(sum(weight[item] ** 2 for item in items)) for items in (one, other)]
    return sum(weight[item] ** 2 for item in one & other) / math.prod(lengths) if all(lengths) else 0


def plain_nodes(node_of, users, sets, targets, measured=None):
    """Count the figures of one kind of nodes, user by user; ``node_of`` tells the node of a user."""
    measured = users if measured is None else measured
    with_items = [user for user in users if sets[user]]
    counts = Counter(item for user in with_items for item in sets[user])
    weight = {item: math.log(len(with_items) / count) for item, count in counts.items()}
    nodes = Counter(map(node_of, users))
    means, chances, found, chance_found, n_found = [], [], [], [], 0
    for user in measured:
        others = [other for other in with_items if other != user]
        sharers = [other for other in others if node_of(other) == node_of(user)]
        if not (sets[user] and sharers):
            continue
        for mean, group in ((means, sharers), (chances, others)):
            mean.append(np.mean([weighted_cosine(sets[user], sets[other], weight) for other in group]))
        if targets[user] >= 0:
            for share, group in ((found, sharers), (chance_found, others)):
                share.append(np.mean([targets[user] in sets[other] for other in group]))
            n_found += sum(targets[user] in sets[other] for other in sharers)
    return (
        sum(count > 1 for count in nodes.values()),
        np.mean([nodes[node_of(user)] > 1 for user in measured]),
        np.mean(means),
        np.mean(chances),
        len(found),
        n_found,
        np.mean(found),
        np.mean(chance_found),
    )


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
def test_nodes_against_plain_counts(small, kind):
    codes, coded, sets = small
    rng = np.random.default_rng(5)
    # Some have no validation item, and some have had theirs in training.
    targets = np.where(rng.random(40) < 0.8, rng.integers(25, size=40), -1)
    assert any(target in items for target, items in zip(targets.tolist(), sets, strict=True))
    users = np.flatnonzero(coded).tolist()
    found = node_agreement(codes, coded, kind(matrix(sets, 25)), targets)
    assert (found.n_users, found.n_drawn) == (len(users), len(users)) and len(users) < 40
    for level in range(3):
        for nodes, node_of in (
            (found.levels, lambda user, level=level: codes[user, level]),
            (found.prefixes, lambda user, level=level: tuple(codes[user, : level + 1])),
        ):
            assert nodes[level] == pytest.approx(plain_nodes(node_of, users, sets, targets))
    assert found.levels[0] == found.prefixes[0] and found.levels[2] != found.prefixes[2]
    assert found.prefixes[2].shared < found.levels[2].shared == 1


def test_nodes_by_hand():
    """Users 0 and 1 share a node and an item; user 2 shares no node, and has the validation item of user 0."""
    sets = [{0, 1}, {1}, {2}]
    found = node_agreement(np.array([[4], [4], [7]]), everyone(3), matrix(sets, 3), np.array([2, 0, -1]))
    (node,) = found.prefixes
    common, rare = math.log(3 / 2), math.log(3)
    cosine = common / math.hypot(common, rare)
    # Of two sharers, user 1 finds its item with user 0. Of two others, one has the item of each.
    assert node == pytest.approx((1, 2 / 3, cosine, cosine / 2, 2, 1, 1 / 2, 1 / 2))


def test_a_sample_of_users_meets_sharers_among_all(small):
    codes, coded, sets = small
    targets = np.random.default_rng(5).integers(25, size=40)
    users = np.flatnonzero(coded)
    found = node_agreement(codes, coded, matrix(sets, 25), targets, n_users=12, seed=3)
    assert (found.n_users, found.n_drawn) == (len(users), 12)
    drawn = users[np.random.default_rng(3).permutation(len(users))[:12]].tolist()
    for length in (1, 2):
        expected = plain_nodes(lambda user, n=length: tuple(codes[user, :n]), users.tolist(), sets, targets, drawn)
        assert found.prefixes[length - 1] == pytest.approx(expected)
    assert node_agreement(codes, coded, matrix(sets, 25), targets, n_users=12, seed=4) != found


def test_random_nodes_come_to_chance():
    rng = np.random.default_rng(0)
    sets, codes = random_sets(rng, rng.integers(1, 20, size=2000), 60), rng.integers(10, size=(2000, 1))
    (node,) = node_agreement(codes, everyone(2000), matrix(sets, 60), rng.integers(60, size=2000)).levels
    assert node.similarity / node.chance_similarity == pytest.approx(1, abs=0.02)
    assert node.found / node.chance_found == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("coded", [[False, False], [True, False], [True, True]])
def test_nodes_where_there_is_nothing_to_compare(coded):
    """Nobody has a validation item, and user 1 has no items."""
    codes, items = np.zeros((2, 2), dtype=np.int64), matrix([{0}, set()], 1)
    found = node_agreement(codes, np.array(coded), items, np.array([-1, -1]))
    shared = float(all(coded))
    assert found.levels == found.prefixes == [(int(shared), shared, None, None, 0, 0, None, None)] * 2

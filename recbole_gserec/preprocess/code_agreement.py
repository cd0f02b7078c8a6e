"""Tests whether the user-code graph connects similar users: do users who share codes also share items?

Section 4.1.3 of GSERec connects users through shared codes because such users should be similar. Similarity is measured
here by the Jaccard similarity of two users' sets of training items, and compared with chance.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, csr_matrix

N_PAIRS = 20_000
# Chance pairs are cheap, and common items are rare among them: more pairs make the lift's denominator more exact.
N_REPAIRINGS = 10
# Users whose numbers of items differ by less than this factor count as equally active ...
_ACTIVITY_STEP = 1.25
# ... and exchanging them requires at least this many of them.
_FEWEST_USERS = 20
_PAIRS_PER_CHUNK = 2048
_Z_95 = 1.959964


class Agreement(NamedTuple):
    """Pairs of users who share codes, and the same users paired by chance.

    Attributes:
        n_pairs: Number of pairs.
        n_users: Number of users in the pairs.
        common: Share of the pairs with at least one common item.
        jaccard: Mean similarity of the pairs' sets of items.
        chance_common: The same as ``common``, for chance pairs.
        chance_jaccard: The same as ``jaccard``, for chance pairs.
        lift: ``jaccard`` divided by ``chance_jaccard``; ``None`` if no chance pair has a common item, or there are
            fewer than 20 users.
        interval: 95 % interval of the lift; ``None`` if there is no lift or it is 0.
    """

    n_pairs: int
    n_users: int
    common: float
    jaccard: float
    chance_common: float
    chance_jaccard: float
    lift: float | None
    interval: tuple[float, float] | None


class CodeAgreement(NamedTuple):
    """The agreement of one side; ``None`` if no two users share codes.

    Attributes:
        prefixes: Agreement of users who share their first 1, 2, ..., ``L`` codes.
        neighbours: Agreement of users who share a code at any level, that is, neighbours in the user-code graph.
    """

    prefixes: list[Agreement | None]
    neighbours: Agreement | None


def code_agreement(
    codes: np.ndarray, coded: np.ndarray, items: csr_array | csr_matrix, *, n_pairs: int = N_PAIRS, seed: int = 0
) -> CodeAgreement:
    """Compare users who share codes with chance.

    Users without codes or without items are left out.

    Args:
        codes: One side's codes, int64 ``[U, L]``.
        coded: bool ``[U]``, which users have codes.
        items: 0/1, ``[U, n_items]``: each user's set of training items.
        n_pairs: Number of pairs to draw for each row of the result; all pairs if there are fewer.
        seed: Random seed.
    """
    users = np.flatnonzero(coded & (np.diff(items.indptr) > 0))
    prefixes = prefix_groups(codes[users])
    groupings = [prefixes[:, [level]] for level in range(prefixes.shape[1])] + [_dense(codes[users])]
    results = []
    for grouping, generator in zip(groupings, np.random.default_rng(seed).spawn(len(groupings)), strict=True):
        pairs = users[sharing_pairs(grouping, n_pairs, generator)]
        results.append(_compare(pairs, items, generator) if len(pairs) else None)
    return CodeAgreement(results[:-1], results[-1])


def prefix_groups(codes: np.ndarray) -> np.ndarray:
    """Number the groups of users who share their first codes.

    Args:
        codes: int64 ``[U, L]``.

    Returns:
        int64 ``[U, L]``: the group by the first code, by the first two, and so on, counted from 0 without gaps.
    """
    groups = np.empty(codes.shape, dtype=np.int64)
    group = np.zeros(len(codes), dtype=np.int64)
    for level, level_codes in enumerate(codes.T):
        keys = group * (level_codes.max(initial=0) + 1) + level_codes
        groups[:, level] = group = np.unique(keys, return_inverse=True)[1]
    return groups


def _dense(codes: np.ndarray) -> np.ndarray:
    """Renumber each level's codes from 0 without gaps; the shape stays ``[U, L]``."""
    return np.stack([np.unique(level_codes, return_inverse=True)[1] for level_codes in codes.T], axis=1)


def sharing_pairs(groups: np.ndarray, n_pairs: int, generator: np.random.Generator) -> np.ndarray:
    """Draw pairs of users in the same group, uniformly and without repetition.

    All such pairs are numbered, group after group. Only the pairs of drawn numbers are made, because a large group has
    too many pairs to list.

    Args:
        groups: int64 ``[U, G]``, the group of each user in each of ``G`` groupings, counted from 0 without gaps.
        n_pairs: Number of pairs; all pairs in random order if there are fewer.
        generator: Source of randomness.

    Returns:
        int64 ``[n, 2]``, rows of ``groups``. With several groupings, ``n`` may be slightly below ``n_pairs`` although
        there are more pairs.
    """
    n_groupings = groups.shape[1]
    members = np.concatenate([np.argsort(grouping, kind="stable") for grouping in groups.T])
    sizes_in = [np.bincount(grouping) for grouping in groups.T]
    grouping_of = np.repeat(np.arange(n_groupings), [len(part) for part in sizes_in])
    sizes = np.concatenate(sizes_in)
    pairs_in = sizes * (sizes - 1) // 2
    ends = pairs_in.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    if total == 0:
        return np.empty((0, 2), dtype=np.int64)
    drawn = generator.choice(total, min(total, n_pairs * n_groupings), replace=False)
    group = np.searchsorted(ends, drawn, side="right")
    low, high = _pair_of_number(drawn - (ends - pairs_in)[group])
    pairs = members[(sizes.cumsum() - sizes)[group][:, None] + np.stack([low, high], axis=1)]
    # A pair that shares several groups has several numbers; only the number in the first of these groups counts.
    shared = groups[pairs[:, 0]] == groups[pairs[:, 1]]
    return pairs[shared.argmax(1) == grouping_of[group]][:n_pairs]


def _pair_of_number(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the members of numbered pairs, in the order (0, 1), (0, 2), (1, 2), (0, 3), ...."""
    high = ((1 + np.sqrt(1 + 8.0 * numbers)) / 2).astype(np.int64)
    # A root slightly below a whole number may be rounded up to it.
    high -= high * (high - 1) // 2 > numbers
    return numbers - high * (high - 1) // 2, high


def _compare(pairs: np.ndarray, items: csr_array | csr_matrix, generator: np.random.Generator) -> Agreement:
    users, pairs = np.unique(pairs, return_inverse=True)
    pairs = pairs.reshape(-1, 2)
    strata = activity_strata(np.diff(items.indptr)[users])
    chance, origins = chance_pairs(pairs, strata, generator)
    similarity, chance_similarity = (jaccard(users[both], items) for both in (pairs, chance))
    mean, chance_mean = (float(values.mean()) if len(values) else 0.0 for values in (similarity, chance_similarity))
    # With few users, exchanges often return the original pairs.
    has_lift = chance_mean > 0 and len(users) >= _FEWEST_USERS
    interval = None
    if has_lift and mean:
        interval = lift_interval(pairs, similarity, origins, strata[chance[:, 1]], chance_similarity)
    return Agreement(
        n_pairs=len(pairs),
        n_users=len(users),
        common=float((similarity > 0).mean()),
        jaccard=mean,
        chance_common=float((chance_similarity > 0).mean()) if len(chance) else 0.0,
        chance_jaccard=chance_mean,
        lift=mean / chance_mean if has_lift else None,
        interval=interval,
    )


def activity_strata(n_items: np.ndarray) -> np.ndarray:
    """Group users with similar numbers of items.

    Args:
        n_items: int ``[U]``, at least 1.

    Returns:
        int64 ``[U]``, the stratum of each user. Each stratum has at least 20 users, if there are as many.
    """
    steps = (np.log(n_items) / np.log(_ACTIVITY_STEP)).astype(np.int64)
    _, step, counts = np.unique(steps, return_inverse=True, return_counts=True)
    stratum_of = np.zeros(len(counts), dtype=np.int64)
    size = stratum = 0
    for index, count in enumerate(counts):
        if size >= _FEWEST_USERS and counts[index:].sum() >= _FEWEST_USERS:
            stratum, size = stratum + 1, 0
        stratum_of[index] = stratum
        size += count
    return stratum_of[step]


def chance_pairs(
    pairs: np.ndarray, strata: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pair the same users by chance: second members are exchanged between pairs, for users with similar activity.

    Active users share more items with everybody, most of all with each other. If second members were exchanged freely,
    codes that only reflect activity would seem to connect similar users, because they pair active users and chance
    would not. Here, the activities in each chance pair are those of a pair that shares codes.

    Chance ignores codes, so some chance pairs share them. Without these pairs, there would be nothing to compare with
    if codes only reflect activity, or if all users share their codes; the lift is then 1.

    Args:
        pairs: int64 ``[n, 2]`` users.
        strata: int64 ``[U]``, the stratum of each user.
        generator: Source of randomness.

    Returns:
        Users of the chance pairs, int64 ``[m, 2]``, and the rows of ``pairs`` they come from, int64 ``[m, 2]``. ``m``
        is several times ``n``; pairs of a user with itself are left out.
    """
    drawn, indices_of = [], []
    for _ in range(N_REPAIRINGS):
        turned = np.where(generator.random((len(pairs), 1)) < 0.5, pairs, pairs[:, ::-1])
        first, second = turned.T
        stratum = strata[second]
        indices, shuffled = np.argsort(stratum, kind="stable"), np.lexsort((generator.random(len(pairs)), stratum))
        drawn.append(np.stack([first[indices], second[shuffled]], axis=1))
        indices_of.append(np.stack([indices, shuffled], axis=1))
    chance, origins = np.concatenate(drawn), np.concatenate(indices_of)
    distinct = chance[:, 0] != chance[:, 1]
    return chance[distinct], origins[distinct]


def jaccard(pairs: np.ndarray, items: csr_array | csr_matrix) -> np.ndarray:
    """Compute the Jaccard similarity of the item sets of user pairs, int64 ``[n, 2]`` with items each; ``[n]``."""
    n_items = np.diff(items.indptr)
    common = np.empty(len(pairs))
    for start in range(0, len(pairs), _PAIRS_PER_CHUNK):
        chunk = slice(start, start + _PAIRS_PER_CHUNK)
        first, second = pairs[chunk].T
        common[chunk] = np.asarray(items[first].multiply(items[second]).sum(axis=1)).ravel()
    return common / (n_items[pairs].sum(axis=1) - common)


def lift_interval(
    pairs: np.ndarray,
    similarity: np.ndarray,
    origins: np.ndarray,
    chance_strata: np.ndarray,
    chance_similarity: np.ndarray,
) -> tuple[float, float]:
    """Compute a 95 % interval for the ratio of the two means, neither of which is 0.

    Two pairs with a common user are dependent. Therefore the variance of the ratio's logarithm is summed over all such
    combinations of two pairs, not only over single pairs (the variance robust to dyadic clustering; Aronow, Samii and
    Assenova, Political Analysis 23(4), 2015, https://arxiv.org/abs/1312.3398). Resampling users would multiply two
    users' weights in each pair, which widens the interval by up to the square root of three if most users are in few
    pairs. Resampling pairs would treat them as independent, and the interval would be too narrow.

    Args:
        pairs: int64 ``[n, 2]`` users, counted from 0 without gaps, without repeated pairs.
        similarity: ``[n]``.
        origins: int64 ``[m, 2]``, the pairs that the first and the second member of each chance pair come from.
        chance_strata: int64 ``[m]``, the stratum of the second members, within which they were exchanged.
        chance_similarity: ``[m]``.

    Returns:
        Lower and upper bound.
    """
    mean, chance_mean = similarity.mean(), chance_similarity.mean()
    # Contribution of each pair to the logarithm of the ratio. A pair also contributes to the denominator: by its first
    # member, who was paired with others, and by its second, who was given to others. This removes the influence of
    # active users, and of users with common taste, from the uncertainty.
    chance = chance_similarity / chance_mean
    usual = np.bincount(chance_strata, weights=chance) / np.maximum(np.bincount(chance_strata), 1)
    of_chance = np.bincount(origins[:, 0], weights=chance - 1, minlength=len(pairs))
    of_chance += np.bincount(origins[:, 1], weights=chance - usual[chance_strata], minlength=len(pairs))
    shares = (similarity / mean - 1) / len(pairs) - of_chance / len(chance)

    by_user, by_pair = np.bincount(pairs.ravel(), weights=np.repeat(shares, 2)), np.square(shares).sum()
    # A pair is in the squares of both its users, but must count once. In very small data the difference can be too
    # small, so pairs are at least as uncertain as independent ones.
    width = _Z_95 * np.sqrt(max(np.square(by_user).sum() - by_pair, by_pair))
    lift = mean / chance_mean
    return float(lift * np.exp(-width)), float(lift * np.exp(width))


N_USERS = 100_000
"""Users whose nodes are measured; a sample if there are more."""


class NodeAgreement(NamedTuple):
    """Users and those who share their node, for nodes of one kind: codes of a level, or prefixes of a length.

    The mean over a user's sharers is taken first, and then the mean over users, so each user counts once. Users without
    training items count in ``shared`` alone.

    Attributes:
        n_nodes: Number of nodes that several users have.
        shared: Share of the users with codes whose node another user has, too.
        similarity: Mean similarity of users to the others with their node; ``None`` if there are none.
        chance_similarity: Mean similarity of the same users to all others with codes.
        n_targets: Number of these users who have a validation item.
        n_found: Number of pairs of such a user and a sharer who has that item in training.
        found: Share of the sharers who have it; ``None`` if nobody has a validation item.
        chance_found: Share of all others with codes who have it.
    """

    n_nodes: int
    shared: float
    similarity: float | None
    chance_similarity: float | None
    n_targets: int
    n_found: int
    found: float | None
    chance_found: float | None


class NodesAgreement(NamedTuple):
    """The nodes of one side.

    Attributes:
        levels: For codes of each level by themselves (``code_nodes: level``).
        prefixes: For the first 1, 2, ..., ``L`` codes (``code_nodes: prefix``).
        n_users: Number of users with codes.
        n_drawn: Number of those who were measured; their sharers are sought among all.
    """

    levels: list[NodeAgreement]
    prefixes: list[NodeAgreement]
    n_users: int
    n_drawn: int


def node_agreement(
    codes: np.ndarray,
    coded: np.ndarray,
    items: csr_array | csr_matrix,
    validation_items: np.ndarray,
    *,
    n_users: int = N_USERS,
    seed: int = 0,
) -> NodesAgreement:
    """Measure how similar users are who share a node of the user-code graph, for both kinds of nodes.

    Similarity is the cosine of two users' training items, each with the weight log(users / users with the item). Memory
    grows with the training interactions, and not with pairs of users.

    Args:
        codes: One side's codes, int64 ``[U, L]``.
        coded: bool ``[U]``, which users have codes.
        items: 0/1, ``[U, n_items]``: each user's set of training items.
        validation_items: int64 ``[U]``, column of each user's validation item; -1 for none.
        n_users: Most users to measure.
        seed: Seed of their draw.
    """
    users = np.flatnonzero(coded)
    drawn = np.zeros(len(users), dtype=bool)
    generator = np.random.default_rng(seed)
    drawn[generator.permutation(len(users))[:n_users]] = True
    measure = _NodeMeasure(items[users], validation_items[users], drawn)
    levels, prefixes = (
        [measure(groups) for groups in numbered.T] for numbered in (_dense(codes[users]), prefix_groups(codes[users]))
    )
    return NodesAgreement(levels, prefixes, len(users), int(drawn.sum()))


class _NodeMeasure:
    """What the measures of all groupings of the users with codes have in common."""

    def __init__(self, items: csr_array | csr_matrix, targets: np.ndarray, drawn: np.ndarray):
        self.items, self.targets, self.drawn = csr_array(items), targets, drawn
        # Before the weighted matrix shares its indices.
        self.items.sort_indices()
        self.has_items = np.diff(items.indptr) > 0
        self.popularity = np.bincount(items.indices, minlength=items.shape[1])
        weights = np.log(max(self.has_items.sum(), 1) / np.maximum(self.popularity, 1))[self.items.indices]
        rows = np.repeat(np.arange(items.shape[0]), np.diff(self.items.indptr))
        lengths = np.sqrt(np.bincount(rows, np.square(weights), minlength=items.shape[0]))
        # Where everybody has a user's items, they say nothing, and the user is similar to nobody.
        values = weights / np.where(lengths > 0, lengths, 1)[rows]
        self.vectors = csr_array((values, self.items.indices, self.items.indptr), self.items.shape)
        targeted = np.flatnonzero(targets >= 0)
        self.has_own = np.zeros(len(targets))
        self.has_own[targeted] = _entries(self.items, targeted, targets[targeted])

    def __call__(self, groups: np.ndarray) -> NodeAgreement:
        """Measure the users' groups, int64 ``[n]``, numbered from 0 without gaps."""
        sizes = np.bincount(groups)
        shared = (sizes[groups] > 1)[self.drawn]
        n_sharers = np.bincount(groups, self.has_items, len(sizes))[groups] - self.has_items
        users = np.flatnonzero(self.drawn & self.has_items & (n_sharers > 0))
        n_others = max(self.has_items.sum() - 1, 1)
        # Each row adds up the users of a group; groups without a drawn user are not needed.
        is_needed = np.zeros(len(sizes), dtype=bool)
        is_needed[groups[users]] = True
        members = np.flatnonzero(self.has_items & is_needed[groups])
        of_groups = csr_array((np.ones(len(members)), (groups[members], members)), (len(sizes), len(groups)))
        similarity = self._similarity(users, groups[users], of_groups @ self.vectors) / n_sharers[users]
        chance = self._chance_similarity(users) / n_others
        targeted = users[self.targets[users] >= 0]
        targets, own = self.targets[targeted], self.has_own[targeted]
        found = _entries(of_groups @ self.items, groups[targeted], targets) - own
        chance_found = (self.popularity[targets] - own) / n_others
        return NodeAgreement(
            n_nodes=int((sizes > 1).sum()),
            shared=float(shared.mean()) if len(shared) else 0.0,
            similarity=_mean(similarity),
            chance_similarity=_mean(chance),
            n_targets=len(targeted),
            n_found=int(found.sum()),
            found=_mean(found / n_sharers[targeted]),
            chance_found=_mean(chance_found),
        )

    def _similarity(self, users: np.ndarray, groups: np.ndarray, totals: csr_array) -> np.ndarray:
        """Add up each user's similarities to the others of the group, whose vectors add up to a row of ``totals``."""
        own = self.vectors[users]
        rows = np.repeat(np.arange(len(users)), np.diff(own.indptr))
        products = own.data * _entries(totals, groups[rows], own.indices)
        return np.bincount(rows, products - np.square(own.data), minlength=len(users))

    def _chance_similarity(self, users: np.ndarray) -> np.ndarray:
        """Add up each user's similarities to all others."""
        own = self.vectors[users]
        return own @ self.vectors.sum(axis=0) - own.power(2).sum(axis=1)


def _entries(matrix: csr_array, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the entries at ``rows`` and ``columns``, ``[n]`` each, by one sorted search.

    SciPy's own indexing runs through whole rows, of which those of large groups are long.
    """
    matrix.sort_indices()
    width = matrix.shape[1]
    keys = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * width + matrix.indices
    wanted = rows.astype(np.int64) * width + columns
    if not len(keys):
        return np.zeros(len(wanted))
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, matrix.data[places], 0)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None

"""Finds users whose vectors have similar directions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SIMILARITIES = 1 << 24
"""Maximum number of similarities in memory: 64 MiB."""


def most_similar(vectors: Tensor, is_candidate: Tensor, n_similar: int) -> Tensor:
    """Find the users most similar to each user by the cosine of their vectors, excluding the user itself.

    Every pair is compared, some rows at a time, so memory does not grow with the square of the users. Users with equal
    vectors, for example with the same events, are equally similar to all others, and are listed in the order of their
    ids. They are compared as one, so that neither rounding nor the sorting algorithm chooses among them.

    Args:
        vectors: ``[n_users, D]``; a zero vector is similar to no other.
        is_candidate: ``[n_users]`` bool: which users may be returned and get similar users.
        n_similar: Maximum number of similar users for each user.

    Returns:
        ``[n_users, n_similar]`` users, the most similar first; 0 where there are no more.
    """
    found = torch.zeros(len(vectors), n_similar, dtype=torch.long, device=vectors.device)
    users = (is_candidate & vectors.any(1)).nonzero().squeeze(1)
    if n_similar == 0 or len(users) < 2:
        return found
    distinct, of_user, sizes = vectors[users].unique(dim=0, return_inverse=True, return_counts=True)
    units = F.normalize(distinct, dim=1)
    # Users grouped by vector, each group in the order of ids.
    grouped, starts = users[of_user.argsort(stable=True)], sizes.cumsum(0) - sizes
    n_named, n_groups = min(n_similar, len(users) - 1), min(n_similar + 1, len(distinct))
    step = max(1, MAX_SIMILARITIES // max(len(distinct), (n_named + 1) * n_groups))
    for rows in torch.arange(len(users), device=users.device).split(step):
        similarities = units[of_user[rows]] @ units.T
        # A vector is most similar to itself, and rounding must not rank it behind a close one.
        similarities.scatter_(1, of_user[rows].unsqueeze(1), torch.inf)
        groups = similarities.topk(n_groups, dim=1).indices
        named = _members(groups, starts, sizes, n_named + 1)
        named = grouped[named]
        others = named != users[rows].unsqueeze(1)
        # Leave out the user itself, or the last user if it is not in the list.
        others &= others.cumsum(1) <= n_named
        found[users[rows], :n_named] = named[others].view(len(rows), n_named)
    return found


def _members(groups: Tensor, starts: Tensor, sizes: Tensor, n_members: int) -> Tensor:
    """Return indices of the first members of groups, one group after the other.

    Args:
        groups: ``[B, G]``, with at least ``n_members`` members together.
        starts: ``[n_groups]`` index of each group's first member.
        sizes: ``[n_groups]`` number of members.
        n_members: Number of members to return for each row.

    Returns:
        ``[B, n_members]``.
    """
    ends = sizes[groups].cumsum(1)
    wanted = torch.arange(n_members, device=groups.device).expand(len(groups), -1).contiguous()
    rank = torch.searchsorted(ends, wanted, right=True)
    group = groups.gather(1, rank)
    before = ends.gather(1, rank) - sizes[group]
    return starts[group] + wanted - before

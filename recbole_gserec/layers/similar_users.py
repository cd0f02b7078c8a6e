"""Users whose vectors point the same way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SIMILARITIES = 1 << 24
"""Similarities that are there at once: 64 MiB."""


def most_similar(vectors: Tensor, is_candidate: Tensor, n_similar: int) -> Tensor:
    """The users most similar to each by the cosine of their vectors, the user itself left out.

    Every pair is compared, some rows at a time: memory does not grow with the square of the users.

    Args:
        vectors: ``[n_users, D]``; a zero vector is similar to none.
        is_candidate: ``[n_users]`` bool, who may be named, and for whom others are looked for.
        n_similar: Most users named for each.

    Returns:
        ``[n_users, n_similar]`` users, the most similar first; 0 where there are no more.
    """
    found = torch.zeros(len(vectors), n_similar, dtype=torch.long, device=vectors.device)
    users = (is_candidate & vectors.any(1)).nonzero().squeeze(1)
    if n_similar == 0 or len(users) < 2:
        return found
    units = F.normalize(vectors[users], dim=1)
    n_named = min(n_similar, len(users) - 1)
    step = max(1, MAX_SIMILARITIES // len(users))
    for places in torch.arange(len(users), device=users.device).split(step):
        similarities = units[places] @ units.T
        similarities.scatter_(1, places.unsqueeze(1), -torch.inf)
        found[users[places], :n_named] = users[similarities.topk(n_named, dim=1).indices]
    return found

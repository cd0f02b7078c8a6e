"""The sequence encoder of LLM-ESR, two views of one history through one backbone, and its search for similar users."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.attention import (
    KEYS_AND_VALUES,
    QUERIES,
    DistanceBias,
    attend,
    by_head,
    event_distances,
    later_positions,
    project,
)
from recbole_gserec.layers.dropout import Dropout, ModuleList
from recbole_gserec.layers.packing import Packing
from recbole_gserec.layers.transformer import prepare_layer


class DualViewEncoder(nn.Module):
    r"""Both views of a history attend to each other and then pass through the same SASRec.

    .. math::
        \hat a_t = \mathrm{Drop}(\sqrt d\, a_t + p_t), \quad \hat b_t = \mathrm{Drop}(\sqrt d\, b_t + p_t), \quad
        h = [\mathrm{SASRec}(\mathrm{CA}_1(\hat b, \hat a)); \mathrm{SASRec}(\mathrm{CA}_2(\hat a, \hat b))]

    with :math:`\mathrm{CA}(q, k)` multi-head attention of queries q to keys and values k, without residual connection
    or norm. All attention is causal. Position 0 is the oldest event kept. With a span, positions are told by
    :class:`DistanceBias` instead of p.

    Args:
        size: Embedding size d of either view.
        max_length: Longest history.
        n_layers: Blocks of the backbone.
        n_heads: Attention heads of the backbone.
        n_cross_heads: Attention heads between the views.
        dropout: Dropout of the events and in the feed-forward parts.
        attention_dropout: Dropout of the attention weights of the backbone.
        span: Number of events that an event reads, with itself; 0 for position embeddings.

    Shapes:
        - **collaborative**, **semantic**: packed ``[T, d]``; result packed ``[T, 2d]``.
    """

    def __init__(
        self,
        size: int,
        max_length: int,
        n_layers: int,
        n_heads: int,
        n_cross_heads: int,
        dropout: float,
        attention_dropout: float,
        span: int = 0,
    ):
        super().__init__()
        self.scale = math.sqrt(size)
        self.positions = None if span else nn.Embedding(max_length, size)
        self.dropout = Dropout(dropout)
        self.to_collaborative = CausalAttention(size, n_cross_heads, 0.0, span)
        self.to_semantic = CausalAttention(size, n_cross_heads, 0.0, span)
        self.backbone = SASRecBackbone(size, n_layers, n_heads, dropout, attention_dropout, span)
        if self.positions is not None:
            nn.init.xavier_normal_(self.positions.weight)

    def forward(self, collaborative: Tensor, semantic: Tensor, packing: Packing) -> Tensor:
        views = self._cross(collaborative, semantic, packing)
        return torch.cat([self.backbone(view, packing) for view in views], dim=-1)

    def last(self, collaborative: Tensor, semantic: Tensor, packing: Packing) -> Tensor:
        """Compute only the output at the most recent event of each row, ``[B, 2d]``; 0 for rows without events."""
        if self.positions is None:
            return packing.last(self(collaborative, semantic, packing))
        views = self._cross(collaborative, semantic, packing)
        states = torch.cat([self.backbone.last(view, packing) for view in views], dim=-1)
        return states * (packing.counts > 0).unsqueeze(1)

    def _cross(self, collaborative: Tensor, semantic: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
        collaborative, semantic = collaborative * self.scale, semantic * self.scale
        if self.positions is not None:
            # If padding is kept, it may lie beyond the last position.
            positions = self.positions(packing.columns.clamp_max(self.positions.num_embeddings - 1))
            collaborative, semantic = collaborative + positions, semantic + positions
        collaborative, semantic = self.dropout(collaborative), self.dropout(semantic)
        return (
            self.to_collaborative(semantic, collaborative, packing),
            self.to_semantic(collaborative, semantic, packing),
        )


class SASRecBackbone(nn.Module):
    """Blocks of the original SASRec, and a norm.

    Shapes:
        - **events**: packed ``[T, d]``, result ``[T, d]``.
    """

    def __init__(self, size: int, n_layers: int, n_heads: int, dropout: float, attention_dropout: float, span: int = 0):
        super().__init__()
        self.blocks = ModuleList(SASRecBlock(size, n_heads, dropout, attention_dropout, span) for _ in range(n_layers))
        self.norm = nn.LayerNorm(size)

    def forward(self, events: Tensor, packing: Packing) -> Tensor:
        for block in self.blocks:
            events = block(events, packing)
        return self.norm(events)

    def last(self, events: Tensor, packing: Packing) -> Tensor:
        """Compute only the output at the most recent event of each row, ``[B, d]``; undefined for rows without events.

        That event attends to all others, causal or not.
        """
        for block in self.blocks[:-1]:
            events = block(events, packing)
        last = self.blocks[-1].last(events, packing) if len(self.blocks) else packing.last(events)
        return self.norm(last)


class SASRecBlock(nn.Module):
    r"""SASRec as its authors' code has it.

    .. math::
        \bar x = \mathrm{LN}(x), \quad y = \mathrm{LN}(\bar x + \mathrm{Attention}(\bar x, x, x)), \quad
        z = y + \mathrm{Drop}(W_2\,\mathrm{Drop}(\mathrm{ReLU}(W_1 y)))

    Only the queries of the attention are normalised.

    Shapes:
        - **events**: packed ``[T, d]``, result ``[T, d]``.
    """

    def __init__(self, size: int, n_heads: int, dropout: float, attention_dropout: float, span: int = 0):
        super().__init__()
        self.attention = CausalAttention(size, n_heads, attention_dropout, span)
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.linear1, self.linear2 = nn.Linear(size, size), nn.Linear(size, size)
        self.dropout = Dropout(dropout)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, events: Tensor, packing: Packing) -> Tensor:
        queries = self.norm1(events)
        return self._feed_forward(queries + self.attention(queries, events, packing))

    def last(self, events: Tensor, packing: Packing) -> Tensor:
        """Compute only the output at the most recent event of each row, ``[B, d]``; undefined without events."""
        queries = self.norm1(packing.last(events))
        return self._feed_forward(queries + self.attention.of_last(queries, events, packing))

    def _feed_forward(self, events: Tensor) -> Tensor:
        events = self.norm2(events)
        return events + self.dropout(self.linear2(self.dropout(self.linear1(events).relu())))


class CausalAttention(nn.MultiheadAttention):
    """Torch's multi-head attention of events to another stream, at their own and earlier positions.

    With a span, an event reads as many positions, its own included, by :class:`DistanceBias`; there is no
    :meth:`of_last`.

    Shapes:
        - **queries**, **keys**: packed ``[T, d]``, at the same positions; result ``[T, d]``.
    """

    attention_dropout: Dropout

    def __init__(self, size: int, n_heads: int, dropout: float, span: int = 0):
        super().__init__(size, n_heads, batch_first=True)
        self.distance_bias = DistanceBias(n_heads, span) if span else None
        prepare_layer(self, 0.0, dropout)

    def forward(  # type: ignore[override]  # takes other arguments than torch's
        self, queries: Tensor, keys: Tensor, packing: Packing
    ) -> Tensor:
        n_events, by_distance = packing.mask.shape[1], None
        if self.distance_bias is None:
            blocked = later_positions(n_events, keys.device)
        else:
            by_distance, blocked = self.distance_bias(event_distances(n_events, keys.device))
        (query,) = by_head(self, packing.unpack(project(self, queries, QUERIES)))
        return self.out_proj(packing.pack(self._attend(query, keys, packing, blocked, by_distance)))

    def of_last(self, queries: Tensor, keys: Tensor, packing: Packing) -> Tensor:
        """Compute the same for queries ``[B, d]`` at the most recent event of each row."""
        (query,) = by_head(self, project(self, queries, QUERIES).unsqueeze(1))
        return self.out_proj(self._attend(query, keys, packing).squeeze(1))

    def _attend(
        self,
        query: Tensor,
        keys: Tensor,
        packing: Packing,
        blocked: Tensor | None = None,
        by_distance: Tensor | None = None,
    ) -> Tensor:
        key, value = by_head(self, packing.unpack(project(self, keys, KEYS_AND_VALUES)))
        return attend(self, query, key, value, packing.mask, blocked, by_distance)


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

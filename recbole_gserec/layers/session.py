"""Embeddings of queries and search sessions (Sections 4.2.1 and 4.2.3 of GSERec), and sessions in histories.

Sessions of USER are cut by time, those of UnifiedSSR by learned windows. JSR scores items' texts with a
unigram language model.

"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbole_gserec.data import Ragged
from recbole_gserec.layers.attention import masked_softmax
from recbole_gserec.layers.packing import Packing


class QueryEmbedding(nn.Module):
    r"""A query as the mean of its words, :math:`e_q = \mathrm{Mean}(e_{w_1}, \dots, e_{w_{|q|}})`; 0 without words.

    Args:
        words: Words of each query id.
        n_words: Size of the vocabulary, including padding.
        size: Embedding size d.

    Shapes:
        - **queries**: ``[n]`` query ids, result ``[n, d]``.
    """

    word_values: Tensor
    word_offsets: Tensor

    def __init__(self, words: Ragged, n_words: int, size: int):
        super().__init__()
        self.embedding = nn.Embedding(n_words, size, padding_idx=0)
        self.register_buffer("word_values", words.values, persistent=False)
        self.register_buffer("word_offsets", words.offsets, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reset_embedding(self.embedding)

    def forward(self, queries: Tensor) -> Tensor:
        # A few queries make up most of a batch, so each is embedded once.
        distinct, inverse = queries.unique(return_inverse=True)
        words = Ragged(self.word_values, self.word_offsets).take(distinct)
        vectors = F.embedding_bag(words.values.long(), self.embedding.weight, words.offsets[:-1], mode="mean")
        return vectors[inverse]


class SessionEmbedding(nn.Module):
    r"""A search as its query plus the mean of its clicked items, :math:`e_q + M(\mathcal{I}_q)`.

    Shapes:
        - **queries**: ``[T]`` query ids, **clicks**: ``[T, K]`` item ids, 0 where padded.
        - result ``[T, d]``. A search without clicks is its query alone.
    """

    def __init__(self, query_embedding: QueryEmbedding, item_embedding: nn.Embedding):
        super().__init__()
        self.query_embedding, self.item_embedding = query_embedding, item_embedding

    def forward(self, queries: Tensor, clicks: Tensor) -> Tensor:
        clicked = F.embedding_bag(clicks, self.item_embedding.weight, mode="mean", padding_idx=0)
        return self.query_embedding(queries) + clicked


def reset_embedding(embedding: nn.Embedding) -> None:
    """Reset to Xavier-normal rows, and 0 for padding."""
    nn.init.xavier_normal_(embedding.weight)
    if embedding.padding_idx is not None:
        with torch.no_grad():
            embedding.weight[embedding.padding_idx].zero_()


@dataclass(frozen=True)
class SessionGrid:
    """Sequences divided into sessions of one length, counted from the end: only the oldest session may be shorter.

    Sequences are aligned to the right, so that the sessions of all rows have the same columns.

    Args:
        events: ``[B, N]``, True for real events, which come first.
        session_length: Number of events in a session.
    """

    events: Tensor
    session_length: int

    @cached_property
    def n_sessions(self) -> int:
        """Number of sessions in the longest row, P; at least 2, so that there is a past session, possibly empty."""
        return max(2, -(-int(self.events.sum(1).max()) // self.session_length))

    @cached_property
    def _columns(self) -> Tensor:
        width = self.n_sessions * self.session_length
        position = torch.arange(width, device=self.events.device)
        return position - width + self.events.sum(1, keepdim=True)

    @property
    def mask(self) -> Tensor:
        """True for real events of the grid, ``[B, P * session_length]``."""
        return self._columns >= 0

    @property
    def columns(self) -> Tensor:
        """Column of ``events`` for each position, ``[B, P * session_length]``; arbitrary without an event."""
        return self._columns.clamp_min(0)


class SessionWindows(nn.Module):
    r"""The mean state within each of K windows whose centres and widths follow from the history.

    With a history of n events on [0, 1], window k lies around its anchor :math:`a_k = (k + 0.5) / K`:

    .. math::
        [s_k, e_k] = a_k + \frac{\tanh(\Delta x_k) \mp \mathrm{relu}(\tanh(\Delta w_k + b))}{K}, \quad
        (\Delta x_k, \Delta w_k) = W\, \mathrm{relu}(\bar h_k)

    :math:`\bar h_k` is the mean state of the k-th part of the history. Windows begin with half the width that would
    leave no gap. The authors' code compares positions with the bounds, which gives W and b no gradient; here an event
    belongs to a window with :math:`\sigma((t - n s_k) / \tau)\, \sigma((n e_k - t) / \tau)`, which also never leaves a
    window empty, and n is the number of real events and not the padded length.

    Args:
        size: Embedding size d.
        n_windows: Windows K.
        softness: :math:`\tau`, in events.

    Shapes:
        - **states**: packed ``[T, d]``, result ``[B, K, d]``; 0 for rows without events.
    """

    def __init__(self, size: int, n_windows: int, softness: float):
        super().__init__()
        self.n_windows, self.softness = n_windows, softness
        self.offsets = nn.Linear(size, 2, bias=False)
        self.width_bias = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.offsets.weight)
        # tanh(b) is then 1/4.
        nn.init.constant_(self.width_bias, math.log(math.sqrt(5 / 3)))

    def forward(self, states: Tensor, packing: Packing) -> Tensor:
        padded, counts = packing.unpack(states), packing.counts.unsqueeze(1)
        windows = torch.arange(self.n_windows, device=states.device)
        positions = torch.arange(packing.mask.shape[1], device=states.device)
        # Parts overlap if n is not a multiple of K, as in adaptive average pooling, so that none is empty.
        starts = windows * counts // self.n_windows
        ends = -(-(windows + 1) * counts // self.n_windows)
        parts = ((positions >= starts.unsqueeze(2)) & (positions < ends.unsqueeze(2))).to(states.dtype)
        means = parts @ padded / parts.sum(2, keepdim=True).clamp_min(1)
        starts, ends = (bound.unsqueeze(2) * counts.unsqueeze(2) for bound in self._bounds(means))
        inside = F.logsigmoid((positions + 0.5 - starts) / self.softness)
        inside = inside + F.logsigmoid((ends - positions - 0.5) / self.softness)
        # The softmax of a logarithm divides by the sum, however small.
        return masked_softmax(inside, packing.mask.unsqueeze(1)) @ padded

    def _bounds(self, means: Tensor) -> tuple[Tensor, Tensor]:
        """Return start and end of each window as fractions of the history, ``[B, K]``, from ``[B, K, d]``."""
        shift, width = self.offsets(means.relu()).unbind(-1)
        shift, half_width = shift.tanh(), (width + self.width_bias).tanh().relu()
        anchors = torch.arange(self.n_windows, device=means.device) + 0.5
        bounds = (anchors + shift - half_width, anchors + shift + half_width)
        return tuple((bound / self.n_windows).clamp(0, 1) for bound in bounds)


MAX_LOGITS = 1 << 24
"""Maximum number of (item, word) logits in memory: 64 MiB of 32-bit floats."""


class UnigramText(nn.Module):
    r"""Words drawn from an item, :math:`p(w \mid i) = \mathrm{softmax}_w(e_w^\top P h_i)`.

    Since :math:`\mathrm{mean}_w\, e_w^\top x = \mathrm{Mean}(e_w)^\top x`, a text needs no more than its mean word.

    Args:
        texts: Embeds texts as the mean of their words; its word table is that of the softmax.
        size: Embedding size d.

    Shapes:
        - **items**: ``[n]`` item ids of ``item_embedding``, **texts**: ``[n]`` ids of the texts they produce.
        - result: scalar, mean over texts of the mean over words of :math:`-\log p(w \mid i)`; texts without words are
          left out, 0 if there is no other.
    """

    def __init__(self, texts: QueryEmbedding, size: int):
        super().__init__()
        self.texts = texts
        self.projection = nn.Linear(size, size, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_normal_(self.projection.weight)

    def forward(self, items: Tensor, texts: Tensor, item_embedding: nn.Embedding) -> Tensor:
        has_words = self.texts.word_offsets[texts + 1] > self.texts.word_offsets[texts]
        items, texts = items[has_words], texts[has_words]
        distinct, inverse = items.unique(return_inverse=True)
        vectors = self.projection(item_embedding(distinct))
        # Word 0 is padding, not a word.
        words = self.texts.embedding.weight[1:]
        step = max(1, MAX_LOGITS // max(1, len(words)))
        parts = [checkpoint(_log_normaliser, part, words, use_reentrant=False) for part in vectors.split(step)]
        losses = torch.cat(parts)[inverse] - (self.texts(texts) * vectors[inverse]).sum(1)
        return losses.sum() / max(1, len(losses))


def _log_normaliser(vectors: Tensor, words: Tensor) -> Tensor:
    return (vectors @ words.T).logsumexp(1)

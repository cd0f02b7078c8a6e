"""A unigram language model of item texts, for JSR."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbole_gserec.layers.session import QueryEmbedding

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

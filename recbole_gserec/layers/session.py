"""Embeddings of queries and search sessions (Sections 4.2.1 and 4.2.3 of GSERec)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.data.ragged import Ragged


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

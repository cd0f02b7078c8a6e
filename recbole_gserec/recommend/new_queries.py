"""New queries that consist of words the model knows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_gserec.data.dataset import SearchDataset
from recbole_gserec.data.ragged import Ragged
from recbole_gserec.data.search_files import FlatSequences
from recbole_gserec.layers.session import QueryEmbedding


def known_words(dataset: SearchDataset, words: FlatSequences, rows: NDArray[np.bool_]) -> tuple[Ragged, int]:
    """Return the words of queries that have an embedding.

    Args:
        dataset: The model's dataset.
        words: Words of each query in a file.
        rows: ``[n_queries]``, which queries to return.

    Returns:
        The words' ids, one row for each query, and the number of unknown words.
    """
    vocabulary = pd.Index(dataset.field2id_token["query_words"])
    ids = vocabulary.get_indexer(words.frame.iloc[:, 0])
    owners = np.arange(len(rows)).repeat(np.diff(words.offsets))
    wanted = rows[owners]
    known = wanted & (ids > 0)
    counts = np.bincount(owners[known], minlength=len(rows))[rows]
    offsets = torch.from_numpy(np.concatenate([[0], counts.cumsum()]))
    return Ragged(torch.from_numpy(ids[known].astype(np.int32)), offsets), int((wanted & ~known).sum())


class NewQueries:
    """Lets a model embed new queries, whose ids follow those of its own queries.

    Args:
        model: A search-aware model, which represents a query only by its words (:class:`QueryEmbedding`).
        known: Words of the dataset's queries.
        new: Words of the new queries.
    """

    def __init__(self, model: AbstractRecommender, known: Ragged, new: Ragged):
        layers = [layer for layer in model.modules() if isinstance(layer, QueryEmbedding) and _embeds(layer, known)]
        values = torch.cat([known.values, new.values.to(known.values.dtype)])
        offsets = torch.cat([known.offsets, new.offsets[1:] + len(known.values)])
        self._words = [
            (layer, values.to(layer.word_values.device), offsets.to(layer.word_values.device)) for layer in layers
        ]

    def install(self) -> None:
        """Give the new queries to the model, replacing other new queries."""
        for layer, values, offsets in self._words:
            layer.word_values, layer.word_offsets = values, offsets


def _embeds(layer: QueryEmbedding, known: Ragged) -> bool:
    """Return whether a layer embeds queries; other texts, such as those of items, use the same kind of layer."""
    pairs = ((layer.word_offsets, known.offsets), (layer.word_values, known.values))
    return all(torch.equal(own[: len(other)].cpu(), other) for own, other in pairs)

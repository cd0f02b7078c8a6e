"""Events after the training, from files in the formats of ``.inter``, ``.search`` and ``.query``, and new queries."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import FeatureType

from recbole_gserec.data import (
    FlatSequences,
    Ragged,
    SearchDataset,
    check_time_order,
    check_types,
    no_searches,
    read_query_file,
    read_search_file,
    to_pandas,
)
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import field_types, has_no_rows, read_columns
from recbole_gserec.layers import QueryEmbedding
from recbole_gserec.recommend.trained import RawEvents, Trained


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


@dataclass
class Skipped:
    """Counts what the model does not know in the files of new events, by kind; see :meth:`lines`."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, count: int) -> None:
        """Count something that was left out."""
        self.counts[kind] = self.counts.get(kind, 0) + int(count)

    def lines(self) -> list[str]:
        """Return one message for each kind that occurred."""
        return [f"{count:,} {kind}" for kind, count in self.counts.items() if count]


@dataclass(frozen=True)
class NewEvents:
    """New events, in the model's ids.

    Attributes:
        raw: The events. Ids of unknown users follow the dataset's users, and ids of new queries follow its queries.
        users: Original ids of the unknown users.
        queries: Words of the new queries, in the order of their ids; None if there are none.
        skipped: What is unknown and was left out.
    """

    raw: RawEvents
    users: list[str]
    queries: Ragged | None
    skipped: Skipped


def read_new_events(
    trained: Trained, inter: Path | None = None, search: Path | None = None, query: Path | None = None
) -> NewEvents:
    """Read new events.

    Args:
        trained: The model.
        inter: New interactions, with the columns of ``.inter`` that the model's dataset loads.
        search: New searches, with the columns of ``.search``.
        query: Those queries of the new searches that are not in the dataset, with the columns of ``.query``.

    Raises:
        DataError: If a file is missing or malformed, or a user's times are not in order.
        SettingError: If the model cannot take new events.
    """
    if query is not None and search is None:
        raise SettingError("new queries need new searches: give both")
    reader = _Reader(trained)
    queries = reader.read_queries(query) if query is not None and trained.is_ours else None
    interactions, table = reader.read_interactions(inter)
    searches, clicks = reader.read_searches(search)
    raw = RawEvents(interactions, searches, clicks, table)
    return NewEvents(raw, reader.new_users, queries, reader.skipped)


class _Reader:
    """Reads the files of one call, which share the ids of new users and queries."""

    def __init__(self, trained: Trained):
        self.dataset: Dataset = trained.dataset
        self.config: Config = trained.config
        self.is_ours = trained.is_ours
        self._columns = [] if trained.raw.table is None else list(trained.raw.table.columns)
        self.skipped = Skipped()
        self.new_users: list[str] = []
        self._new_user_index = pd.Index([], dtype=object)
        self._users = pd.Index(self.dataset.field2id_token[self.dataset.uid_field])
        self._items = pd.Index(self.dataset.field2id_token[self.dataset.iid_field])
        known = self.dataset.field2id_token["query_id"] if self.is_ours and self._reads_queries else []
        self._queries = pd.Index(known, dtype=object)
        self._new_queries = pd.Index([], dtype=object)

    @property
    def _reads_queries(self) -> bool:
        return "query_id" in self.dataset.field2id_token

    @property
    def _format(self) -> dict[str, str]:
        return {"separator": self.config["field_separator"], "encoding": self.config["encoding"] or "utf-8"}

    def read_interactions(self, path: Path | None) -> tuple[tuple, pd.DataFrame | None]:
        dataset = self.dataset
        uid, iid, time = dataset.uid_field, dataset.iid_field, dataset.time_field
        if path is None:
            nothing = np.zeros(0, dtype=np.int64)
            return (nothing, nothing, np.zeros(0)), None
        fields = [uid, iid, time] if self.is_ours else self._stock_fields()
        expected = {name: kind for name, kind in ((uid, "token"), (iid, "token"), (time, "float")) if name in fields}
        check_types(path, expected, **self._format)
        frame = _frame(read_columns(path, fields, required=list(expected), **self._format))
        if time in fields:
            self._check_order(path, frame[uid], frame[time])
        items = self._items.get_indexer(frame[iid])
        # Item 0 is padding; the padding token is no known item either.
        known = items > 0
        self.skipped.add("new interactions are with items that the model does not know: left out", (~known).sum())
        frame, items = frame[known], items[known].astype(np.int64)
        users = self._user_ids(frame[uid])
        times = frame[time].to_numpy() if time in fields else np.zeros(len(frame))
        table = None if self.is_ours else self._stock_table(frame, users, items, fields)
        return (users, items, times), table

    def read_searches(self, path: Path | None) -> tuple[tuple, tuple]:
        if path is None or has_no_rows(_checked(path, self._format), self._format["encoding"]):
            return no_searches()
        frame, clicks = read_search_file(path, seq_separator=self.config["seq_separator"], **self._format)
        self._check_order(path, frame["search_user_id"], frame["search_timestamp"])
        # RecBole's models read no searches, so only clicks matter, as items that have been seen.
        queries = self._query_ids(frame["search_query_id"]) if self.is_ours else np.ones(len(frame), dtype=np.int64)
        known = queries > 0
        self.skipped.add("new searches have a query that the model does not know: left out", (~known).sum())
        owners = np.arange(len(frame)).repeat(np.diff(clicks.offsets))
        items = self._items.get_indexer(clicks.frame["search_item_ids"])
        of_known = known[owners]
        known_clicks = of_known & (items > 0)
        self.skipped.add(
            "clicks of new searches are on items that the model does not know: left out",
            (of_known & ~known_clicks).sum(),
        )
        counts = np.bincount(owners[known_clicks], minlength=len(frame))[known]
        users = self._user_ids(frame["search_user_id"][known])
        times = frame["search_timestamp"].to_numpy()[known]
        offsets = np.concatenate([[0], counts.cumsum()])
        return (users, queries[known], times), (items[known_clicks].astype(np.int64), offsets)

    def read_queries(self, path: Path) -> Ragged | None:
        frame, words = read_query_file(path, seq_separator=self.config["seq_separator"], **self._format)
        if not self._reads_queries:
            return None
        tokens = frame["query_id"].astype(object)
        is_new = ~tokens.isin(self._queries).to_numpy()
        self._new_queries = pd.Index(tokens[is_new])
        queries, n_unknown = known_words(self.dataset, words, is_new)
        self.skipped.add("words of new queries are not known to the model: left out", n_unknown)
        return queries

    # ---- ids ----------------------------------------------------------------------------------------------------

    def _user_ids(self, tokens: pd.Series) -> np.ndarray:
        ids = self._users.get_indexer(pd.Index(tokens))
        unknown = ids <= 0
        # Distinct tokens, in order of appearance.
        fresh = pd.Index(pd.unique(tokens[unknown].astype(object))).difference(self._new_user_index, sort=False)
        self._new_user_index = self._new_user_index.append(fresh)
        self.new_users = self._new_user_index.tolist()
        ids[unknown] = len(self._users) + self._new_user_index.get_indexer(pd.Index(tokens[unknown]))
        return ids.astype(np.int64)

    def _query_ids(self, tokens: pd.Series) -> np.ndarray:
        if not self._reads_queries:
            return np.ones(len(tokens), dtype=np.int64)
        ids = self._queries.get_indexer(pd.Index(tokens))
        new = self._new_queries.get_indexer(pd.Index(tokens))
        return np.where(ids > 0, ids, np.where(new >= 0, len(self._queries) + new, -1))

    def _check_order(self, path: Path, users: pd.Series, times: pd.Series) -> None:
        # RecBole sorts a dataset without searches, whatever its order.
        if self.config["unordered_timestamps"] == "error":
            check_time_order(path, users, times.to_numpy(), self._format["encoding"])

    # ---- RecBole's own datasets ---------------------------------------------------------------------------------

    def _stock_fields(self) -> list[str]:
        """Columns of a new interaction. They become features in the same way as those of the dataset."""
        config, fields = self.config, self._columns
        kinds = {self.dataset.field2type[field] for field in fields}
        changed = config["normalize_field"] or config["normalize_all"]
        if kinds & {FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ} or config["numerical_features"]:
            raise SettingError(
                f"new interactions: {config['model']} was trained on interactions with sequences or numerical "
                "features, which are not supported here"
            )
        if changed and FeatureType.FLOAT in kinds:
            raise SettingError(
                f"new interactions: {config['model']} was trained on normalised numbers (normalize_all, "
                "normalize_field), and the checkpoint does not have their range"
            )
        return fields

    def _stock_table(
        self, frame: pd.DataFrame, users: np.ndarray, items: np.ndarray, fields: list[str]
    ) -> pd.DataFrame:
        dataset, table = self.dataset, {}
        for name in fields:
            if name == dataset.uid_field:
                table[name] = users
            elif name == dataset.iid_field:
                table[name] = items
            elif dataset.field2type[name] == FeatureType.TOKEN:
                # Unknown values are padding.
                table[name] = pd.Index(dataset.field2id_token[name]).get_indexer(frame[name]).clip(min=0)
            else:
                table[name] = frame[name].fillna(0).to_numpy()
        return pd.DataFrame(table)


def _frame(table: pa.Table) -> pd.DataFrame:
    return pd.DataFrame({name: to_pandas(table[name]) for name in table.column_names})


def _checked(path: Path, options: dict[str, str]) -> Path:
    """Return the path of a file after checking that it has a header."""
    if not field_types(path, **options):
        raise DataError(path, "has no columns", "Give it those of .search.")
    return path

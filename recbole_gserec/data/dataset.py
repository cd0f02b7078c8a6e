"""A sequential dataset that also contains its users' searches."""

import os
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType, set_color

from recbole_gserec.data.checks import (
    MIN_INTERACTIONS,
    advice_to_make_again,
    check_filtered,
    check_known_queries,
    check_policies,
    check_time_order,
)
from recbole_gserec.data.events import Columns, Ragged, build_event_log, no_searches
from recbole_gserec.data.feature_files import format_options, load_feature_file
from recbole_gserec.data.fingerprint import evaluates_searches
from recbole_gserec.data.search_files import (
    CODES_OF_SIDE,
    check_users,
    read_code_file,
    read_query_file,
    read_search_file,
    user_codes,
)
from recbole_gserec.data.search_rows import MIN_SEARCHES, SEARCH, SearchRows
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import field_types

TARGET = "target_place"
"""Field of a row: index of its target in :attr:`EventLog.items`, which determines all histories."""


class SearchDataset(SequentialDataset):
    """RecBole's sequential dataset, extended by the files of docs/data.md.

    RecBole's own settings ``additional_feat_suffix`` and ``alias_of_*`` decide which files are read and which ids are
    shared. As in RecBole, a row is one interaction to predict. When a batch is made (:meth:`join`), its history and the
    searches visible at its time are read from compact per-user arrays.

    A batch has, besides RecBole's fields, ``item_id_list`` ``[B, L]``, ``item_length`` ``[B]``,
    ``search_query_id_list`` ``[B, S]``, ``search_item_ids_list`` ``[B, S, K]`` and ``search_length`` ``[B]``. Widths
    are those of the longest history in the batch, at most ``MAX_ITEM_LIST_LENGTH``, ``MAX_SEARCH_LIST_LENGTH`` and
    ``MAX_CLICK_LIST_LENGTH``; the most recent events are kept, oldest first. ``item_place_list`` and
    ``search_place_list`` show how the two histories interleave (:meth:`EventLog.event_places`).

    Attributes:
        events (EventLog): All interactions and searches.
        query_words (Ragged): Words of each query id; id 0 is padding.
        codes (dict): ``search`` and ``recommendation`` :class:`UserCodes`, if a ``.code`` file is loaded.
    """

    alias: dict[str, Any]
    inter_feat: Any

    def __init__(self, config: Config):
        check_policies(config)
        if config["benchmark_filename"] is not None:
            raise SettingError("benchmark_filename is not supported with searches; use eval_args to split by time")
        self.max_search_list_len = config["MAX_SEARCH_LIST_LENGTH"]
        self.max_click_list_len = config["MAX_CLICK_LIST_LENGTH"]
        super().__init__(config)

    # ---- reading ------------------------------------------------------------------------------------------------

    def file_path(self, suffix: str) -> str:
        """Return the path of one of the dataset's atomic files; codes may be elsewhere."""
        if suffix == "code" and self.config["code_path"]:
            return os.path.abspath(self.config["code_path"])
        return os.path.join(self.dataset_path, f"{self.dataset_name}.{suffix}")

    @property
    def _format_options(self) -> dict[str, str]:
        return {**format_options(self), "seq_separator": self.config["seq_separator"]}

    def _load_feat(self, filepath: str, source: Any) -> pd.DataFrame | None:
        """Load as RecBole does, but with a fast and strict reader; tokens are categorical."""
        return load_feature_file(self, filepath, source, categorical=True)

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        # Refuse a missing file with our own message.
        field_types(self.file_path("inter"), **format_options(self))
        super()._load_inter_feat(token, dataset_path)
        if self.config["unordered_timestamps"] == "error" and self.benchmark_filename_list is None:
            self._check_time_order("inter", self.inter_feat, self.uid_field, self.time_field)

    def _load_additional_feat(self, token: str, dataset_path: str) -> None:
        loaders = {"search": self._load_searches, "query": self._load_queries, "code": self._load_codes}
        for suffix in self.config["additional_feat_suffix"] or []:
            if suffix in loaders:
                loaders[suffix](self.file_path(suffix))
            else:
                setattr(self, f"{suffix}_feat", self._load_feat(self.file_path(suffix), suffix))
        if hasattr(self, "search_feat") and hasattr(self, "query_feat"):
            searched, known = self.search_feat["search_query_id"], self.query_feat["query_id"]
            check_known_queries(self.file_path("search"), searched, known, self._format_options["encoding"])

    def _load_searches(self, path: str) -> None:
        self.search_feat, clicks = read_search_file(path, **self._format_options)
        self.search_click_feat, self._click_offsets = clicks.frame, clicks.offsets
        if self.config["unordered_timestamps"] == "error":
            self._check_time_order("search", self.search_feat, "search_user_id", "search_timestamp")
        self.set_field_property("search_user_id", FeatureType.TOKEN, "search", 1)
        self.set_field_property("search_query_id", FeatureType.TOKEN, "search", 1)
        self.set_field_property("search_timestamp", FeatureType.FLOAT, "search", 1)
        self.set_field_property("search_item_ids", FeatureType.TOKEN, "search_click", 1)

    def _load_queries(self, path: str) -> None:
        self.query_feat, words = read_query_file(path, **self._format_options)
        self.query_word_feat, self._word_offsets = words.frame, words.offsets
        self.set_field_property("query_id", FeatureType.TOKEN, "query", 1)
        self.set_field_property("query_words", FeatureType.TOKEN, "query_word", 1)

    def _load_codes(self, path: str) -> None:
        # This format is fixed, whatever the format of the dataset.
        self.code_feat, self._code_sequences = read_code_file(path, separator="\t", seq_separator=" ", encoding="utf-8")
        self.set_field_property("code_user_id", FeatureType.TOKEN, "code", 1)

    def _check_time_order(self, suffix: str, feat: pd.DataFrame, user_field: str, time_field: str) -> None:
        times = feat[time_field].to_numpy()
        check_time_order(self.file_path(suffix), feat[user_field], times, self._format_options["encoding"])

    # ---- ids ----------------------------------------------------------------------------------------------------

    def _init_alias(self) -> None:
        """Let queries share ids between their two files; leave out aliases of files that are not loaded."""
        # RecBole assigns ids to columns of additional files only through an alias.
        self._set_alias("query_id", ["query_id", "search_query_id"])
        self._set_alias("query_word", ["query_words"])
        super()._init_alias()
        self.alias = {name: [f for f in fields if f in self.field2type] for name, fields in self.alias.items()}

    def _build_feat_name_list(self) -> list[str]:
        """Keep searches, queries and codes, which become separate arrays, out of RecBole's feature processing."""
        ours = {"search_feat", "query_feat", "code_feat"}
        return [name for name in super()._build_feat_name_list() if name not in ours]

    def _get_remap_list(self, field_list: Any) -> list[tuple[pd.DataFrame, str, FeatureType]]:
        """Put the files of users and items last, so that ids do not depend on whether these are loaded."""
        remapped = super()._get_remap_list(field_list)
        return sorted(remapped, key=lambda part: part[0] is self.user_feat or part[0] is self.item_feat)

    def _filter_by_inter_num(self) -> None:
        super()._filter_by_inter_num()
        # This is the last filter.
        check_filtered(self.file_path("inter"), self.inter_feat[self.uid_field], self.config["short_users"])

    def _normalize(self) -> None:
        # Searches and interactions are compared by the times in the files, even if a user normalises times.
        self._times = self.inter_feat[self.time_field].to_numpy(copy=True)
        super()._normalize()

    # ---- arrays and rows ----------------------------------------------------------------------------------------

    def _change_feat_format(self) -> None:
        """Sort all events into :attr:`events`; rows are all interactions except each user's first."""
        self._build_events()
        self._build_queries_and_codes()
        Dataset._change_feat_format(self)
        self.data_augmentation()

    def events_as_read(self) -> tuple[Columns, Columns, Columns]:
        """Return interactions, searches and clicks in the order of the files, as expected by :func:`build_event_log`.

        The dataset must be read and filtered but not built. Building sorts the events into :attr:`events`, which has no
        times.
        """
        searches, clicks = no_searches()
        if hasattr(self, "search_feat"):
            columns = ("search_user_id", "search_query_id", "search_timestamp")
            searches = tuple(self.search_feat[column].to_numpy() for column in columns)
            clicked = self.search_click_feat["search_item_ids"].to_numpy().astype(np.int32)
            clicks = (clicked, self._click_offsets)
        users, items = (self.inter_feat[field].to_numpy() for field in (self.uid_field, self.iid_field))
        return (users, items, self._times), searches, clicks

    def _build_events(self) -> None:
        interactions, searches, clicks = self.events_as_read()
        if hasattr(self, "search_feat"):
            # Before the events are sorted, which doubles the memory.
            del self.search_feat, self.search_click_feat, self._click_offsets
        self.events, order = build_event_log(self.user_num, interactions, searches, clicks)
        self.inter_feat = self.inter_feat.iloc[order].reset_index(drop=True)
        del self._times

    def _build_queries_and_codes(self) -> None:
        if hasattr(self, "query_feat"):
            words = torch.from_numpy(self.query_word_feat["query_words"].to_numpy().astype(np.int32))
            # Query ids start at 1 in the order of the file; id 0 is a query without words.
            offsets = torch.from_numpy(np.concatenate([[0], self._word_offsets]))
            self.query_words = Ragged(words, offsets)
            del self.query_feat, self.query_word_feat, self._word_offsets
        if hasattr(self, "code_feat"):
            users = self.code_feat["code_user_id"].to_numpy()
            coded = np.bincount(users, minlength=self.user_num) > 0
            events = (self.events.item_offsets.diff() + self.events.search_offsets.diff()) > 0
            path, advice = self.file_path("code"), advice_to_make_again(self.config)
            check_users(path, coded, events.numpy(), self.field2id_token[self.uid_field], advice)
            self.codes = {
                side: user_codes(path, users, self.user_num, self._code_sequences[field], side, advice)
                for side, field in CODES_OF_SIDE.items()
            }
            del self.code_feat, self._code_sequences

    def take_codes(self, config: Config) -> None:
        """Read other codes of the same users, as if the dataset had been read with them. Call it before building.

        Args:
            config: Settings that differ from the dataset's only in the codes.

        Raises:
            DataError: If the file does not contain codes of these users.
        """
        self.config = config
        path = self.file_path("code")
        table, self._code_sequences = read_code_file(path, separator="\t", seq_separator=" ", encoding="utf-8")
        users = pd.Index(self.field2id_token[self.uid_field]).get_indexer(table["code_user_id"])
        if (users < 0).any():
            first = table["code_user_id"][users < 0].iloc[0]
            problem = f"{(users < 0).sum():,} of its users are not in the dataset (first: '{first}')"
            raise DataError(path, problem, advice_to_make_again(config))
        self.code_feat = table.assign(code_user_id=users)

    def data_augmentation(self) -> None:
        """Store only the index of each row's target; no history is copied."""
        self._aug_presets()
        users = self.inter_feat[self.uid_field]
        indices = torch.arange(len(users))
        rows = indices > self.events.item_offsets[users]
        self.inter_feat.update(Interaction({TARGET: indices}))
        self.inter_feat = self.inter_feat[rows]
        self.set_field_property(TARGET, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)

    def build(self) -> list[Any]:
        """Split as RecBole does, and store where each user's training part ends."""
        datasets = super().build()
        if evaluates_searches(self.config):
            return datasets
        held_out = [dataset.inter_feat for dataset in datasets[1:]]
        users = torch.cat([feat[self.uid_field] for feat in held_out])
        self.events.limit_training(users, torch.cat([feat[TARGET] for feat in held_out]))
        return datasets

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[Any]:
        """Split off the last interaction of each user as the test target, and the one before as the validation target.

        This is RecBole's split without a Python loop over rows. Users with fewer than three interactions are only
        trained on.
        """
        if evaluates_searches(self.config):
            return self._leave_searches_out()
        if leave_one_mode != "valid_and_test" or group_by != self.uid_field:
            return super().leave_one_out(group_by, leave_one_mode)
        self._drop_unused_col()
        users, indices = self.inter_feat[self.uid_field], self.inter_feat[TARGET]
        ends = self.events.item_offsets[users + 1]
        from_end = torch.where(ends - self.events.item_offsets[users] >= MIN_INTERACTIONS, ends - indices, 3)
        return [self.copy(self.inter_feat[rows]) for rows in (from_end > 2, from_end == 2, from_end == 1)]

    def _leave_searches_out(self) -> list[Any]:
        """Split off the last search of each user for the test, and the one before for validation.

        Everything at or after the time of the validation search is kept from training. Users with fewer than
        :data:`MIN_SEARCHES` searches with a click are only trained on.
        """
        self._drop_unused_col()
        parts = SearchRows.of_evaluation(self.events)
        if not len(parts[0]):
            raise DataError(
                self.file_path("search"),
                f"no user has {MIN_SEARCHES} searches with a click",
                "Evaluate recommendation: leave eval_task out.",
            )
        self.events.limit_training_to_searches(parts[0].users, parts[0].searches)
        in_training = self.inter_feat[TARGET] < self.events.train_ends[self.inter_feat[self.uid_field]]
        self.set_field_property(SEARCH, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        held_out = [
            Interaction({self.uid_field: part.users, self.iid_field: part.items, SEARCH: part.searches})
            for part in parts
        ]
        return [self.copy(part) for part in (self.inter_feat[in_training], *held_out)]

    def join(self, df: Interaction) -> Interaction:
        """Add the histories visible to each row's target; to a search to evaluate, also its query."""
        df = super().join(df)
        if SEARCH in df:
            df.update(SearchRows(df[self.uid_field], df[SEARCH], df[self.iid_field]).batch(self))
            return df
        if TARGET not in df:
            return df
        users, targets = df[self.uid_field], df[TARGET]
        df.update(self.histories(users, targets, self.events.search_ends[targets]))
        return df

    def histories(self, users: torch.Tensor, item_ends: torch.Tensor, search_ends: torch.Tensor) -> Interaction:
        """Return the history fields of a batch.

        Args:
            users: ``[B]`` users.
            item_ends: ``[B]`` end of the visible interactions in :attr:`EventLog.items`.
            search_ends: ``[B]`` end of the visible searches in :attr:`EventLog.queries`.
        """
        sizes = self.max_item_list_len, self.max_search_list_len
        items = self.events.item_histories(users, item_ends, sizes[0])
        searches = self.events.search_histories(users, search_ends, sizes[1], self.max_click_list_len)
        places = self.events.event_places(users, item_ends, search_ends, *sizes)
        return Interaction(self.history_fields(items, searches, places))

    def history_fields(
        self,
        items: tuple[torch.Tensor, torch.Tensor],
        searches: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        places: tuple[torch.Tensor, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Return the fields of two histories, as :class:`EventLog` returns these."""
        suffix = self.config["LIST_SUFFIX"]
        return {
            self.iid_field + suffix: items[0],
            self.item_list_length_field: items[1],
            "search_query_id" + suffix: searches[0],
            "search_item_ids" + suffix: searches[1],
            "search_length": searches[2],
            "item_place" + suffix: places[0],
            "search_place" + suffix: places[1],
        }

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Return the users x items matrix of this split's rows.

        If a user's second interaction is a row, the matrix also contains the first.
        """
        if value_field is not None:
            raise ValueError(f"there is no matrix of '{value_field}' with searches: leave value_field out")
        users, indices = self.inter_feat[self.uid_field], self.inter_feat[TARGET]
        second = indices == self.events.item_offsets[users] + 1
        pairs = {
            self.uid_field: torch.cat([users, users[second]]),
            self.iid_field: torch.cat([self.inter_feat[self.iid_field], self.events.items[indices[second] - 1].long()]),
        }
        return self._create_sparse_matrix(Interaction(pairs), self.uid_field, self.iid_field, form)

    def __str__(self) -> str:
        counts = [super().__str__()]
        events = getattr(self, "events", None)
        n_searches = len(self.search_feat) if events is None and hasattr(self, "search_feat") else 0
        n_searches = len(events.queries) if events is not None else n_searches
        return "\n".join([*counts, set_color("The number of searches", "blue") + f": {n_searches}"])

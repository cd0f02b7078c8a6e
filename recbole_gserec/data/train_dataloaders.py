"""Training dataloaders: several random negatives for each row, and rows of the search task beside each batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data.dataloader import TrainDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_gserec.data.dataset import TARGET
from recbole_gserec.data.events import EventLog, Ragged, build_event_log, no_searches
from recbole_gserec.data.search_rows import JointInteraction, SearchRows
from recbole_gserec.data.windows import Windows
from recbole_gserec.errors import SettingError

_ROUNDS = 50


def training_counts(events: EventLog, n_items: int) -> NDArray[np.int64]:
    """Count each item's training interactions, ``[n_items]``."""
    users, items = events.users_of_interactions().numpy(), events.items.numpy()
    in_training = np.arange(len(items)) < events.train_ends.numpy()[users]
    return np.bincount(items[in_training], minlength=n_items)


class NegativeSampler:
    """Draws items that a user neither interacted with nor clicked in the training part.

    Later events are ignored: excluding a validation or test target from the negatives would reveal it to the model.

    Args:
        events: All events, with the end of their training part.
        n_items: Number of item ids, including padding.
        popularity: Exponent: an item's probability is proportional to this power of its number of training
            interactions. None for equal probabilities.
        candidates: Items to draw from; those with an interaction by default.
    """

    def __init__(
        self,
        events: EventLog,
        n_items: int,
        popularity: float | None = None,
        candidates: NDArray[np.int64] | None = None,
    ):
        self._n_items = n_items
        users, items = events.users_of_interactions().numpy(), events.items.numpy()
        in_training = np.arange(len(items)) < events.train_ends.numpy()[users]
        searches = np.arange(len(events.queries)).repeat(np.diff(events.clicks.offsets.numpy()))
        clickers, clicked = events.users_of_clicks().numpy(), events.clicks.values.numpy()
        click_in_training = searches < events.train_search_ends.numpy()[clickers]
        pairs = np.concatenate(
            [
                users[in_training] * n_items + items[in_training],
                clickers[click_in_training] * n_items + clicked[click_in_training],
            ]
        )
        self._known = np.unique(pairs)
        # Only items with an interaction are candidates in evaluation, so other negatives would be useless.
        self._items = np.unique(items).astype(np.int64) if candidates is None else candidates
        self._cumulative = None
        if popularity is not None:
            cumulative = np.cumsum(training_counts(events, n_items)[self._items].astype(float) ** popularity)
            # Divided by its last value, it ends with exactly 1, above every number that is drawn.
            self._cumulative = cumulative / cumulative[-1]

    def sample(self, users: NDArray[np.int64], n_negatives: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw negatives for each row.

        Args:
            users: ``[B]`` user of each row.
            n_negatives: Number of negatives of a row, possibly with duplicates.
            rng: Random generator.

        Returns:
            ``[B, n_negatives]`` item ids. A user who knows (almost) all items may get a known one.
        """
        base = np.repeat(users * self._n_items, n_negatives)
        negatives = self._draw(len(base), rng)
        waiting = np.flatnonzero(self._is_known(base + negatives))
        for _ in range(_ROUNDS):
            if len(waiting) == 0:
                break
            negatives[waiting] = self._draw(len(waiting), rng)
            waiting = waiting[self._is_known(base[waiting] + negatives[waiting])]
        return negatives.reshape(len(users), n_negatives)

    def sample_shared(self, users: NDArray[np.int64], n_negatives: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw negatives once for all rows; 0 stands for those that the user of a row knows: ``[B, n_negatives]``."""
        drawn = self._draw(n_negatives, rng)
        known = self._is_known((users[:, None] * self._n_items + drawn).ravel()).reshape(len(users), n_negatives)
        return np.where(known, 0, drawn)

    def _draw(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        if self._cumulative is None:
            return self._items[rng.integers(len(self._items), size=size)]
        return self._items[np.searchsorted(self._cumulative, rng.random(size), side="right")]

    def _is_known(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        indices = np.minimum(np.searchsorted(self._known, pairs), len(self._known) - 1)
        return self._known[indices] == pairs


class SearchTrainDataLoader(TrainDataLoader):
    """Batches of positive rows, each with its negatives in a separate field instead of a repeated row per negative."""

    def _set_neg_sample_args(
        self, config: Config, dataset: Dataset, dl_format: Any, neg_sample_args: dict[str, Any]
    ) -> None:
        if neg_sample_args["dynamic"]:
            raise SettingError("train_neg_sample_args: search-aware models and windows only support dynamic: False")
        if neg_sample_args["distribution"] not in ("uniform", "popularity"):
            distribution = neg_sample_args["distribution"]
            raise SettingError(
                f"train_neg_sample_args: distribution is '{distribution}'; it must be 'uniform' or 'popularity'"
            )
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.neg_item_id = config["NEG_PREFIX"] + self.iid_field
        self.neg_sample_args, self.times = neg_sample_args, 1
        self.neg_sample_num = neg_sample_args["sample_num"]

    def __init__(self, config: Config, dataset: Dataset, sampler: Any, shuffle: bool = False):
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        is_popularity = self.neg_sample_args["distribution"] == "popularity"
        self._negatives = self._negative_sampler(dataset, self.neg_sample_args["alpha"] if is_popularity else None)
        # A separate generator: negatives do not depend on how many random numbers a model draws.
        self._negative_rng = np.random.default_rng([config["seed"], config["local_rank"]])
        self._worker_seed: int | None = None
        self._shares = bool(config["shared_negatives"])
        self._stored = None
        if self._stores_negatives(config):
            # Equal in all processes of a distributed run.
            rng = np.random.default_rng(config["seed"])
            self._stored = self._negatives.sample(self._users_of_rows(), self.neg_sample_num, rng)

    def _negative_sampler(self, dataset: Dataset, popularity: float | None) -> NegativeSampler:
        return NegativeSampler(dataset.events, dataset.item_num, popularity)

    def _stores_negatives(self, config: Config) -> bool:
        if not config["resample_negatives"] and config["shared_negatives"]:
            raise SettingError(
                "resample_negatives is False, but shared_negatives is True: shared negatives are drawn for each batch"
            )
        return not config["resample_negatives"]

    def _users_of_rows(self) -> NDArray[np.int64]:
        return self._dataset.inter_feat[self.uid_field].numpy()

    def collate_fn(self, index: Sequence[int]) -> Any:
        rows = np.array(index)
        data = self.transform(self._dataset, self._dataset[rows])
        if self._stored is not None:
            negatives = self._stored[rows]
        else:
            negatives = self._draw(data[self.uid_field], self._generator())
        data.interaction[self.neg_item_id] = torch.from_numpy(negatives)
        return data

    def _draw(self, users: torch.Tensor, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw negatives of rows with these users, ``[B]``: for each row, or for all together."""
        draw = self._negatives.sample_shared if self._shares else self._negatives.sample
        return draw(users.numpy(), self.neg_sample_num, rng)

    def _generator(self) -> np.random.Generator:
        """Return the generator of this process.

        A worker is a copy of its parent, so it needs its own seed in each epoch.
        """
        worker = torch.utils.data.get_worker_info()
        if worker is not None and worker.seed != self._worker_seed:
            self._worker_seed = worker.seed
            self._negative_rng = np.random.default_rng([worker.seed, self.config["local_rank"]])
        return self._negative_rng


class WindowTrainDataLoader(SearchTrainDataLoader):
    """Batches of windows of users' events: each training row is a target of one window (:class:`Windows`).

    A batch has ``train_batch_size`` targets on average, and the negatives of each target ``[B, T, n_negatives]``.
    Windows with most targets come first, so that models can score those of about the same size together.
    """

    def __init__(self, config: Config, dataset: Dataset, sampler: Any, shuffle: bool = False):
        self._windows = self._divide(dataset)
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        if self._stored is not None:
            # Which of the stored rows belong to each window.
            self._rows = Ragged(torch.arange(len(self._windows.targets.values)), self._windows.targets.offsets)

    def _divide(self, dataset: Dataset) -> Windows:
        """Divide the rows of a dataset into windows."""
        users, targets = dataset.inter_feat[dataset.uid_field], dataset.inter_feat[TARGET]
        sizes = dataset.max_item_list_len, dataset.max_search_list_len
        return Windows.of_targets(dataset.events, users, targets, *sizes)

    def _batch(self, windows: Windows) -> Interaction:
        return windows.batch(self._dataset)

    def _init_batch_size_and_step(self) -> None:
        self.sample_size = len(self._windows)
        targets_in_window = max(1, len(self._windows.targets.values)) / max(1, self.sample_size)
        self.step = max(1, round(self.config["train_batch_size"] / targets_in_window))
        self.set_batch_size(self.step)

    def _users_of_rows(self) -> NDArray[np.int64]:
        return self._windows.per_target(self._windows.users).numpy()

    def collate_fn(self, index: Sequence[int]) -> Any:
        chosen = torch.tensor(index)
        n_targets = self._windows.targets.offsets.diff()[chosen]
        chosen = chosen[n_targets.argsort(descending=True, stable=True)]
        windows = self._windows.take(chosen)
        data = self.transform(self._dataset, self._batch(windows))
        if self._stored is not None:
            negatives = self._stored[self._rows.take(chosen).values.numpy()]
        else:
            negatives = self._draw(windows.per_target(windows.users), self._generator())
        data.interaction[self.neg_item_id] = windows.padded(torch.from_numpy(negatives))
        return data


class ItemTrainDataLoader(SearchTrainDataLoader):
    """The same for models of RecBole's kind, from the rows of RecBole's sequential datasets; they read no searches.

    All items may be negatives, as in RecBole, but not those of the user's training part, which RecBole's sampler may
    draw. There are none if the loss takes none.
    """

    def _set_neg_sample_args(
        self, config: Config, dataset: Dataset, dl_format: Any, neg_sample_args: dict[str, Any]
    ) -> None:
        has_negatives = neg_sample_args["distribution"] != "none"
        none = {"distribution": "uniform", "sample_num": 0, "dynamic": False}
        super()._set_neg_sample_args(config, dataset, dl_format, neg_sample_args if has_negatives else none)

    def _negative_sampler(self, dataset: Dataset, popularity: float | None) -> NegativeSampler:
        return NegativeSampler(self._events_of(dataset), dataset.item_num, popularity, np.arange(1, dataset.item_num))

    def _events_of(self, dataset: Dataset) -> EventLog:
        return events_of_rows(dataset)[0]

    def _stores_negatives(self, config: Config) -> bool:
        return False


class ItemWindowTrainDataLoader(ItemTrainDataLoader, WindowTrainDataLoader):
    """Windows of the rows of RecBole's sequential datasets."""

    def _divide(self, dataset: Dataset) -> Windows:
        self._events, targets = events_of_rows(dataset)
        return Windows.of_targets(
            self._events, dataset.inter_feat[dataset.uid_field], targets, dataset.max_item_list_len, n_searches=1
        )

    def _events_of(self, dataset: Dataset) -> EventLog:
        return self._events

    def _batch(self, windows: Windows) -> Interaction:
        length = 2 * self._dataset.max_item_list_len
        items, lengths = self._events.items_between(windows.item_starts, windows.ends, length)
        return Interaction(
            {
                self.uid_field: windows.users,
                self.iid_field + self.config["LIST_SUFFIX"]: items,
                self._dataset.item_list_length_field: lengths,
                **windows.target_fields(self._events),
            }
        )


def events_of_rows(dataset: Dataset) -> tuple[EventLog, torch.Tensor]:
    """Recover users' interactions from the rows of one of RecBole's sequential datasets.

    Returns:
        The interactions, and the index of each row's target in :attr:`EventLog.items`, ``[n_rows]``.

    Raises:
        SettingError: If the history of a row is not the targets of the user's earlier rows and one first interaction.
    """
    rows, suffix = dataset.inter_feat, dataset.config["LIST_SUFFIX"]
    order = rows[dataset.uid_field].argsort(stable=True)
    users, items = rows[dataset.uid_field][order], rows[dataset.iid_field][order]
    lengths = rows[dataset.item_list_length_field][order].long()
    latest = rows[dataset.iid_field + suffix][order].gather(1, (lengths - 1).clamp_min(0).unsqueeze(1)).squeeze(1)
    is_first = torch.ones(len(users), dtype=torch.bool)
    is_first[1:] = users[1:] != users[:-1]
    if (lengths[is_first] != 1).any() or (latest[1:] != items[:-1])[~is_first[1:]].any():
        raise SettingError(
            "train_rows: users and losses over several negatives need training rows that follow each other: split by "
            "time (eval_args: order: TO), without benchmark_filename"
        )
    # A user's first interaction is no target.
    columns = torch.cat([users[is_first], users]), torch.cat([latest[is_first], items])
    times = torch.cat([torch.zeros(int(is_first.sum())), torch.arange(1, len(users) + 1)]).double()
    log, sorting = build_event_log(
        dataset.user_num, (*(part.numpy() for part in columns), times.numpy()), *no_searches()
    )
    indices = torch.from_numpy(sorting).argsort()[int(is_first.sum()) :]
    return log, torch.empty_like(indices).index_copy(0, order, indices)


class JointTrainDataLoader(SearchTrainDataLoader):
    """Adds rows of the search task to each batch: a :class:`JointInteraction`.

    An epoch contains every search row once, in a new order, distributed evenly over the batches of all workers and
    processes. Each of the last ``MAX_CLICK_LIST_LENGTH`` clicks of each search is a row. Recommendation rows and their
    negatives are the same as for a model that does not learn to search.
    """

    def __init__(self, config: Config, dataset: Dataset, sampler: Any, shuffle: bool = False):
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        self._search_rows = SearchRows.of_training(dataset.events, dataset.max_click_list_len)
        # Equal in all processes of a distributed run.
        self._order_rng = np.random.default_rng(config["seed"])
        self._search_order, self._n_taken = np.zeros(0, dtype=np.int64), 0
        self._stored_search = None
        if self._stored is not None:
            users = self._search_rows.users.numpy()
            self._stored_search = self._negatives.sample(users, self.neg_sample_num, self._order_rng)

    def __iter__(self) -> Iterator[Any]:
        # Drawn before workers start, because they are copies.
        self._search_order, self._n_taken = self._order_rng.permutation(len(self._search_rows)), 0
        return super().__iter__()

    def collate_fn(self, index: Sequence[int]) -> Any:
        data = super().collate_fn(index)
        indices = self._take()
        search = self._search_rows.take(indices).batch(self._dataset)
        if self._stored_search is not None:
            negatives = self._stored_search[indices]
        else:
            (rng,) = self._generator().spawn(1)
            negatives = self._draw(search[self.uid_field], rng)
        search.interaction[self.neg_item_id] = torch.from_numpy(negatives)
        return JointInteraction(data.interaction, search)

    def _take(self) -> np.ndarray:
        """Return the search rows of the next batch: an even share of the epoch's order."""
        worker = torch.utils.data.get_worker_info()
        # Workers take turns with the batches of a process, and processes with those of a distributed run.
        n_workers, first = (1, 0) if worker is None else (worker.num_workers, worker.id)
        is_shared = isinstance(self.sampler, torch.utils.data.distributed.DistributedSampler)
        n_processes, process = (self.sampler.num_replicas, self.sampler.rank) if is_shared else (1, 0)
        number = (first + self._n_taken * n_workers) * n_processes + process
        self._n_taken += 1
        n_rows, n_batches = len(self._search_order), len(self) * n_processes
        return self._search_order[n_rows * number // n_batches : n_rows * (number + 1) // n_batches]

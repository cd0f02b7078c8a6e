"""Everything known about one user of a trained model, in original ids and texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from recbole_gserec.data import CODES_OF_SIDE, SearchDataset, SearchRecord, TrainingHistories
from recbole_gserec.errors import GSERecError, SettingError, nearest, not_none
from recbole_gserec.files import read_columns
from recbole_gserec.models import SIDES, GSERec
from recbole_gserec.preprocess import Store, build_prompts, maker_hash, read_code_record, read_item_texts, text_hash
from recbole_gserec.preprocess.summarizers import SUMMARIZERS
from recbole_gserec.recommend import Recommender, Trained
from recbole_gserec.settings import PreprocessSettings, store_path


class _OneUser:
    """The histories of a single user, in the form needed to build prompts."""

    def __init__(self, histories: TrainingHistories, index: int):
        self._histories, self._index = histories, index
        self.user_tokens = [histories.user_tokens[index]]

    def recommendation_history(self, user: int, n: int) -> list[str]:
        return self._histories.recommendation_history(self._index, n)

    def search_history(self, user: int, n: int) -> list[SearchRecord]:
        return self._histories.search_history(self._index, n)


def find_summaries(
    code_file: Path, store_file: Path, histories: TrainingHistories, index: int, item_texts: Mapping[str, str]
) -> dict[str, str]:
    """Return, for each side of a user, the summary or the reason why it is missing.

    Args:
        code_file: The ``.code`` file; its record is stored next to it.
        store_file: Store of the offline stage.
        histories: Histories of all users.
        index: Index of the user in the histories.
        item_texts: Text by item.
    """
    try:
        made = read_code_record(code_file, "Make the codes again by gserec preprocess")
        settings = PreprocessSettings(**{**made.settings, **_needed(made.settings)})
        summarizer = SUMMARIZERS[settings.summarizer](settings)
        # Prompts are truncated as before, which needs the language model's tokenizer.
        prompts = {
            side: build_prompts(side, _OneUser(histories, index), item_texts, settings, summarizer.shorten)
            for side in SIDES
        }
    except GSERecError as error:
        return dict.fromkeys(SIDES, f"not known: {error}")
    maker = maker_hash({"name": made.summarizer["name"], **made.summarizer["settings"]})
    found = {}
    for side in SIDES:
        if not prompts[side]:
            found[side] = f"none: no {side} history in the training part (missing_side: {settings.missing_side})"
        elif settings.summarizer == "template":
            found[side] = not_none(summarizer.complete(prompts[side], 1)[0]).text
        else:
            found[side] = _stored(store_file, prompts[side][0].text, maker)
    return found


def _needed(settings: Mapping[str, object]) -> dict[str, str]:
    """Return arguments that a summarizer requires but that are not stored, because they do not affect the result."""
    return {"llm_base_url": "http://localhost"} if settings.get("summarizer") == "openai" else {}


def _stored(path: Path, prompt: str, maker: str) -> str:
    if not path.is_file():
        return f"not known: the store {path.name} is missing"
    key = text_hash(prompt)
    with Store(path) as store:
        summary = store.summaries([key], maker).get(key)
    if summary is None:
        return f"not known: not in the store {path.name}"
    return (
        summary.text if summary.is_usable else f"none: the language model's answer could not be used ({summary.status})"
    )


TRAINING, VALIDATION, TEST, LATER = "training", "validation target", "test target", "after the training part"

_N_NEIGHBOURS = 5
_N_QUERIES = 3


@dataclass(frozen=True)
class Event:
    """An interaction or a search.

    Attributes:
        time: Time as in the file.
        what: The item, or the words of the query.
        part: Part of the split.
        clicks: Clicked items of a search.
    """

    time: float
    what: str
    part: str
    clicks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Neighbour:
    """A user who shares codes.

    Attributes:
        user: Original id.
        shared: By side, the number of shared codes.
        n_searches: Number of searches in the training part.
        queries: The most frequent of those searches, with their counts.
    """

    user: str
    shared: Mapping[str, int]
    n_searches: int
    queries: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class UserStory:
    """What is known about one user.

    Attributes:
        user: Original id.
        dataset: Name of the dataset.
        interactions: In chronological order.
        searches: In chronological order.
        summaries: By side; empty for a model without codes.
        codes: By side, coarse to fine; empty for a model without codes.
        neighbours: Users who share the most codes, most first.
        recommended: Items and scores, best first, from the checkpoint and, if given, from the one without the graph.
    """

    user: str
    dataset: str
    interactions: Sequence[Event]
    searches: Sequence[Event]
    summaries: Mapping[str, str]
    codes: Mapping[str, Sequence[str]]
    neighbours: Sequence[Neighbour]
    recommended: Mapping[str, Sequence[tuple[str, float]]]


def collect_user_story(
    trained: Trained,
    user: str,
    *,
    k: int = 10,
    others: Mapping[str, Trained],
) -> UserStory:
    """Collect what is known about a user.

    Args:
        trained: A search-aware model.
        user: Original id.
        k: Number of recommended items.
        others: Further models by name, whose recommendations are also shown.

    Raises:
        SettingError: If the user is unknown, or the model reads no searches.
    """
    dataset = trained.dataset
    if not isinstance(dataset, SearchDataset):
        raise SettingError(f"{trained.checkpoint} is of {trained.config['model']}, which reads no searches")
    names = dataset.field2id_token[dataset.uid_field]
    index = np.flatnonzero(names[1:] == user)
    if not len(index):
        near = nearest(user, names[1:].tolist())
        hint = f"did you mean '{near}'?" if near else "check the id"
        raise SettingError(f"there is no user '{user}' in the dataset '{trained.config['dataset']}': {hint}")
    internal = int(index[0]) + 1
    options = {"separator": trained.config["field_separator"], "encoding": trained.config["encoding"] or "utf-8"}
    texts = read_item_texts(dataset.file_path("item"), item_field=dataset.iid_field, **options)
    has_codes = hasattr(dataset, "codes")
    return UserStory(
        user,
        str(trained.config["dataset"]),
        _interactions(trained, internal, texts),
        _searches(trained, internal, texts),
        _summaries(trained, internal, texts) if has_codes else {},
        _codes(dataset, user) if has_codes else {},
        _neighbours(trained, internal) if has_codes else (),
        {name: _recommended(model, user, k, texts) for name, model in {"": trained, **others}.items()},
    )


def item_name(item: str, texts: Mapping[str, str]) -> str:
    """Return an item's name with its text."""
    return f"{item} ({texts[item]})" if item in texts else item


def _interactions(trained: Trained, user: int, texts: Mapping[str, str]) -> list[Event]:
    users, items, times = trained.raw.interactions
    rows = _rows_in_time(users, times, user)
    events, tokens = trained.dataset.events, trained.dataset.field2id_token[trained.dataset.iid_field]
    n_training = int(events.train_ends[user] - events.item_offsets[user])
    parts = [TRAINING] * n_training + [VALIDATION, TEST][-(len(rows) - n_training) :] * (n_training < len(rows))
    if len(parts) != len(rows):
        # The user's own split may hold out more than two.
        parts = [TRAINING] * n_training + [LATER] * (len(rows) - n_training)
    return [
        Event(float(times[row]), item_name(str(tokens[items[row]]), texts), part)
        for row, part in zip(rows, parts, strict=True)
    ]


def _searches(trained: Trained, user: int, texts: Mapping[str, str]) -> list[Event]:
    users, queries, times = trained.raw.searches
    rows = _rows_in_time(users, times, user)
    dataset, (clicks, offsets) = trained.dataset, trained.raw.clicks
    n_training = int(dataset.events.train_search_ends[user] - dataset.events.search_offsets[user])
    tokens = dataset.field2id_token[dataset.iid_field]
    words = _words(dataset, queries[rows])
    return [
        Event(
            float(times[row]),
            words[int(queries[row])],
            TRAINING if index < n_training else LATER,
            tuple(item_name(str(tokens[item]), texts) for item in clicks[offsets[row] : offsets[row + 1]]),
        )
        for index, row in enumerate(rows)
    ]


def _rows_in_time(users: NDArray[np.int64], times: NDArray[np.float64], user: int) -> NDArray[np.int64]:
    rows = np.flatnonzero(users == user)
    return rows[np.argsort(times[rows], kind="stable")]


def _words(dataset: SearchDataset, queries: NDArray[np.int64]) -> dict[int, str]:
    """Return the words of some queries; a query without words is named by its id."""
    tokens, ids = dataset.field2id_token["query_words"], dataset.field2id_token["query_id"]
    found = {}
    for query in np.unique(queries).tolist():
        start, end = dataset.query_words.offsets[query : query + 2].tolist()
        text = " ".join(tokens[dataset.query_words.values[start:end].numpy()].tolist())
        found[query] = text or f"{ids[query]} (no words)"
    return found


def _summaries(trained: Trained, user: int, texts: Mapping[str, str]) -> dict[str, str]:
    dataset, store = trained.dataset, store_path(trained.config)
    return find_summaries(Path(dataset.file_path("code")), store, TrainingHistories(dataset), user - 1, texts)


def _codes(dataset: SearchDataset, user: str) -> dict[str, tuple[str, ...]]:
    table = read_columns(dataset.file_path("code"), ["code_user_id", *CODES_OF_SIDE.values()])
    row = table.filter(pc.equal(table["code_user_id"], user))
    return {side: tuple(row[column][0].as_py().split()) for side, column in CODES_OF_SIDE.items()}


def shared_codes(codes: torch.Tensor, user: int) -> NDArray[np.int64]:
    """Count the codes that each user shares with one user, ``[n_users]``; codes are ``[n_users, L]``, 0 for none."""
    own = codes[user]
    return ((codes == own) & (own > 0)).sum(1).cpu().numpy()


def _neighbours(trained: Trained, user: int) -> list[Neighbour]:
    dataset, model = trained.dataset, trained.model
    nodes = model.graph if isinstance(model, GSERec) and model.use_graph else dataset.codes
    # A code's id includes its level, so equal codes are at the same level.
    shared = {side: shared_codes(nodes[side].codes, user) for side in SIDES}
    total = np.sum(list(shared.values()), axis=0)
    total[[0, user]] = 0
    nearest = np.argsort(-total, kind="stable")[:_N_NEIGHBOURS]
    names, events = dataset.field2id_token[dataset.uid_field], dataset.events
    found = []
    for other in nearest[total[nearest] > 0].tolist():
        queries = events.queries[events.search_offsets[other] : events.train_search_ends[other]].numpy()
        distinct, counts = np.unique(queries, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:_N_QUERIES]
        words = _words(dataset, distinct[most])
        found.append(
            Neighbour(
                str(names[other]),
                {side: int(shared[side][other]) for side in SIDES},
                len(queries),
                tuple((words[int(distinct[index])], int(counts[index])) for index in most),
            )
        )
    return found


def _recommended(trained: Trained, user: str, k: int, texts: Mapping[str, str]) -> list[tuple[str, float]]:
    recommender = Recommender(trained)
    chosen = recommender.choose([user]).users
    rows = [row for _, table in recommender.recommend(chosen, k) for row in table.to_pylist()]
    return [(item_name(row["item"], texts), row["score"]) for row in rows]

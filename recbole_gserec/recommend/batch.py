"""One call of ``gserec recommend``, and the description of the file it writes."""

from collections.abc import Iterator
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

import recbole_gserec
from recbole_gserec.files import sha256_of_file
from recbole_gserec.provenance import installed_versions
from recbole_gserec.recommend.new_events import read_new_events
from recbole_gserec.recommend.output import check_output, csv_to_stream, write_recommendations
from recbole_gserec.recommend.recommender import USERS_AT_ONCE, Choice, Recommender
from recbole_gserec.recommend.retrieval import check_retrieval
from recbole_gserec.recommend.trained import Evaluation, Trained, load_trained

_PACKAGES = ("recbole", "torch", "numpy", "pyarrow")


def describe_provenance(trained: Trained | Evaluation) -> dict[str, Any]:
    """Describe the model, its checkpoint, its dataset's files and the versions of libraries."""
    return {
        "model": trained.config["model"],
        "dataset": trained.config["dataset"],
        "dataset_files": trained.config.dataset_files,
        "checkpoint": trained.checkpoint.name,
        "checkpoint_sha256": sha256_of_file(trained.checkpoint),
        "versions": {"recbole-gserec": recbole_gserec.__version__, **installed_versions(_PACKAGES)},
    }


logger = getLogger(__name__)

RECALL_USERS = 100
"""Default size of the sample on which the recall of a retrieval is measured."""

_RECALL_SEED = 0
_RECALL_USERS_AT_ONCE = 8
"""Few, so that progress is seen."""


@dataclass(frozen=True)
class Request:
    """The recommendations to make.

    Attributes:
        checkpoint: Checkpoint of a trained model.
        data_path: Parent folder of all datasets; None for that of the training.
        users: Original ids; None for all users.
        k: Number of items for each user.
        exclude_seen: Leave out items that a user has interacted with or clicked in search.
        all_items: Also recommend items without any interaction.
        new_interactions: File of interactions after training.
        new_searches: File of searches after training.
        new_queries: File with the words of their queries.
        batch_size: Maximum number of users in a batch.
        retrieve: Number of items to retrieve for each user, see :meth:`Recommender.recommend`; 0 ranks all items.
        recall_users: Number of users in the sample on which the recall of the retrieval is measured; 0 for none.
    """

    checkpoint: Path
    data_path: Path | None = None
    users: list[str] | None = None
    k: int = 10
    exclude_seen: bool = True
    all_items: bool = False
    new_interactions: Path | None = None
    new_searches: Path | None = None
    new_queries: Path | None = None
    batch_size: int = USERS_AT_ONCE
    retrieve: int = 0
    recall_users: int = RECALL_USERS


def recommend_to_file(request: Request, out: Path) -> int:
    """Write recommendations to a file and their provenance next to it; return the number of rows.

    Raises:
        GSERecError: If the checkpoint, the dataset, a user, a file of new events or the output's suffix is wrong.
    """
    check_output(out)
    trained, recommender, choice = _prepare(request)
    options = {
        "k": request.k,
        "users": "all" if request.users is None else len(choice.users),
        "exclude_seen": request.exclude_seen,
        "all_items": request.all_items,
        "new_events": _hashes(request),
    }
    description = {**describe_provenance(trained), "options": options}
    if request.retrieve:
        options["retrieve"] = request.retrieve
        if (recall := _measure_recall(recommender, choice, request)) is not None:
            description["retrieval_recall"] = recall
    return write_recommendations(out, _tables(recommender, choice, request), description)


def recommend_to_stream(request: Request, stream: IO[str]) -> None:
    """Write recommendations as CSV to a stream, batch by batch."""
    _, recommender, choice = _prepare(request)
    if request.retrieve:
        _measure_recall(recommender, choice, request)
    write = csv_to_stream(stream)
    for table in _tables(recommender, choice, request):
        write(table)


def _prepare(request: Request) -> tuple[Trained, Recommender, Choice]:
    trained, new = load_trained(request.checkpoint, request.data_path), None
    check_retrieval(trained, request.k, request.retrieve)
    files = (request.new_interactions, request.new_searches, request.new_queries)
    if any(files):
        new = read_new_events(trained, *files)
        for line in new.skipped.lines():
            logger.warning(line)
    recommender = Recommender(trained, new, exclude_seen=request.exclude_seen, all_items=request.all_items)
    choice = recommender.choose(request.users)
    for line in choice.left_out:
        logger.warning(line)
    return trained, recommender, choice


def _tables(recommender: Recommender, choice: Choice, request: Request) -> Iterator[pa.RecordBatch]:
    with tqdm(total=len(choice.users), desc="recommend", unit="user", disable=None) as progress:
        for n_users, table in recommender.recommend(
            choice.users, request.k, request.batch_size, retrieve=request.retrieve
        ):
            yield table
            progress.update(n_users)


def _measure_recall(recommender: Recommender, choice: Choice, request: Request) -> dict[str, Any] | None:
    """Measure and report the recall of the retrieval on a sample of the users; None without a sample."""
    if recommender.is_retrieval_exact(request.retrieve):
        logger.info("retrieval misses no item")
        return {"exact": True}
    n_users = min(request.recall_users, len(choice.users))
    if n_users < 1:
        return None
    sample = np.random.default_rng(_RECALL_SEED).choice(choice.users, n_users, replace=False)
    recalls = []
    with tqdm(total=n_users, desc="recall of the retrieval", unit="user", disable=None) as progress:
        for part in np.split(sample, range(_RECALL_USERS_AT_ONCE, n_users, _RECALL_USERS_AT_ONCE)):
            recalls.append(recommender.retrieval_recall(part, request.k, request.retrieve))
            progress.update(len(part))
    measured = np.concatenate(recalls)
    measured = measured[~np.isnan(measured)]
    if len(measured) == 0:
        return None
    recall, n_users = float(measured.mean()), len(measured)
    logger.info(
        f"{recall:.2%} of the best {request.k:,} of all items are among the {request.retrieve:,} retrieved "
        f"(mean of {n_users:,} users)"
    )
    return {"exact": False, "recall": recall, "users": n_users, "seed": _RECALL_SEED}


def _hashes(request: Request) -> dict[str, Any]:
    files = {
        "interactions": request.new_interactions,
        "searches": request.new_searches,
        "queries": request.new_queries,
    }
    return {name: sha256_of_file(path) for name, path in files.items() if path is not None}

"""The candidates of each user in the order of a model, as TREC files for evaluation programs of others."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from recbole.config import Config
from torch import Tensor

from recbole_gserec.errors import DataError, SettingError, not_none
from recbole_gserec.evaluation import CandidateBatch, TieAwareCollector, TopK
from recbole_gserec.files import folder_written_aside, plain, sha256_of_file, write_json
from recbole_gserec.recommend.exported_vectors import DESCRIPTION_FILE
from recbole_gserec.recommend.trained import Evaluation

_TARGETS_AT_ONCE = 256


class Rankings(NamedTuple):
    """The first k candidates of B rows.

    Shapes:
        - **users**: ``[B]`` internal ids.
        - **items**: ``[B, k]`` internal ids, best first; 0 where a row has fewer candidates.
        - **scores**: ``[B, k]`` ``float32``.
        - **targets**: ``[n_targets, 2]``, row and item of each target.
        - **n_tied**: how many targets have the same score as a candidate that is no target.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    scores: NDArray[np.float32]
    targets: NDArray[np.int64]
    n_tied: int


def rank_candidates(scores: Tensor, rows: Tensor, columns: Tensor, depth: int) -> tuple[Tensor, Tensor, int]:
    """Order candidates as the ranks of :func:`ranks_against_ties` do: of equal scores, those of targets come last.

    Args:
        scores: ``[B, C]``; ``-inf`` for columns that are no candidates.
        rows: ``[n_targets]``, row of each target.
        columns: ``[n_targets]``, column of each target.
        depth: Number of columns to return.

    Returns:
        Columns ``[B, min(depth, C)]``, best first; their scores, ``-inf`` where a row has fewer candidates; and how
        many targets are tied.
    """
    is_target = torch.zeros_like(scores, dtype=torch.bool)
    is_target[rows, columns] = True
    n_tied = 0
    for part, places in zip(rows.split(_TARGETS_AT_ONCE), columns.split(_TARGETS_AT_ONCE), strict=True):
        tied = (scores[part] == scores[part, places].unsqueeze(1)) & ~is_target[part]
        n_tied += int(tied.any(1).sum())
    targets_last = is_target.sort(dim=1, stable=True).indices
    best = TopK(depth)
    best.add(scores.gather(1, targets_last), 0)
    return targets_last.gather(1, not_none(best.indices)), not_none(best.scores), n_tied


class RankingCollector(TieAwareCollector):
    """A collector that also passes on the rankings of each batch.

    Args:
        config: RecBole's settings.
        depth: Number of items of a ranking.
        receive: Called with the rankings of each batch.
    """

    def __init__(self, config: Config, depth: int, receive: Callable[[Rankings], None]):
        super().__init__(config)
        self._depth, self._receive = depth, receive
        self._user_id = config["USER_ID_FIELD"]

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Any, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        device = scores_tensor.device
        rows, columns = positive_u.to(device), positive_i.to(device)
        indices, scores, n_tied = rank_candidates(scores_tensor, rows, columns, self._depth)
        targets = columns
        if isinstance(interaction, CandidateBatch):
            # The last column only ends every ranking.
            ids = torch.nn.functional.pad(interaction.candidates.to(device), (0, 1))
            indices, targets, interaction = ids.gather(1, indices), ids[rows, columns], interaction.interaction
        items = indices.masked_fill(scores == -torch.inf, 0)
        users = interaction[self._user_id]
        if len(users) != len(items):
            raise SettingError("rankings of candidates that RecBole draws anew in each evaluation cannot be written")
        pairs = torch.stack([rows, targets], dim=1)
        arrays = [part.cpu().numpy() for part in (users, items, scores.float(), pairs)]
        self._receive(Rankings(arrays[0], arrays[1], arrays[2], arrays[3], n_tied))


class _Files:
    """The two files of a part of the split, written batch by batch.

    A user with several rows has several topics: ``user``, ``user#2``, ...
    """

    def __init__(self, qrels: TextIO, run: TextIO, tokens: Mapping[str, NDArray[np.str_]], tag: str):
        self._qrels, self._run, self._tokens, self._tag = qrels, run, tokens, tag
        self._rows_of_user = np.zeros(len(tokens["user"]), dtype=np.int64)
        self.n_topics = self.n_tied = 0

    def write(self, batch: Rankings) -> None:
        number = self._rows_of_user[batch.users] + pd.Series(batch.users).groupby(batch.users).cumcount().to_numpy()
        np.add.at(self._rows_of_user, batch.users, 1)
        topics = self._tokens["user"][batch.users].astype(object)
        repeated = number > 0
        if repeated.any():
            topics[repeated] += "#" + (number[repeated] + 1).astype(str).astype(object)
            if (same := np.isin(topics[repeated], self._tokens["user"])).any():
                topic = topics[repeated][same][0]
                raise SettingError(f"the user id '{topic}' is also the topic of another user's next row; rename it")
        rows, items = batch.targets.T
        self._to_csv(self._qrels, topic=topics[rows], zero=0, item=self._tokens["item"][items], relevance=1)
        rows, places = batch.items.nonzero()
        self._to_csv(
            self._run,
            topic=topics[rows],
            q0="Q0",
            item=self._tokens["item"][batch.items[rows, places]],
            rank=places + 1,
            score=batch.scores[rows, places],
            tag=self._tag,
        )
        self.n_topics += len(topics)
        self.n_tied += batch.n_tied

    @staticmethod
    def _to_csv(file: TextIO, **columns: Any) -> None:
        # Nine digits give back the same 32-bit number.
        pd.DataFrame(columns).to_csv(
            file, sep=" ", header=False, index=False, float_format="%.9g", quoting=csv.QUOTE_NONE
        )


def write_trec_files(
    folder: Path, evaluation: Evaluation, depth: int, description: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Evaluate a model again, and write ``<part>.qrels``, ``<part>.run`` and ``export.json`` into a new folder.

    Args:
        folder: The folder; it must be missing or empty.
        evaluation: The model and its data.
        depth: Number of items of a ranking.
        description: Provenance of the files.

    Returns:
        For each part of the split: ``topics`` and ``tied``, their numbers, and ``metrics``, those of this package.

    Raises:
        DataError: If an id has a space, which these files cannot hold.
        SettingError: If the candidates are drawn anew in each evaluation.
    """
    config, dataset, trainer = evaluation.config, evaluation.dataset, evaluation.trainer
    tokens = {
        kind: _without_spaces(dataset.field2id_token[field], kind, config["data_path"])
        for kind, field in (("user", dataset.uid_field), ("item", dataset.iid_field))
    }
    parts = {}
    with folder_written_aside(folder) as temporary:
        for part, loader in evaluation.parts.items():
            qrels, run = temporary / f"{part}.qrels", temporary / f"{part}.run"
            with qrels.open("w", encoding="utf-8") as first, run.open("w", encoding="utf-8") as second:
                files = _Files(first, second, tokens, config["model"])
                trainer.eval_collector = RankingCollector(config, depth, files.write)
                trainer.eval_collector.data_collect(evaluation.training)
                metrics = trainer.evaluate(loader, load_best_model=False)
            parts[part] = {"topics": files.n_topics, "tied": files.n_tied, "metrics": plain(metrics)}
        digests = {file.name: sha256_of_file(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / DESCRIPTION_FILE, {**description, "depth": depth, "parts": parts, "sha256": digests})
    return parts


def _without_spaces(tokens: NDArray[np.str_], kind: str, data_path: str) -> NDArray[np.str_]:
    spaced = pd.Series(tokens.astype(str)).str.contains(r"\s")
    if spaced.any():
        token = tokens[int(spaced.argmax())]
        raise DataError(data_path, f"the {kind} id '{token}' has a space, which TREC files cannot hold", "Rename it.")
    return tokens

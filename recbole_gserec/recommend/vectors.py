"""The vectors of a trained model, in named tables."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor, nn

from recbole_gserec.data.search_files import read_code_file
from recbole_gserec.data.user_codes import CODES_OF_SIDE
from recbole_gserec.errors import DataError, GSERecError, SettingError
from recbole_gserec.models.gserec import SIDES, GSERec
from recbole_gserec.recommend.factors import Factors, score_factors
from recbole_gserec.recommend.trained import Trained
from recbole_gserec.recommend.users import Users, collect_users

_USERS_AT_ONCE = 1 << 12


@dataclass(frozen=True)
class Vectors:
    """A table of vectors.

    Attributes:
        name: Name of the table and of its file.
        meaning: What the vectors are, in one line.
        ids: Columns with the original ids of each vector, ``[n]`` each.
        values: ``[n, d]`` ``float32``.
    """

    name: str
    meaning: str
    ids: dict[str, np.ndarray]
    values: np.ndarray


@dataclass(frozen=True)
class Exported:
    """All vectors of a model.

    Attributes:
        tables: The tables.
        score: Names of the tables of users and of items whose dot products are the model's scores; None for other
            models.
    """

    tables: list[Vectors] = field(default_factory=list)
    score: tuple[str, str] | None = None


def export_vectors(trained: Trained) -> Exported:
    """Return the vectors of users, items and, if the model has any, codes.

    Raises:
        SettingError: If the model has no vectors of users or items.
        DataError: If the ``.code`` file that names the codes is missing.
        GSERecError: If a vector has NaN or infinite values.
    """
    exported = _export(trained)
    for table in exported.tables:
        if not np.isfinite(table.values).all():
            raise GSERecError(
                f"{trained.checkpoint}: '{table.name}' ({table.meaning}) has NaN or infinite values: the training "
                "diverged. Train again with a smaller learning_rate"
            )
    return exported


@torch.no_grad()
def _export(trained: Trained) -> Exported:
    if isinstance(trained.model, GSERec):
        items = _items(trained, trained.model.item_embedding.weight, "items, as learnt (Section 4.2.1)")
        return Exported([items, *graph_vectors(trained)])
    users = collect_users(trained)
    factors = score_factors(trained, users)
    if factors is not None:
        return Exported(_factor_tables(trained, users, factors), ("users", "items"))
    tables = _embedding_tables(trained)
    if not tables:
        raise SettingError(
            f"{trained.checkpoint}: {trained.config['model']} has no vectors of users or items to export"
        )
    return Exported(tables)


def _factor_tables(trained: Trained, users: Users, factors: Factors) -> list[Vectors]:
    chosen = np.arange(1, len(users))[users.has_history[1:]]
    parts = [factors.users(part) for part in torch.from_numpy(chosen).split(_USERS_AT_ONCE)]
    return [
        Vectors("users", factors.users_meaning, {"user": users.names[chosen]}, _numpy(torch.cat(parts))),
        _items(trained, factors.items, factors.items_meaning),
    ]


@torch.no_grad()
def graph_vectors(trained: Trained) -> list[Vectors]:
    """Compute GSERec's user and code vectors after message passing (Equations 8 and 10); none without graphs.

    Returns:
        ``users_initial``, and for each side ``users_<side>`` and ``codes_<side>``. All tables of users have the same
        ones in the same order.

    Raises:
        DataError: If the ``.code`` file that names the codes is missing.
    """
    model: GSERec = trained.model
    if not model.use_graph:
        return []
    layers, names = model.propagate(), _user_names(trained)
    ids = torch.arange(1, trained.dataset.user_num, device=model.user_embedding.weight.device)
    tables = [_of_users("users_initial", "users before message passing (Section 4.2.1)", names, model.user_embedding)]
    for side in SIDES:
        parts = [
            model.graph[side].users_at(part, model.user_embedding(part), layers[side])
            for part in ids.split(_USERS_AT_ONCE)
        ]
        meaning = f"users after message passing over the graph of {side} codes (Eq. 8)"
        tables.append(Vectors(f"users_{side}", meaning, {"user": names}, _numpy(torch.cat(parts))))
        code_ids, columns = _code_names(trained, side)
        values = layers[side].final[torch.as_tensor(code_ids, device=ids.device)]
        meaning = f"{side} codes after message passing (Eq. 8), which Eq. 10 looks up"
        tables.append(Vectors(f"codes_{side}", meaning, columns, _numpy(values)))
    return tables


def _code_names(trained: Trained, side: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the id of each code in the graph, with its name and level (1 is the coarsest) in the ``.code`` file."""
    dataset = trained.dataset
    path = dataset.file_path("code")
    frame, sequences = read_code_file(path, separator="\t", seq_separator=" ", encoding="utf-8")
    flat = sequences[CODES_OF_SIDE[side]]
    users = pd.Index(dataset.field2id_token[dataset.uid_field]).get_indexer(frame["code_user_id"])
    lengths = np.diff(flat.offsets)
    of_users = dataset.codes[side].codes.numpy()[users[lengths > 0]]
    if of_users.size != len(flat.frame):
        raise DataError(path, "changed while it was read", "Export again.")
    levels = np.tile(np.arange(1, of_users.shape[1] + 1), len(of_users))
    names = pd.DataFrame({"id": of_users.ravel(), "code": flat.frame.iloc[:, 0].astype(object), "level": levels})
    names = names.drop_duplicates("id").sort_values("id")
    return names["id"].to_numpy(), {"code": names["code"].to_numpy(), "level": names["level"].to_numpy()}


def _embedding_tables(trained: Trained) -> list[Vectors]:
    """Return the embedding tables of a model whose scores are not dot products."""
    model, dataset, tables = trained.model, trained.dataset, []
    for kind, size in (("item", dataset.item_num), ("user", dataset.user_num)):
        embedding = _embedding(model, kind, size)
        if embedding is None:
            continue
        meaning = f"{kind}s, as learnt ({embedding[0]}); the model's scores are no dot products of them"
        if kind == "item":
            tables.append(_items(trained, embedding[1].weight, meaning))
        else:
            tables.append(_of_users("users", meaning, _user_names(trained), embedding[1]))
    return tables


def _embedding(model: AbstractRecommender, kind: str, size: int) -> tuple[str, nn.Embedding] | None:
    """Return the table of users or items, by the names used in RecBole's models and ours."""
    for name in (f"{kind}_embedding", f"{kind}_embeddings", f"{kind}_emb"):
        table = getattr(model, name, None)
        # Some have an extra row for a mask token.
        if isinstance(table, nn.Embedding) and table.num_embeddings >= size:
            return name, table
    return None


def _user_names(trained: Trained) -> np.ndarray:
    return trained.dataset.field2id_token[trained.dataset.uid_field][1:]


def _of_users(name: str, meaning: str, names: np.ndarray, embedding: nn.Embedding) -> Vectors:
    return Vectors(name, meaning, {"user": names}, _numpy(embedding.weight[1 : len(names) + 1]))


def _items(trained: Trained, values: Tensor, meaning: str) -> Vectors:
    names = trained.dataset.field2id_token[trained.dataset.iid_field][1:]
    return Vectors("items", meaning, {"item": names}, _numpy(values[1 : len(names) + 1]))


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().float().numpy()

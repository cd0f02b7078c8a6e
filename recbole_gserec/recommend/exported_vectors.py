"""Vectors of a trained model for other systems: as Parquet, or as NumPy arrays beside their ids."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor, nn

from recbole_gserec.data import CODES_OF_SIDE, read_code_file
from recbole_gserec.errors import DataError, GSERecError, SettingError
from recbole_gserec.files import folder_written_aside, sha256_of_file, write_json
from recbole_gserec.models import SIDES, GSERec, SearchRecommender
from recbole_gserec.recommend.recommender import CandidateScores
from recbole_gserec.recommend.trained import Trained
from recbole_gserec.recommend.users import Users, collect_users

_N_PROBED = 16
_NOW = "users after their last event"
_FINAL = "final vectors"


@dataclass(frozen=True)
class Factors:
    """Vectors of users and items.

    Attributes:
        users: Vectors of the users ``[B]``, ``[B, d]``.
        items: Vectors of all items, ``[n_items, d]``; row 0 is padding.
        users_meaning: What the users' vectors are.
        items_meaning: What the items' vectors are.
    """

    users: Callable[[Tensor], Tensor]
    items: Tensor
    users_meaning: str
    items_meaning: str


@torch.no_grad()
def score_factors(trained: Trained, users: Users) -> Factors | None:
    """Return the vectors of a model that scores by dot products; None for other models.

    This is found by trial: vectors are accepted if their dot products equal the model's scores, for some users and all
    items.

    Args:
        trained: The model.
        users: Users of its dataset.
    """
    with_history = users.has_history[1:].nonzero()[0] + 1
    # A sample from the first to the last user.
    step = max(1, len(with_history) // _N_PROBED)
    probed = torch.from_numpy(with_history[::step][:_N_PROBED])
    # Models with propagation have their vectors only after scoring.
    scores = _scores(trained, users, probed)
    for factors in _guesses(trained, users):
        try:
            products = factors.users(probed) @ factors.items[1 : trained.dataset.item_num].T
        except (TypeError, ValueError, RuntimeError, KeyError, AttributeError, IndexError):
            continue  # A model with another forward pass.
        if products.shape == scores.shape and torch.allclose(products, scores, rtol=1e-4, atol=1e-5):
            return factors
    return None


def _scores(trained: Trained, users: Users, chosen: Tensor) -> Tensor:
    """Return the model's scores of all items, ``[B, n_items - 1]``."""
    scorer = CandidateScores(trained, torch.arange(1, trained.dataset.item_num))
    parts = (users.batch(part) for part in chosen.split(scorer.max_rows))
    return torch.cat([torch.cat([scores for _, scores in scorer.score(batch)], dim=1) for batch in parts])


def _guesses(trained: Trained, users: Users) -> Iterator[Factors]:
    model, device = trained.model, trained.config["device"]

    def by_history(encode: Callable[[Interaction], Tensor], items: Tensor, meaning: str) -> Factors:
        return Factors(lambda chosen: encode(users.batch(chosen).to(device)), items, _NOW, meaning)

    if isinstance(model, SearchRecommender):
        if (items := model.item_factors()) is not None:
            yield by_history(model.user_factors, *items)
        return
    item_table = getattr(model, "item_embedding", None)
    if trained.config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        if isinstance(item_table, nn.Embedding):
            yield by_history(
                lambda batch: model.forward(batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN]),
                item_table.weight,
                "items, as learnt (item_embedding)",
            )
        return
    of_users, of_items = getattr(model, "restore_user_e", None), getattr(model, "restore_item_e", None)
    if isinstance(of_users, Tensor) and isinstance(of_items, Tensor):
        yield Factors(
            lambda chosen: of_users[chosen.to(device)],
            of_items,
            f"{_FINAL} of users, after propagation",
            f"{_FINAL} of items, after propagation",
        )
    user_table = getattr(model, "user_embedding", None)
    if isinstance(user_table, nn.Embedding) and isinstance(item_table, nn.Embedding):
        yield Factors(
            lambda chosen: user_table(chosen.to(device)),
            item_table.weight,
            "users, as learnt (user_embedding)",
            "items, as learnt (item_embedding)",
        )


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
    """Return the id of each node in the graph, with its name and level (1 is the coarsest) in the ``.code`` file.

    A node is a code, or with ``code_nodes: prefix`` the first codes of users, separated by spaces.
    """
    dataset = trained.dataset
    path = dataset.file_path("code")
    frame, sequences = read_code_file(path, separator="\t", seq_separator=" ", encoding="utf-8")
    flat = sequences[CODES_OF_SIDE[side]]
    users = pd.Index(dataset.field2id_token[dataset.uid_field]).get_indexer(frame["code_user_id"])
    lengths = np.diff(flat.offsets)
    # Not the model's nodes, which are those of other users if its codes are permuted; nodes have the same ids.
    nodes = dataset.codes[side]
    nodes = nodes.by_prefix() if trained.model.code_nodes == "prefix" else nodes
    of_users = nodes.codes.numpy()[users[lengths > 0]]
    if of_users.size != len(flat.frame):
        raise DataError(path, "changed while it was read", "Export again.")
    tokens = flat.frame.iloc[:, 0].to_numpy(dtype=object).reshape(of_users.shape)
    ids, first = np.unique(of_users, return_index=True)
    ids, first = ids[ids > 0], first[ids > 0]
    rows, levels = np.divmod(first, of_users.shape[1])
    if trained.model.code_nodes == "prefix":
        ends = zip(rows, levels + 1, strict=True)
        names = np.array([" ".join(tokens[row, :end]) for row, end in ends], dtype=object)
    else:
        names = tokens[rows, levels]
    return ids, {"code": names, "level": levels + 1}


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


FORMATS = ("parquet", "npy")
DESCRIPTION_FILE = "export.json"


def check_export(folder: Path, file_format: str) -> None:
    """Refuse an unknown format, and a folder that is not empty.

    Raises:
        SettingError: For the format.
        DataError: For the folder.
    """
    if file_format not in FORMATS:
        raise SettingError(f"--format is '{file_format}'; it must be {' or '.join(FORMATS)}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(folder, "exists and is not an empty folder", "Name another, or delete it.")


def write_export(folder: Path, exported: Exported, file_format: str, description: Mapping[str, Any]) -> None:
    """Write all tables and their description, ``export.json``, into a new folder.

    Args:
        folder: The folder; it must be missing or empty.
        exported: The tables.
        file_format: One of :data:`FORMATS`.
        description: Provenance of the tables.

    Raises:
        SettingError: If the format is unknown.
        DataError: If the folder is not empty.
    """
    check_export(folder, file_format)
    with folder_written_aside(folder) as temporary:
        tables = {}
        for table in exported.tables:
            file = _write(temporary, table, file_format)
            n, size = table.values.shape
            tables[table.name] = {"file": file, "rows": n, "size": size, "meaning": table.meaning}
        content = {**description, "score": None, "tables": tables}
        if exported.score:
            content["score"] = f"dot products of {' and '.join(exported.score)}"
        content["sha256"] = {file.name: sha256_of_file(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / DESCRIPTION_FILE, content)


def _write(folder: Path, table: Vectors, file_format: str) -> str:
    ids = {name: _array(values) for name, values in table.ids.items()}
    if file_format == "npy":
        np.save(folder / f"{table.name}.npy", table.values, allow_pickle=False)
        options = pa.csv.WriteOptions(quoting_style="needed")
        pa.csv.write_csv(pa.table(ids), folder / f"{table.name}.csv", write_options=options)
        return f"{table.name}.npy"
    flat = pa.array(np.ascontiguousarray(table.values).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, table.values.shape[1])
    pq.write_table(pa.table({**ids, "vector": vectors}), folder / f"{table.name}.parquet")
    return f"{table.name}.parquet"


def _array(values: np.ndarray) -> pa.Array:
    if np.issubdtype(values.dtype, np.integer):
        return pa.array(values.astype(np.int32))
    return pa.array(values.astype(object), pa.string())

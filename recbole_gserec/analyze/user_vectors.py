"""The user vectors of both sides of a trained GSERec (Eq. 8), and the vectors of its codes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from recbole_gserec.errors import CheckpointError
from recbole_gserec.models.gserec import SIDES
from recbole_gserec.recommend.trained import load_trained
from recbole_gserec.recommend.vectors import Vectors, graph_vectors


class UserVectors(NamedTuple):
    """Vectors of users and codes after message passing.

    Attributes:
        label: Label of the checkpoint: whether it was trained with L_U-CL.
        seed: Seed of its training.
        dataset: Its dataset.
        users: By side; both have the same user in the same row.
        codes: By side.
    """

    label: str
    seed: int
    dataset: str
    users: dict[str, Vectors]
    codes: dict[str, Vectors]


def read_user_vectors(path: Path, data_path: Path | None = None) -> UserVectors:
    """Read a checkpoint and propagate its embedding tables.

    Args:
        path: The checkpoint.
        data_path: Parent folder of all datasets, whose files name users and codes; by default that of the training.

    Raises:
        CheckpointError: If the file is not a complete checkpoint of GSERec with user-code graphs.
        DataError: If the dataset is missing or has changed since the training.
    """
    trained = load_trained(path, data_path)
    config = trained.config
    if config["model"] != "GSERec":
        raise CheckpointError(f"{path}: a checkpoint of {config['model']}; these vectors are those of GSERec")
    if not config["use_user_code_graph"]:
        raise CheckpointError(f"{path}: trained with use_user_code_graph=False: there are no user vectors in it")
    tables = {table.name: table for table in graph_vectors(trained)}
    users, codes = ({side: tables[f"{kind}_{side}"] for side in SIDES} for kind in ("users", "codes"))
    weight = float(config["lambda_u_cl"])
    label = f"w/ L_U-CL ({weight:g})" if weight else "w/o L_U-CL"
    return UserVectors(label, int(config["seed"]), str(config["dataset"]), users, codes)

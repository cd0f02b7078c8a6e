"""The two sides' user vectors of a trained GSERec (Eq. 8), and those of its codes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from recbole_gserec.errors import CheckpointError
from recbole_gserec.models.gserec import SIDES
from recbole_gserec.recommend.trained import load_trained
from recbole_gserec.recommend.vectors import Vectors, graph_vectors


class UserVectors(NamedTuple):
    """What message passing makes of users and codes.

    Attributes:
        label: Of the checkpoint: whether it was trained with L_U-CL.
        seed: Of its training.
        dataset: Its dataset.
        users: By side; the same user in the same row of both.
        codes: By side.
    """

    label: str
    seed: int
    dataset: str
    users: dict[str, Vectors]
    codes: dict[str, Vectors]


def read_user_vectors(path: Path, data_path: Path | None = None) -> UserVectors:
    """Read a checkpoint and propagate its tables.

    Args:
        path: The checkpoint.
        data_path: Folder of all datasets, whose files name users and codes; that of the training by default.

    Raises:
        CheckpointError: If the file is no whole checkpoint of GSERec, or of one without user-code graphs.
        DataError: If the dataset is missing, or not the one of the training.
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

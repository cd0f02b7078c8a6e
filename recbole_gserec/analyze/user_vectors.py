"""The two sides' user vectors (Eq. 8 of GSERec), from the codes and tables of a checkpoint alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_gserec.checkpoint import check_checkpoint
from recbole_gserec.errors import CheckpointError
from recbole_gserec.layers.user_code_graph import UserCodeGraph
from recbole_gserec.models.gserec import SIDES


class UserVectors(NamedTuple):
    """What message passing makes of users and codes.

    Attributes:
        label: Of the checkpoint: whether it was trained with L_U-CL.
        dataset: Its dataset.
        users: By side, ``float32 [n_users, d]``, the same user in the same row of both.
        codes: By side, ``float32 [n_codes, d]``.
    """

    label: str
    dataset: str
    users: dict[str, NDArray[np.float32]]
    codes: dict[str, NDArray[np.float32]]


def read_user_vectors(path: Path) -> UserVectors:
    """Propagate the tables of a checkpoint.

    Users are in the order of RecBole's ids, from 1 on.

    Raises:
        CheckpointError: If the file is no whole checkpoint of GSERec, or of one without user-code graphs.
    """
    check_checkpoint(path)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    config, state = checkpoint["config"], checkpoint["state_dict"]
    if config["model"] != "GSERec":
        raise CheckpointError(f"{path}: a checkpoint of {config['model']}; these vectors are those of GSERec")
    if not config["use_user_code_graph"]:
        raise CheckpointError(f"{path}: trained with use_user_code_graph=False: there are no user vectors in it")
    try:
        users, codes = {}, {}
        for side in SIDES:
            users[side], codes[side] = _propagate(state, side, int(config["n_graph_layers"]))
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(f"{path}: damaged: its tables do not fit each other ({error})") from error
    weight = float(config["lambda_u_cl"])
    return UserVectors(f"w/ L_U-CL ({weight:g})" if weight else "w/o L_U-CL", str(config["dataset"]), users, codes)


@torch.no_grad()
def _propagate(state: Mapping[str, Any], side: str, n_layers: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    embeddings, code_embeddings = state["user_embedding.weight"], state[f"code_embedding.{side}.weight"]
    ids = state[f"graph.{side}.codes"]
    if ids.shape[0] != embeddings.shape[0]:
        raise ValueError(f"{ids.shape[0]} users have {side} codes, {embeddings.shape[0]} a vector")
    graph = UserCodeGraph(ids, len(code_embeddings) - 1, n_layers)
    layers = graph.propagate(embeddings, code_embeddings)
    # Row 0 is padding.
    users = graph.users_at(torch.arange(1, len(ids)), embeddings[1:], layers)
    return users.numpy(), layers.final[1:].numpy()

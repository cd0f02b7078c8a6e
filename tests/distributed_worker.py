"""One of two processes that train together by RecBole's own distributed training, on processors instead of GPUs."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.nn.parallel import DistributedDataParallel as Parallel

WORLD = 2


@contextmanager
def on_processors() -> Iterator[None]:
    """RecBole asks for NCCL and GPUs by name; all else of its distributed training works without them."""
    start_group = torch.distributed.init_process_group
    with (
        mock.patch("torch.distributed.init_process_group", lambda backend, **place: start_group("gloo", **place)),
        mock.patch("torch.cuda.set_device"),
        mock.patch("recbole.trainer.trainer.DistributedDataParallel", lambda model, **_: Parallel(model)),
    ):
        yield


def train_together(rank: int, model_name: str, data: str, port: int, output: str) -> None:
    """Train for two epochs and evaluate; what was seen is saved as ``<output>/<rank>.pt``."""
    torch.set_num_threads(1)
    sys.argv = sys.argv[:1]
    import recbole_gserec  # noqa: F401

    with on_processors():
        torch.save(_train(rank, model_name, data, port, output), Path(output) / f"{rank}.pt")


def _train(rank: int, name: str, data: str, port: int, output: str) -> dict[str, Any]:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    place = {"local_rank": rank, "world_size": WORLD, "nproc": WORLD, "offset": 0, "ip": "localhost", "port": port}
    settings = {"data_path": data, "checkpoint_dir": output, "gpu_id": "0,1", "show_progress": False, "epochs": 2}
    settings |= {"train_batch_size": 64, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "eval_candidate_seed": 1}
    # A second word is the kind of rows.
    model_name, *train_rows = name.split()
    settings |= {"train_rows": train_rows[0]} if train_rows else {}
    config = Config(model_name, "toy", config_dict={**settings, **place})
    config.final_config_dict["device"] = torch.device("cpu")
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    # As in RecBole: every process draws other weights, and takes those of the first when the trainer is made.
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    model = get_model(model_name)(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], model_name)(config, model)
    gradients = _gradients_of_a_step(trainer, next(iter(train)))

    rows, search_rows = [], []
    collate = train.collate_fn

    def noted(index):
        batch = collate(index)
        rows.append(torch.as_tensor(index))
        if hasattr(batch, "search"):
            search_rows.append(len(batch.search))
        return batch

    train.collate_fn = noted
    trainer.fit(train, valid, saved=True, show_progress=False)
    tested = trainer.evaluate(test, load_best_model=True)
    torch.distributed.destroy_process_group()
    return {
        **gradients,
        "model": model_name,
        "settings": {"train_rows": train_rows[0]} if train_rows else {},
        "rows": rows,
        "search_rows": search_rows,
        "n_rows": train.sample_size,
        "n_search_rows": len(getattr(train, "_search_rows", ())),
        "n_batches": len(train),
        "weights": dict(model.state_dict()),
        "test": dict(tested),
        "checkpoint": trainer.saved_model_file,
    }


def _gradients_of_a_step(trainer: Any, batch: Any) -> dict[str, Any]:
    """Gradients on this process's batch alone, and as they are after the processes have shared them."""
    alone = copy.deepcopy(trainer.model).train()
    # Models may draw random items; both times the same.
    torch.manual_seed(0)
    sum(alone.calculate_loss(batch)).backward()
    trainer.model.train()
    trainer.optimizer.zero_grad()
    trainer.set_reduce_hook()
    torch.manual_seed(0)
    (sum(trainer.model.calculate_loss(batch)) + trainer.sync_grad_loss()).backward()
    negatives = batch[trainer.model.NEG_ITEM_ID]
    result = {
        "own_gradients": {name: part.grad for name, part in alone.named_parameters() if part.grad is not None},
        "gradients": {name: part.grad.clone() for name, part in trainer.model.named_parameters()},
        "negatives": negatives.clone(),
    }
    trainer.optimizer.zero_grad()
    return result

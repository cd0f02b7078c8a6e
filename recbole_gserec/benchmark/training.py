"""Makes one run as RecBole's ``run_recbole`` would, and stores its results."""

from __future__ import annotations

from datetime import UTC, datetime
from logging import getLogger
from time import perf_counter
from typing import Any

import pandas as pd
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.utils import get_trainer

from recbole_gserec.benchmark.built import build_training
from recbole_gserec.benchmark.dataset_files import dataset_digest, derived_digests
from recbole_gserec.benchmark.model_code import code_digest
from recbole_gserec.benchmark.outcomes import candidates_digest, evaluation_mode, interactions_digest, write_ranks
from recbole_gserec.benchmark.provenance import peak_memory_bytes, provenance
from recbole_gserec.benchmark.record import new_record
from recbole_gserec.benchmark.runs import (
    CHECKPOINT_FILE,
    FINISHED,
    RANKS_FILE,
    SETTINGS_FILE,
    STATE_FILE,
    Run,
    Spec,
)
from recbole_gserec.benchmark.timing import with_timing
from recbole_gserec.config import make_config, without_login
from recbole_gserec.errors import DataError
from recbole_gserec.json_files import plain
from recbole_gserec.resumable import resumable


def train(spec: Spec) -> dict[str, Any]:
    """Train and evaluate a model; leave its checkpoint and its ranks in the run's folder.

    Calls have the order of ``recbole.quick_start.run_recbole``, including every step that draws random numbers.

    Args:
        spec: The run.

    Returns:
        The content of its ``run.json``.

    Raises:
        DataError: If the dataset has changed since the run was planned.
    """
    # Record the loaded code, not the code as it may be after training.
    start, record = perf_counter(), new_record(spec.run, datetime.now(UTC))
    run, here = spec.run, {"data_path": str(spec.data_path), "checkpoint_dir": str(spec.folder), **spec.machine}
    config = make_config(run.model, run.dataset, {**run.given, "seed": run.seed}, here, spec.folder / SETTINGS_FILE)
    check_dataset(run, config)
    trainer_class = with_timing(resumable(get_trainer(config["MODEL_TYPE"], config["model"])))
    setup = build_training(config, lambda: create_dataset(config), trainer_class)
    dataset, train_data, valid_data, test_data, model, flops, trainer = setup
    trainer.state_file, trainer.training_identity = spec.folder / STATE_FILE, training_identity(run, config)
    # RecBole's own file name contains the time in seconds, which two runs can share.
    trainer.saved_model_file = str(spec.folder / CHECKPOINT_FILE)
    _, valid_result = trainer.fit(train_data, valid_data, saved=True, show_progress=config["show_progress"])
    resumed_epochs = getattr(trainer, "resumed_epochs", 0)
    test_start = perf_counter()
    test_result = trainer.evaluate(test_data, load_best_model=True, show_progress=config["show_progress"])
    test_seconds = perf_counter() - test_start
    write_ranks(spec.folder / RANKS_FILE, ranks_of_best_weights(trainer, valid_data, test_data), dataset)
    getLogger().info(f"test result: {test_result}")
    return {
        **record,
        "status": FINISHED,
        "settings": plain(without_login(config.final_config_dict)),
        "epochs": trainer.epoch_record(),
        "test_seconds": test_seconds,
        "samples_per_epoch": len(train_data._dataset),
        "parameters": sum(weights.numel() for weights in model.parameters() if weights.requires_grad),
        "flops": plain(flops),
        **device_and_memory(on_gpu=config["device"].type == "cuda"),
        "valid": plain(valid_result or {}),
        "test": plain(test_result or {}),
        "candidates": {
            "valid": candidates_digest(valid_data),
            "test": candidates_digest(test_data),
            "mode": evaluation_mode(config),
        },
        "interactions": interactions_digest([train_data, valid_data, test_data]),
        "resumed_epochs": resumed_epochs,
        "wall_seconds": perf_counter() - start + trainer.seconds_before(resumed_epochs),
    }


def training_identity(run: Run, config: Config) -> dict[str, Any]:
    """Return everything that a training depends on; if any of it changes, an interrupted training is not resumed."""
    record = provenance()
    threads = {"device": str(config["device"]), "threads": torch.get_num_threads()}
    model = {"model_code": code_digest(run.model)}
    return {"run": run.key, **model, **{name: record[name] for name in ("versions", "python", "git")}, **threads}


def check_dataset(run: Run, config: Config) -> None:
    """Refuse a dataset that changed since the run was planned, or that differs on this machine.

    Raises:
        DataError: With the dataset's folder.
    """
    if dataset_digest(config) != run.dataset_digest or derived_digests(config) != dict(run.derived):
        raise DataError(config["data_path"], "its files changed since the run was planned", "Start it again.")


def ranks_of_best_weights(trainer: Any, valid_data: Any, test_data: Any) -> dict[str, pd.DataFrame]:
    """Return the ranks of both parts, in internal ids.

    The trainer must have just evaluated the test part with its best weights.
    """
    ranks = {}
    if test_data:
        ranks["test"] = trainer.eval_collector.per_user_ranks()
    if valid_data:
        # Validate again, because the last validation used the last weights.
        trainer.evaluate(valid_data, load_best_model=False)
        ranks["valid"] = trainer.eval_collector.per_user_ranks()
    return ranks


def device_and_memory(on_gpu: bool) -> dict[str, Any]:
    """Return the device of this process and its peak memory."""
    return {
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
    }

"""Hooks into how RecBole trains, and how it names, writes and loads the files of a run, each with its reason."""

import sys
from collections import ChainMap
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import recbole.data.dataset.dataset
import recbole.data.utils
import recbole.quick_start.quick_start
import recbole.trainer.hyper_tuning as hyper_tuning
import torch
from recbole.sampler import Sampler
from recbole.trainer import PretrainTrainer, Trainer
from recbole.utils import ensure_dir, get_local_time, get_tensorboard, init_logger

from recbole_gserec.errors import SettingError
from recbole_gserec.models import SAMPLED, of_recbole
from recbole_gserec.plugin import entry_points
from recbole_gserec.plugin.checkpoint import allow_config_in_checkpoints, check_checkpoint, save_checkpoint
from recbole_gserec.plugin.own_files import (
    dump,
    ensure_folder,
    load,
    of_first_process,
    only_when_asked,
    open_whole,
    tensorboard_writer,
    wait_for_all,
    with_own_digits,
    with_own_log,
)
from recbole_gserec.settings import begin_run, check_negatives_left


def unpickle_only_when_asked() -> None:
    """Unpickle datasets and dataloaders only on request. RecBole loads any beside a checkpoint, which can run code."""
    sealed = SimpleNamespace(dump=dump, load=load)
    recbole.data.utils.pickle = recbole.data.dataset.dataset.pickle = sealed
    modules = (recbole.data.utils, recbole.data, recbole.quick_start.quick_start)
    for name, setting in (("create_dataset", "dataset"), ("load_split_dataloaders", "dataloaders")):
        stock = getattr(recbole.data.utils, name)
        safe = only_when_asked(stock, f"save_{setting}", f"{setting}_save_path")
        for module in modules:
            if hasattr(module, name):
                setattr(module, name, safe)


def keep_runs_apart() -> None:
    """Give each run its own files, and write them atomically.

    RecBole names checkpoints and logs by the second, and overwrites files that another process may be reading. Two
    trainings of a model that start in the same second would test each other's weights.
    """
    local_time = with_own_digits(get_local_time)
    replaced = {
        get_local_time: local_time,
        ensure_dir: ensure_folder,
        get_tensorboard: tensorboard_writer(local_time),
        init_logger: with_own_log(init_logger),
    }
    # Many modules have bound these names.
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "recbole"]
    for stock_function, ours in replaced.items():
        name = stock_function.__name__
        for module in modules:
            if getattr(module, name, None) is stock_function:
                setattr(module, name, ours)
    # Saved datasets and dataloaders. The modules have no `open` of their own.
    for module in (recbole.data.dataset.dataset, recbole.data.utils):
        module.open = open_whole
    make_stock = Trainer.__init__

    def __init__(self: Any, config: Any, model: Any) -> None:
        make_stock(self, config, model)
        self.saved_model_file = of_first_process(config, self.saved_model_file)

    Trainer.__init__ = __init__


def replace_checkpoints() -> None:
    """Write checkpoints atomically, and so that ``torch.load`` reads them with ``weights_only=True``.

    RecBole overwrites the last good checkpoint, and pickles its Config with a protocol that the safe unpickler refuses.
    """
    allow_config_in_checkpoints()
    resume_stock, evaluate_stock = Trainer.resume_checkpoint, Trainer.evaluate

    def resume_checkpoint(self: Any, resume_file: str) -> None:
        check_checkpoint(resume_file)
        resume_stock(self, resume_file)

    def evaluate(
        self: Any,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        if eval_data and load_best_model:
            wait_for_all(self.config)
            check_checkpoint(model_file or self.saved_model_file)
        if load_best_model:
            evaluated = entry_points.evaluated
            evaluated.checkpoint, evaluated.model = model_file or self.saved_model_file, self.config["model"]
        return evaluate_stock(self, eval_data, load_best_model, model_file, show_progress)

    def save_pretrained_model(self: Any, epoch: int, saved_model_file: str) -> None:
        # This name tells the epoch alone, for who trains on from it; the run tests what no other run can replace.
        save_checkpoint(self, epoch, verbose=False, saved_model_file=saved_model_file)
        save_checkpoint(self, epoch, verbose=False)

    Trainer._save_checkpoint = save_checkpoint
    PretrainTrainer.save_pretrained_model = save_pretrained_model
    Trainer.resume_checkpoint = resume_checkpoint
    Trainer.evaluate = evaluate


def explain_failed_training() -> None:
    """Explain a diverging loss and a user without negatives, with advice; RecBole says neither who nor when."""
    draw_stock = Sampler.get_used_ids

    def _check_nan(self: Any, loss: Any) -> None:
        if torch.isnan(loss):
            raise SettingError(
                f"the training loss became NaN: {self.config['model']} diverges. Lower learning_rate, which is "
                f"{self.config['learning_rate']}, or set clip_grad_norm, for instance to {{'max_norm': 5}}"
            )

    def get_used_ids(self: Any) -> Any:
        check_negatives_left(self.datasets)
        return draw_stock(self)

    Trainer._check_nan = _check_nan
    Sampler.get_used_ids = get_used_ids


def train_by_our_losses() -> None:
    """Let SASRec and GRU4Rec also be trained by our losses over several negatives, which RecBole does not have.

    Their own losses, BPR and CE, stay as they are.
    """
    # Not imported before the registration: that turns on autograd's anomaly detection.
    from recbole.model.sequential_recommender import GRU4Rec, SASRec

    for model in (SASRec, GRU4Rec):
        _add_objective(model)


def _add_objective(model: Any) -> None:
    make_stock, loss_stock = model.__init__, model.calculate_loss

    def __init__(self: Any, config: Any, dataset: Any) -> None:
        if config["loss_type"] not in SAMPLED:
            make_stock(self, config, dataset)
            return
        # RecBole refuses losses that it does not know.
        make_stock(self, ChainMap({"loss_type": "CE"}, config.final_config_dict), dataset)
        self.objective = of_recbole(config, dataset)

    def calculate_loss(self: Any, interaction: Any) -> Any:
        if not hasattr(self, "objective"):
            return loss_stock(self, interaction)
        states = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        candidates = torch.cat([interaction[self.POS_ITEM_ID].unsqueeze(1), interaction[self.NEG_ITEM_ID]], dim=1)
        return self.objective.of_rows(states, candidates, self.item_embedding.weight)

    model.__init__, model.calculate_loss = __init__, calculate_loss


def replace_entry_points() -> None:
    """Replace RecBole's entry points by functions of this package.

    Spawned processes and Ray workers unpickle them first. That imports this package, and so registers it in the new
    process.
    """
    # Errors are reported before two hundred lines of settings.
    recbole.quick_start.quick_start.init_logger = begin_run
    for name in entry_points.__all__:
        entry_points.STOCK[name] = getattr(recbole.quick_start.quick_start, name)
        for module in (recbole.quick_start.quick_start, recbole.quick_start):
            if hasattr(module, name):
                setattr(module, name, getattr(entry_points, name))


def let_exhaustive_search_draw() -> None:
    """Adapt the exhaustive search of HyperTuning, which passes a ``RandomState``, to hyperopt since 0.2.6."""
    stock = hyper_tuning.exhaustive_search
    numpy = SimpleNamespace(random=SimpleNamespace(RandomState=np.random.default_rng))
    hyper_tuning.exhaustive_search = FunctionType(
        stock.__code__, {**vars(hyper_tuning), "np": numpy}, stock.__name__, stock.__defaults__
    )

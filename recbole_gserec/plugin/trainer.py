"""RecBole's trainer for search-aware models."""

from typing import Any, Literal

import torch
from recbole.config import Config
from recbole.trainer import Trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau


class SearchTrainer(Trainer):
    """RecBole's :class:`Trainer`, but ``weight_decay`` excludes biases and temperatures, and logs name the losses.

    The penalty is the coupled one of Adam: it adds ``weight_decay * theta`` to the gradient, which is half of Eq. 17 of
    GSERec, as in its authors' code.

    Attributes:
        scheduler: Lowers the learning rate if validation stops improving, by the setting ``reduce_lr_on_plateau``; None
            without it.
    """

    def __init__(self, config: Config, model: torch.nn.Module):
        super().__init__(config, model)
        self.scheduler: ReduceLROnPlateau | None = None
        plateau = config["reduce_lr_on_plateau"]
        if plateau is not None:
            mode: Literal["max", "min"] = "max" if self.valid_metric_bigger else "min"
            self.scheduler = ReduceLROnPlateau(self.optimizer, mode, **plateau)

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> tuple[float, Any]:
        """Validate as RecBole does; the score that selects the best epoch also sets the next learning rate."""
        score, result = super()._valid_epoch(*args, **kwargs)
        if self.scheduler is not None:
            before = self.optimizer.param_groups[0]["lr"]
            self.scheduler.step(score)
            if (after := self.optimizer.param_groups[0]["lr"]) < before:
                self.logger.info(f"{self.valid_metric} is on a plateau: learning_rate is {after:g} from now on")
        return score, result

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Train as RecBole does, but pass the number of the epoch to the model."""
        self.model.epoch = epoch_idx
        return super()._train_epoch(train_data, epoch_idx, *args, **kwargs)

    def _generate_train_loss_output(self, epoch_idx: int, s_time: float, e_time: float, losses: Any) -> str:
        """Return RecBole's line about an epoch, with the names of the losses instead of their numbers."""
        line = super()._generate_train_loss_output(epoch_idx, s_time, e_time, losses)
        for number, name in enumerate(self.model.loss_names, start=1):
            line = line.replace(f"train_loss{number}", f"{name} loss")
        return line

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        if "params" in kwargs:
            return super()._build_optimizer(**kwargs)
        free: list[torch.nn.Parameter] = []
        decayed: list[torch.nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            spared = name.endswith("bias") or name.endswith("log_tau")
            (free if spared else decayed).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": kwargs.get("weight_decay", self.weight_decay)},
            {"params": free, "weight_decay": 0.0},
        ]
        if self.learner.lower() != "adam":
            return super()._build_optimizer(params=groups, **kwargs)
        learning_rate: Any = kwargs.get("learning_rate", self.learning_rate)
        # The fused update reads each table once; the default one makes several passes over all of them.
        return torch.optim.Adam(groups, lr=learning_rate, fused=True)

"""Records the time, loss and scores of each epoch, in any RecBole trainer."""

from __future__ import annotations

from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from recbole_gserec.json_files import plain

_NOTED = ("train_seconds", "train_cpu_seconds", "train_losses", "valid_seconds", "valid_scores", "valid_epochs")


if TYPE_CHECKING:
    from recbole.trainer import Trainer as _Trainer
else:
    _Trainer = object


class TimedEpochs(_Trainer):
    """Mixin that comes before a RecBole trainer class and does not change its behaviour.

    Attributes:
        train_seconds: Epoch -> seconds of training. Models that train their parts in turn have several calls per epoch.
        train_cpu_seconds: Epoch -> CPU seconds of training, over all threads of this process. Other programs on the
            machine affect them less than the elapsed seconds.
        train_losses: Epoch -> the loss, or a list of its parts.
        valid_seconds: Seconds of each validation.
        valid_scores: Score of each validation.
        valid_epochs: The epoch before each validation.
        last_valid_result: The metrics of the last validation.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self.train_seconds: dict[int, float] = {}
        self.train_cpu_seconds: dict[int, float] = {}
        self.train_losses: dict[int, Any] = {}
        self.valid_seconds: list[float] = []
        self.valid_scores: list[float] = []
        self.valid_epochs: list[int] = []
        self.last_valid_result: Any = None
        super().__init__(*args, **kwargs)

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        start, cpu_start = perf_counter(), process_time()
        losses = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
        self.train_seconds[epoch_idx] = self.train_seconds.get(epoch_idx, 0.0) + perf_counter() - start
        cpu_seconds = process_time() - cpu_start
        self.train_cpu_seconds[epoch_idx] = self.train_cpu_seconds.get(epoch_idx, 0.0) + cpu_seconds
        self.train_losses[epoch_idx] = plain(losses)
        return losses

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> tuple[float, Any]:
        start = perf_counter()
        score, result = super()._valid_epoch(*args, **kwargs)
        self.valid_seconds.append(perf_counter() - start)
        self.valid_scores.append(float(score))
        self.valid_epochs.append(max(self.train_seconds, default=0))
        self.last_valid_result = result
        return score, result

    def extra_state(self) -> dict[str, Any]:
        """Return all attributes above, to resume training later; see :class:`ResumableTraining`."""
        return {name: getattr(self, name) for name in _NOTED}

    def restore_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`extra_state` returned."""
        for name in _NOTED:
            setattr(self, name, state[name])

    def seconds_before(self, n_epochs: int) -> float:
        """Return the seconds of the first epochs, including their validations."""
        trained = self.train_seconds.items()
        validated = zip(self.valid_epochs, self.valid_seconds, strict=True)
        return sum(seconds for part in (trained, validated) for epoch, seconds in part if epoch < n_epochs)

    def epoch_record(self) -> dict[str, Any]:
        """Return the ``epochs`` part of a run's record."""
        return {
            "trained": len(self.train_seconds),
            "best": self._best_epoch(),
            "seconds": list(self.train_seconds.values()),
            "cpu_seconds": list(self.train_cpu_seconds.values()),
            "validation_seconds": self.valid_seconds,
            "train_loss": list(self.train_losses.values()),
            "valid_score": self.valid_scores,
        }

    def _best_epoch(self) -> int:
        """Return the epoch whose weights were kept; RecBole keeps the last of equally good ones."""
        if not self.valid_scores:
            return max(self.train_seconds, default=0)
        best = (max if self.valid_metric_bigger else min)(self.valid_scores)
        return max(epoch for epoch, score in zip(self.valid_epochs, self.valid_scores, strict=True) if score == best)


def with_timing(trainer_class: type) -> type:
    """Return a trainer class with :class:`TimedEpochs` before it."""
    return type(f"Timed{trainer_class.__name__}", (TimedEpochs, trainer_class), {})

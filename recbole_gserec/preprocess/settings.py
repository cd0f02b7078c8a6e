"""Settings of the offline stage, read and checked once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from recbole_gserec.errors import SettingError
from recbole_gserec.preprocess.encoders import ENCODERS
from recbole_gserec.preprocess.missing_side import MISSING_SIDE_POLICIES
from recbole_gserec.preprocess.summarizers import SUMMARIZERS

if TYPE_CHECKING:
    from recbole_gserec.preprocess.rqvae_training import RQVAESettings


def _setting(default: Any, allowed: str, read: Callable[[Any], Any]) -> Any:
    """A field whose value ``read`` converts; it raises ValueError for what is not ``allowed``."""
    return field(default=default, metadata={"allowed": allowed, "read": read})


def _check(fine: bool) -> None:
    if not fine:
        raise ValueError


def _integer(default: int, minimum: int) -> Any:
    return _setting(default, f"a whole number of at least {minimum}", lambda value: _read_integer(value, minimum))


def _read_integer(value: Any, minimum: int) -> int:
    number = _read_number(value)
    _check(number.is_integer() and number >= minimum)
    return int(number)


def _number(default: float, *, positive: bool = False) -> Any:
    def read(value: Any) -> float:
        number = _read_number(value)
        _check(number > 0 if positive else number >= 0)
        return number

    return _setting(default, "a number above 0" if positive else "a number of at least 0", read)


def _read_number(value: Any) -> float:
    # YAML takes 1e-4, without a point, for text.
    _check(isinstance(value, int | float | str) and not isinstance(value, bool))
    number = float(value)
    _check(math.isfinite(number))
    return number


def _switch(default: bool) -> Any:
    def read(value: Any) -> bool:
        _check(isinstance(value, bool))
        return value

    return _setting(default, "True or False", read)


def _choice(default: str, choices: tuple[str, ...]) -> Any:
    def read(value: Any) -> str:
        _check(value in choices)
        return value

    return _setting(default, " or ".join(f"'{choice}'" for choice in choices), read)


def _sizes(*default: int) -> Any:
    def read(value: Any) -> tuple[int, ...]:
        _check(isinstance(value, list | tuple))
        return tuple(_read_integer(size, 1) for size in value)

    return _setting(default, "a list of whole numbers of at least 1", read)


@dataclass(frozen=True)
class PreprocessSettings:
    """How codes are made. Meanings and defaults are those in ``properties/model/GSERec.yaml``.

    Raises:
        SettingError: For a value that is not allowed.
    """

    summarizer: str = _choice("template", tuple(SUMMARIZERS))
    encoder: str = _choice("tfidf", tuple(ENCODERS))
    encoder_dim: int = _integer(128, 1)
    prompt_history_length: int = _integer(20, 1)
    prompt_clicks: int = _integer(1, 0)
    prompt_query_words: int = _integer(32, 1)
    prompt_item_words: int = _integer(128, 1)
    missing_side: str = _choice("copy_rec", MISSING_SIDE_POLICIES)
    preprocess_seed: int = _integer(2024, 0)
    n_codebooks: int = _integer(4, 1)
    codebook_size: int = _integer(256, 1)
    code_dim: int = _integer(32, 1)
    rq_hidden_sizes: tuple[int, ...] = _sizes(512, 256, 128, 64)
    lambda_rq: float = _number(1.0)
    lambda_rq_cl: float = _number(1e-4)
    tau_1: float = _number(0.1, positive=True)
    rq_commitment_weight: float = _number(0.25)
    rq_loss_reduction: str = _choice("mean", ("mean", "sum"))
    rq_epochs: int = _integer(500, 1)
    rq_batch_size: int = _integer(1024, 1)
    rq_learning_rate: float = _number(1e-3, positive=True)
    rq_weight_decay: float = _number(1e-7)
    rq_warmup_epochs: int = _integer(50, 0)
    rq_clip_grad_norm: float = _number(1.0, positive=True)
    rq_kmeans_init: bool = _switch(True)
    rq_sinkhorn: bool = _switch(True)
    rq_sinkhorn_epsilon: float = _number(0.003, positive=True)
    rq_sinkhorn_iterations: int = _integer(50, 1)
    rq_resolve_collisions: bool = _switch(True)
    rq_collision_rounds: int = _integer(20, 0)

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            try:
                read = setting.metadata["read"](value)
            except (ValueError, TypeError) as error:
                allowed = setting.metadata["allowed"]
                raise SettingError(f"{setting.name} is {value!r}; it takes {allowed}") from error
            object.__setattr__(self, setting.name, read)
        if self.rq_warmup_epochs >= self.rq_epochs:
            raise SettingError(
                f"rq_warmup_epochs is {self.rq_warmup_epochs}; it takes less than rq_epochs, which is {self.rq_epochs}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PreprocessSettings:
        """Read the settings out of a larger mapping such as RecBole's ``Config``; absent ones have their defaults.

        Raises:
            SettingError: For a value that is not allowed.
        """
        names = [setting.name for setting in fields(cls) if setting.name in config]
        return cls(**{name: config[name] for name in names if config[name] is not None})

    def rqvae_settings(self) -> RQVAESettings:
        """The part that the RQ-VAE reads."""
        from recbole_gserec.preprocess.rqvae_training import RQVAESettings

        own_names = ("n_codebooks", "codebook_size", "code_dim", "lambda_rq", "lambda_rq_cl", "tau_1")
        values = {name: getattr(self, name) for name in own_names}
        prefix = "rq_"
        values |= {s.name[len(prefix) :]: getattr(self, s.name) for s in fields(self) if s.name.startswith(prefix)}
        return RQVAESettings(**values, seed=self.preprocess_seed)

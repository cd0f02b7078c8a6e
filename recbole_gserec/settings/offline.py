"""Settings of the offline stage and its RQ-VAE, read and checked once."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from recbole_gserec.errors import SettingError, is_number, not_none

_COUNTS = ("n_codebooks", "codebook_size", "code_dim", "epochs", "batch_size", "sinkhorn_iterations", "check_every")
_COUNTS_OR_ZERO = ("warmup_epochs", "collision_rounds", "seed")
_POSITIVE = ("tau_1", "learning_rate", "clip_grad_norm", "sinkhorn_epsilon")
_POSITIVE_OR_ZERO = ("lambda_rq", "lambda_rq_cl", "commitment_weight", "weight_decay")
_REDUCTIONS = ("mean", "sum")
_SWITCHES = ("kmeans_init", "sinkhorn", "resolve_collisions", "keep_best")


@dataclass(frozen=True)
class RQVAESettings:
    """Settings of ``train_rqvae``. The defaults are the paper's or, if it gives none, those of its authors' code.

    Attributes:
        n_codebooks: Levels per side, :math:`L`.
        codebook_size: Codes per level, :math:`N_c`.
        code_dim: Size of latents and codes, :math:`d_l`.
        hidden_sizes: Widths of the encoder's hidden layers; the decoder mirrors them.
        lambda_rq: Weight of the quantization loss, Eq. 6.
        lambda_rq_cl: Weight of the contrastive loss, Eq. 6; tuned over 1e-4 to 1 in the paper.
        tau_1: Temperature of the contrastive loss.
        commitment_weight: Weight of the encoder's term in Eq. 5.
        loss_reduction: ``"mean"`` as the authors' code, ``"sum"`` as the equations; see :class:`RQVAE`.
        epochs: Passes over the users.
        batch_size: Maximum number of users in a batch; an epoch is divided into batches of equal size.
        learning_rate: Peak learning rate of the schedule.
        weight_decay: Weight decay of AdamW.
        warmup_epochs: Epochs of linear warm-up, followed by a linear decay to 0.
        clip_grad_norm: Maximum norm of the gradient.
        kmeans_init: Whether codes start at the k-means centres of the data.
        sinkhorn: Whether the last level is assigned evenly during training.
        sinkhorn_epsilon: Entropy regularisation of that assignment.
        sinkhorn_iterations: Iterations of that assignment.
        resolve_collisions: Whether users who share all their codes are separated afterwards.
        collision_rounds: Maximum number of rounds for that.
        keep_best: Whether the codes come from the checked epoch after the warm-up with the lowest collision rate,
            instead of the last.
        check_every: Epochs between checks of the collision rate.
        seed: Random seed.

    Raises:
        SettingError: If a value has the wrong type or is out of range.
    """

    n_codebooks: int = 4
    codebook_size: int = 256
    code_dim: int = 32
    hidden_sizes: tuple[int, ...] = (512, 256, 128, 64)
    lambda_rq: float = 1.0
    lambda_rq_cl: float = 1e-4
    tau_1: float = 0.1
    commitment_weight: float = 0.25
    loss_reduction: str = "mean"
    epochs: int = 500
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 1e-7
    warmup_epochs: int = 50
    clip_grad_norm: float = 1.0
    kmeans_init: bool = True
    sinkhorn: bool = True
    sinkhorn_epsilon: float = 0.003
    sinkhorn_iterations: int = 50
    resolve_collisions: bool = True
    collision_rounds: int = 20
    keep_best: bool = True
    check_every: int = 10
    seed: int = 2024

    def __post_init__(self) -> None:
        if not isinstance(self.hidden_sizes, (list, tuple)) or not all(_is_count(size) for size in self.hidden_sizes):
            raise _wrong("hidden_sizes", self.hidden_sizes, "a list of whole numbers above 0")
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        if self.loss_reduction not in _REDUCTIONS:
            raise _wrong("loss_reduction", self.loss_reduction, f"one of {', '.join(_REDUCTIONS)}")
        for setting in fields(self):
            name, value = setting.name, getattr(self, setting.name)
            if name in _COUNTS and not _is_count(value):
                raise _wrong(name, value, "a whole number above 0")
            if name in _COUNTS_OR_ZERO and not (_is_count(value) or (value == 0 and value is not False)):
                raise _wrong(name, value, "a whole number, 0 or above")
            if name in _POSITIVE and not (_is_finite(value) and value > 0):
                raise _wrong(name, value, "a number above 0")
            if name in _POSITIVE_OR_ZERO and not (_is_finite(value) and value >= 0):
                raise _wrong(name, value, "a number, 0 or above")
            if name in _SWITCHES and not isinstance(value, bool):
                raise _wrong(name, value, "true or false")
        if self.warmup_epochs >= self.epochs:
            raise _wrong("warmup_epochs", self.warmup_epochs, f"less than epochs, which is {self.epochs}")


def _wrong(name: str, value: Any, expected: str) -> SettingError:
    return SettingError(f"RQ-VAE setting '{name}' is {value!r}; it must be {expected}.")


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


LANGUAGES = ("en", "zh")
"""Languages that have prompt templates."""
SUMMARIZER_NAMES = ("template", "vllm", "transformers", "openai")
ENCODER_NAMES = ("tfidf", "bge-m3", "flag", "sentence-transformers")
NAMELESS_ENCODERS = ("tfidf", "bge-m3")
"""Encoders that need no name after a colon."""
MISSING_SIDE_POLICIES = ("copy_rec", "empty", "no_edges")
OPERATIONAL = frozenset(
    """
    llm_base_url llm_concurrency llm_timeout llm_retries retry_failed text_vectors code_path preprocess_store
    preprocess_ray preprocess_ray_address preprocess_ray_workers preprocess_ray_cpus preprocess_ray_gpus
    encoder_batch_size encoder_item_length encoder_query_length
    """.split()
)
"""Settings that do not change the codes."""
_OF_CODES = frozenset("n_codebooks codebook_size code_dim lambda_rq lambda_rq_cl tau_1 missing_side".split())
"""Settings that change codes but not text vectors, besides those of the RQ-VAE with their common prefix."""
_WARMUP_EPOCHS = 50
"""Default warm-up epochs; half of all epochs if there are no more than these."""
_OF_LANGUAGE_MODELS = ("plain_answers", "failed_summary")
_OF_FLAG_EMBEDDING = ("encoder_pooling", "encoder_dtype")


def _setting(default: Any, allowed: str, read: Callable[[Any], Any]) -> Any:
    """Create a field whose value ``read`` converts; it raises ValueError if the value is not ``allowed``."""
    return field(default=default, metadata={"allowed": allowed, "read": read})


def _optional(setting: Any) -> Any:
    """Return the same field with ``None`` as an allowed value and the default."""
    allowed, read = setting.metadata["allowed"], setting.metadata["read"]
    return _setting(None, f"{allowed}, or nothing", lambda value: None if value is None else read(value))


def _text() -> Any:
    def read(value: Any) -> str:
        _check(isinstance(value, str) and bool(value))
        return value

    return _optional(_setting(None, "a text", read))


def _code_path() -> Any:
    def read(value: Any) -> str:
        _check(isinstance(value, str) and value.endswith(".code") and value != ".code")
        return value

    return _optional(_setting(None, "the name of a file that ends with .code", read))


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
    # YAML reads 1e-4, which has no decimal point, as text.
    _check(isinstance(value, numbers.Real | str) and not isinstance(value, bool))
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


def _encoder(default: str) -> Any:
    def read(value: Any) -> str:
        _check(isinstance(value, str))
        kind, colon, name = value.partition(":")
        _check(kind in ENCODER_NAMES and bool(name) == bool(colon) and (bool(name) or kind in NAMELESS_ENCODERS))
        _check(not name or kind != "tfidf")
        return value

    kinds = (kind if kind in NAMELESS_ENCODERS else f"{kind}:NAME" for kind in ENCODER_NAMES)
    return _setting(default, " or ".join(f"'{kind}'" for kind in kinds), read)


def _arguments() -> Any:
    def read(value: Any) -> dict[str, Any]:
        _check(isinstance(value, Mapping) and all(isinstance(name, str) for name in value))
        return dict(value)

    return field(default_factory=dict, metadata={"allowed": "a mapping of names to values", "read": read})


def _some_of(*choices: str) -> Any:
    def read(value: Any) -> tuple[str, ...]:
        _check(isinstance(value, list | tuple) and set(value) <= set(choices))
        return tuple(choice for choice in choices if choice in value)

    return _setting((), f"a list of {', '.join(choices)}", read)


def _sizes(*default: int) -> Any:
    def read(value: Any) -> tuple[int, ...]:
        _check(isinstance(value, list | tuple))
        return tuple(_read_integer(size, 1) for size in value)

    return _setting(default, "a list of whole numbers of at least 1", read)


def _read_value(setting: Any, value: Any) -> Any:
    try:
        return setting.metadata["read"](value)
    except (ValueError, TypeError) as error:
        raise SettingError(f"{setting.name} is {value!r}; it takes {setting.metadata['allowed']}") from error


@dataclass(frozen=True)
class PreprocessSettings:
    """How codes are made. ``properties/preprocess.yaml`` has the meanings and defaults.

    Raises:
        SettingError: For a value that is not allowed.
    """

    prompt_language: str = _choice("en", LANGUAGES)
    prompt_templates: str | None = _text()
    prompt_history_length: int = _integer(20, 1)
    prompt_clicks: int = _integer(1, 0)
    prompt_query_length: int = _integer(32, 1)
    prompt_item_length: int = _integer(128, 1)
    summarizer: str = _choice("template", SUMMARIZER_NAMES)
    llm: str | None = _text()
    llm_tokenizer: str | None = _text()
    llm_context_length: int | None = _optional(_integer(0, 64))
    llm_max_tokens: int = _integer(512, 1)
    llm_temperature: float = _number(0.0)
    llm_top_p: float = _number(1.0, positive=True)
    llm_top_k: int = _integer(0, 0)
    llm_repetition_penalty: float = _number(1.1, positive=True)
    llm_seed: int = _integer(2025, 0)
    llm_json_schema: bool = _switch(False)
    llm_attempts: int = _integer(2, 1)
    plain_answers: str = _choice("use", ("use", "fail"))
    failed_summary: str = _choice("template", ("template", "missing"))
    retry_failed: bool = _switch(False)
    llm_dtype: str = _choice("auto", ("auto", "bfloat16", "float16", "float32"))
    llm_batch_size: int = _integer(64, 1)
    llm_engine_args: dict[str, Any] = _arguments()
    llm_base_url: str | None = _text()
    llm_concurrency: int = _integer(8, 1)
    llm_timeout: float = _number(120.0, positive=True)
    llm_retries: int = _integer(5, 0)
    encoder: str = _encoder("tfidf")
    encoder_dim: int = _integer(128, 1)
    encoder_pooling: str | None = _optional(_choice("cls", ("cls", "mean")))
    encoder_dtype: str = _choice("float32", ("float32", "float16"))
    encoder_max_length: int | None = _optional(_integer(0, 1))
    encoder_item_length: int = _integer(256, 1)
    encoder_query_length: int = _integer(64, 1)
    encoder_batch_size: int = _integer(32, 1)
    text_vectors: tuple[str, ...] = _some_of("user", "item", "query")
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
    rq_warmup_epochs: int | None = _optional(_integer(0, 0))
    rq_clip_grad_norm: float = _number(1.0, positive=True)
    rq_kmeans_init: bool = _switch(True)
    rq_sinkhorn: bool = _switch(True)
    rq_sinkhorn_epsilon: float = _number(0.003, positive=True)
    rq_sinkhorn_iterations: int = _integer(50, 1)
    rq_resolve_collisions: bool = _switch(True)
    rq_collision_rounds: int = _integer(20, 0)
    code_path: str | None = _code_path()
    preprocess_store: str | None = _text()
    preprocess_ray: bool = _switch(False)
    preprocess_ray_address: str | None = _text()
    preprocess_ray_workers: int = _integer(1, 1)
    preprocess_ray_cpus: float = _number(1.0)
    preprocess_ray_gpus: float = _number(0.0)

    def __post_init__(self) -> None:
        for setting in fields(self):
            object.__setattr__(self, setting.name, _read_value(setting, getattr(self, setting.name)))
        if self.summarizer != "template" and self.llm is None:
            raise SettingError(f"summarizer '{self.summarizer}' needs the setting llm, the name of a language model")
        if self.summarizer == "openai" and self.llm_base_url is None:
            raise SettingError("summarizer 'openai' needs the setting llm_base_url, the address of the server")
        if self.llm_top_p > 1:
            raise SettingError(f"llm_top_p is {self.llm_top_p}; it takes a number above 0, and at most 1")
        if self.rq_warmup_epochs is None:
            usual = _WARMUP_EPOCHS if self.rq_epochs > _WARMUP_EPOCHS else self.rq_epochs // 2
            object.__setattr__(self, "rq_warmup_epochs", usual)
        if not_none(self.rq_warmup_epochs) >= self.rq_epochs:
            raise SettingError(
                f"rq_warmup_epochs is {self.rq_warmup_epochs}; it takes less than rq_epochs, which is {self.rq_epochs}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PreprocessSettings:
        """Read the settings from a larger mapping such as RecBole's ``Config``; missing ones have their defaults.

        Raises:
            SettingError: For a value that is not allowed.
        """
        names = [setting.name for setting in fields(cls) if setting.name in config]
        return cls(**{name: config[name] for name in names if config[name] is not None})

    @classmethod
    def read_one(cls, name: str, value: Any) -> Any:
        """Convert one setting's value to its stored form; None means the default.

        Raises:
            SettingError: If the value is not allowed.
        """
        (setting,) = (setting for setting in fields(cls) if setting.name == name)
        return getattr(cls(), name) if value is None else _read_value(setting, value)

    def deciding(self) -> dict[str, Any]:
        """Return the settings that affect the codes, without those of unused parts or of how work is done."""
        left_out = set(OPERATIONAL)
        names = [setting.name for setting in fields(self)]
        if self.summarizer == "template":
            left_out.update(name for name in names if name.startswith("llm") or name in _OF_LANGUAGE_MODELS)
        left_out.add("encoder_max_length" if self.encoder == "tfidf" else "encoder_dim")
        if not self.encoder.startswith(("flag:", "bge-m3")):
            left_out.update(_OF_FLAG_EMBEDDING)
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    def deciding_vectors(self) -> dict[str, Any]:
        """Return the settings that affect summaries and text vectors; see :meth:`deciding`."""
        values = self.deciding()
        values = {name: value for name, value in values.items() if name not in _OF_CODES and not name.startswith("rq_")}
        if self.encoder != "tfidf":
            values |= {name: getattr(self, name) for name in ("encoder_item_length", "encoder_query_length")}
        return values

    def rqvae_settings(self) -> RQVAESettings:
        """The settings of the RQ-VAE."""
        own_names = ("n_codebooks", "codebook_size", "code_dim", "lambda_rq", "lambda_rq_cl", "tau_1")
        values = {name: getattr(self, name) for name in own_names}
        prefix = "rq_"
        values |= {s.name[len(prefix) :]: getattr(self, s.name) for s in fields(self) if s.name.startswith(prefix)}
        return RQVAESettings(**values, seed=self.preprocess_seed)


def absolute_folders(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make folders absolute in settings of the offline stage, for a process in another folder."""

    def absolute(name: str | None) -> str | None:
        return str(Path(name).resolve()) if name and Path(name).is_dir() else name

    folders = {name: absolute(values[name]) for name in ("llm", "llm_tokenizer", "prompt_templates") if name in values}
    if "encoder" in values:
        kind, colon, name = values["encoder"].partition(":")
        folders["encoder"] = kind + colon + (absolute(name) or "")
    return {**values, **folders}


def with_absolute_folders(settings: PreprocessSettings) -> PreprocessSettings:
    """Return the same settings with absolute folders, for a process in another folder."""
    names = ("llm", "llm_tokenizer", "encoder")
    return replace(settings, **absolute_folders({name: getattr(settings, name) for name in names}))

"""Settings of the offline stage and its RQ-VAE, read and checked once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
)

from recbole_gserec.errors import SettingError, is_number, not_none
from recbole_gserec.settings.defaults import preprocess_settings

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


@dataclass(frozen=True)
class RQVAESettings:
    """Settings of ``train_rqvae``, as :meth:`PreprocessSettings.rqvae_settings` makes them from checked values.

    ``properties/preprocess.yaml`` has their meanings, most under names with the prefix ``rq_``.
    """

    n_codebooks: int
    codebook_size: int | tuple[int, ...]
    code_dim: int
    hidden_sizes: tuple[int, ...]
    lambda_rq: float
    lambda_rq_cl: float
    tau_1: float
    commitment_weight: float
    loss_reduction: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_epochs: int
    clip_grad_norm: float
    stopping_checks: int
    stopping_changed: float
    stopping_improvement: float
    kmeans_init: bool
    sinkhorn: bool
    sinkhorn_epsilon: float
    sinkhorn_iterations: int
    resolve_collisions: bool
    collision_rounds: int
    seed: int
    # These two are no settings of the YAML.
    keep_best: bool = True
    """Whether the codes come from the checked epoch after the warm-up with the lowest collision rate, or the last."""
    check_every: int = 10
    """Epochs between checks of the codes."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        size = self.codebook_size
        return (size,) * self.n_codebooks if isinstance(size, int) else size


def _read_number(value: Any) -> float:
    # YAML reads 1e-4, which has no decimal point, as text.
    if not is_number(value) and not isinstance(value, str):
        raise ValueError
    return float(value)


_NUMBER = BeforeValidator(_read_number)
_Finite = Annotated[FiniteFloat, _NUMBER]
# The descriptions end the message "it must be ...".
_Count = Annotated[int, _NUMBER, Field(ge=1, description="a whole number of at least 1")]
_CountOrZero = Annotated[int, _NUMBER, Field(ge=0, description="a whole number of at least 0")]
_ContextLength = Annotated[int, _NUMBER, Field(ge=64, description="a whole number of at least 64")]
_Positive = Annotated[_Finite, Field(gt=0, description="a number above 0")]
_PositiveOrZero = Annotated[_Finite, Field(ge=0, description="a number of at least 0")]
_Share = Annotated[_Finite, Field(gt=0, le=1, description="a number above 0, and at most 1")]
_Switch = Annotated[bool, Field(strict=True, description="True or False")]
_Text = Annotated[str, Field(min_length=1, description="a text")]
_Sizes = Annotated[tuple[_Count, ...], Field(description="a list of whole numbers of at least 1")]
_CodebookSize = Annotated[
    _Count | _Sizes,
    Field(description="a whole number of at least 1, or a list of one for each level"),
]
_Arguments = Annotated[dict[str, Any], Field(description="a mapping of names to values")]
_CodeFile = Annotated[str, Field(pattern=r"(?s)^.+\.code$", description="the name of a file that ends with .code")]
_Encoder = Annotated[
    str,
    Field(
        pattern=r"(?s)^(tfidf|bge-m3|(bge-m3|flag|sentence-transformers):.+)$",
        description="'tfidf' or 'bge-m3' or 'flag:NAME' or 'sentence-transformers:NAME'",
    ),
]
_Vectors = Literal["user", "item", "query"]
_SomeVectors = Annotated[
    tuple[_Vectors, ...],
    AfterValidator(lambda chosen: tuple(name for name in get_args(_Vectors) if name in chosen)),
    Field(description=f"a list of {', '.join(get_args(_Vectors))}"),
]


class PreprocessSettings(BaseModel):
    """How codes are made. ``properties/preprocess.yaml`` has the meanings, and the values of settings not given.

    Raises:
        SettingError: For an unknown setting, or a value that is not allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_language: Literal["en", "zh"]
    prompt_templates: _Text | None
    prompt_history_length: _Count
    prompt_clicks: _CountOrZero
    prompt_query_length: _Count
    prompt_item_length: _Count
    summarizer: Literal["template", "vllm", "transformers", "openai"]
    llm: _Text | None
    llm_tokenizer: _Text | None
    llm_context_length: _ContextLength | None
    llm_max_tokens: _Count
    llm_temperature: _PositiveOrZero
    llm_top_p: _Share
    llm_top_k: _CountOrZero
    llm_repetition_penalty: _Positive
    llm_seed: _CountOrZero
    llm_json_schema: _Switch
    llm_attempts: _Count
    plain_answers: Literal["use", "fail"]
    failed_summary: Literal["template", "missing"]
    retry_failed: _Switch
    llm_dtype: Literal["auto", "bfloat16", "float16", "float32"]
    llm_batch_size: _Count
    llm_engine_args: _Arguments
    llm_base_url: _Text | None
    llm_concurrency: _Count
    llm_timeout: _Positive
    llm_retries: _CountOrZero
    encoder: _Encoder
    encoder_dim: _Count
    encoder_pooling: Literal["cls", "mean"] | None
    encoder_dtype: Literal["float32", "float16"]
    encoder_max_length: _Count | None
    encoder_item_length: _Count
    encoder_query_length: _Count
    encoder_batch_size: _Count
    text_vectors: _SomeVectors
    missing_side: Literal["copy_rec", "empty", "no_edges"]
    preprocess_seed: _CountOrZero
    n_codebooks: _Count
    codebook_size: _CodebookSize
    code_dim: _Count
    rq_hidden_sizes: _Sizes
    lambda_rq: _PositiveOrZero
    lambda_rq_cl: _PositiveOrZero
    tau_1: _Positive
    rq_commitment_weight: _PositiveOrZero
    rq_loss_reduction: Literal["mean", "sum"]
    rq_epochs: _Count
    rq_batch_size: _Count
    rq_learning_rate: _Positive
    rq_weight_decay: _PositiveOrZero
    rq_warmup_epochs: _CountOrZero | None
    rq_clip_grad_norm: _Positive
    rq_stopping_checks: _CountOrZero
    rq_stopping_changed: _PositiveOrZero
    rq_stopping_improvement: _PositiveOrZero
    rq_kmeans_init: _Switch
    rq_sinkhorn: _Switch
    rq_sinkhorn_epsilon: _Positive
    rq_sinkhorn_iterations: _Count
    rq_resolve_collisions: _Switch
    rq_collision_rounds: _CountOrZero
    code_path: _CodeFile | None
    preprocess_store: _Text | None
    preprocess_ray: _Switch
    preprocess_ray_address: _Text | None
    preprocess_ray_workers: _Count
    preprocess_ray_cpus: _PositiveOrZero
    preprocess_ray_gpus: _PositiveOrZero

    def __init__(self, **given: Any):
        values = {**preprocess_settings(), **given}
        try:
            super().__init__(**values)
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise _refusal(name, values[name]) from error

    def model_post_init(self, context: Any) -> None:
        """Check settings that depend on each other."""
        if self.summarizer != "template" and self.llm is None:
            raise SettingError(f"summarizer '{self.summarizer}' needs the setting llm, the name of a language model")
        if self.summarizer == "openai" and self.llm_base_url is None:
            raise SettingError("summarizer 'openai' needs the setting llm_base_url, the address of the server")
        if isinstance(self.codebook_size, tuple) and len(self.codebook_size) != self.n_codebooks:
            raise SettingError(
                f"codebook_size is {list(self.codebook_size)}, but n_codebooks is {self.n_codebooks}; "
                "give one size for each level"
            )
        if self.rq_warmup_epochs is None:
            usual = _WARMUP_EPOCHS if self.rq_epochs > _WARMUP_EPOCHS else self.rq_epochs // 2
            object.__setattr__(self, "rq_warmup_epochs", usual)
        if not_none(self.rq_warmup_epochs) >= self.rq_epochs:
            raise SettingError(
                f"rq_warmup_epochs is {self.rq_warmup_epochs}; "
                f"it must be less than rq_epochs, which is {self.rq_epochs}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read the settings from a larger mapping such as RecBole's ``Config``; missing ones have their defaults.

        Raises:
            SettingError: For a value that is not allowed.
        """
        names = [name for name in cls.model_fields if name in config]
        return cls(**{name: config[name] for name in names if config[name] is not None})

    @classmethod
    def read_one(cls, name: str, value: Any) -> Any:
        """Convert one setting's value to its stored form; None means the default.

        Raises:
            SettingError: If the value is not allowed.
        """
        if value is None:
            return getattr(cls(), name)
        try:
            return TypeAdapter(cls.__annotations__[name]).validate_python(value)
        except ValidationError as error:
            raise _refusal(name, value) from error

    def deciding(self) -> dict[str, Any]:
        """Return the settings that affect the codes, without those of unused parts or of how work is done."""
        left_out = set(OPERATIONAL)
        if self.summarizer == "template":
            left_out.update(name for name, _ in self if name.startswith("llm") or name in _OF_LANGUAGE_MODELS)
        left_out.add("encoder_max_length" if self.encoder == "tfidf" else "encoder_dim")
        if not self.encoder.startswith(("flag:", "bge-m3")):
            left_out.update(_OF_FLAG_EMBEDDING)
        if self.rq_stopping_checks == 0:
            # Codes from before there were these settings stay valid.
            left_out.update(name for name, _ in self if name.startswith("rq_stopping"))
        return self.model_dump(exclude=left_out)

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
        values |= {name.removeprefix(prefix): value for name, value in self if name.startswith(prefix)}
        return RQVAESettings(**values, seed=self.preprocess_seed)


def _refusal(name: str, value: Any) -> SettingError:
    """Return the error for an unknown setting, or for one whose value is not allowed."""
    schemas = PreprocessSettings.model_json_schema()["properties"]
    if name not in schemas:
        return SettingError.unknown(name, schemas)
    return SettingError.wrong(name, value, _allowed(schemas[name]))


def _allowed(schema: Mapping[str, Any]) -> str:
    """Describe the values of a JSON schema."""
    if "anyOf" in schema and "description" not in schema:
        return f"{_allowed(schema['anyOf'][0])}, or nothing"
    return " or ".join(map(repr, schema["enum"])) if "enum" in schema else schema["description"]


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
    return settings.model_copy(update=absolute_folders({name: getattr(settings, name) for name in names}))

"""How a language model is sampled, and everything else that affects its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from recbole_gserec.narrowing import not_none
from recbole_gserec.preprocess.answers import FIELD, READER
from recbole_gserec.preprocess.model_identity import model_identity

if TYPE_CHECKING:
    from recbole_gserec.preprocess.settings import PreprocessSettings

_LATER_TEMPERATURE = 0.6
ANSWER_SCHEMA = {
    "type": "object",
    "properties": {FIELD: {"type": "string", "minLength": 1}},
    "required": [FIELD],
    "additionalProperties": False,
}
"""JSON schema of the requested answer."""


class Sampling(NamedTuple):
    """Sampling of one attempt; every value is given, because models have their own defaults."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    seed: int
    max_tokens: int

    @classmethod
    def of_attempt(cls, settings: PreprocessSettings, attempt: int) -> Sampling:
        """Return the settings' sampling for the first attempt; later ones have other seeds and a higher temperature."""
        temperature = settings.llm_temperature if attempt == 1 else max(settings.llm_temperature, _LATER_TEMPERATURE)
        return cls(
            temperature,
            settings.llm_top_p,
            settings.llm_top_k,
            settings.llm_repetition_penalty,
            settings.llm_seed + attempt - 1,
            settings.llm_max_tokens,
        )


def answer_settings(settings: PreprocessSettings) -> dict[str, Any]:
    """Return everything that affects the answers of a language model, as JSON values."""
    names = """
        llm_context_length llm_max_tokens llm_temperature llm_top_p llm_top_k llm_repetition_penalty llm_seed llm_dtype
        llm_json_schema llm_engine_args
    """
    tokenizer = {"tokenizer": model_identity(settings.llm_tokenizer)} if settings.llm_tokenizer else {}
    given = {name: getattr(settings, name) for name in names.split()}
    return {**model_identity(not_none(settings.llm)), **tokenizer, **given, "reader": READER}

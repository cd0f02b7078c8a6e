"""Summarizers of histories, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recbole_gserec.preprocess.summarizers.base import Summarizer, TemplateSummarizer

if TYPE_CHECKING:
    from recbole_gserec.settings import PreprocessSettings


def _vllm(settings: PreprocessSettings) -> Summarizer:
    from recbole_gserec.preprocess.summarizers.local_model import VLLMSummarizer

    return VLLMSummarizer(settings)


def _transformers(settings: PreprocessSettings) -> Summarizer:
    from recbole_gserec.preprocess.summarizers.local_model import TransformersSummarizer

    return TransformersSummarizer(settings)


def _openai(settings: PreprocessSettings) -> Summarizer:
    from recbole_gserec.preprocess.summarizers.openai import OpenAISummarizer

    return OpenAISummarizer(settings)


SUMMARIZERS: dict[str, Callable[[PreprocessSettings], Summarizer]] = {
    "template": lambda settings: TemplateSummarizer(),
    "vllm": _vllm,
    "transformers": _transformers,
    "openai": _openai,
}
"""Name -> function that creates the summarizer from the offline stage's settings."""

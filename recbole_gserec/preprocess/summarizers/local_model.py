"""Shared parts of summarizers that run a language model themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from recbole_gserec.narrowing import not_none
from recbole_gserec.preprocess.prompts import Prompt
from recbole_gserec.preprocess.summarizers.base import Completion
from recbole_gserec.preprocess.summarizers.chat_tokens import ChatTokens
from recbole_gserec.preprocess.summarizers.sampling import Sampling, answer_settings

if TYPE_CHECKING:
    from recbole_gserec.preprocess.settings import PreprocessSettings


class Generated(NamedTuple):
    """An answer: its text, whether it ended by itself, and its number of tokens."""

    text: str
    is_whole: bool
    n_tokens: int


class LocalModelSummarizer(ABC):
    """Fits prompts to a model's context and reads its answers; subclasses generate them.

    Args:
        settings: Settings of the offline stage.
    """

    name: str
    speaks_json = True
    failure = None

    def __init__(self, settings: PreprocessSettings):
        self._given = settings
        self.settings = answer_settings(settings)
        self.batch_size = settings.llm_batch_size
        self.tokens = ChatTokens(
            not_none(settings.llm), settings.llm_tokenizer, settings.llm_context_length, settings.llm_max_tokens
        )

    def shorten(self, text: str, length: int) -> str:
        return self.tokens.shorten(text, length)

    def complete(self, prompts: Sequence[Prompt], attempt: int) -> list[Completion]:
        fitted = [self.tokens.fit(prompt) for prompt in prompts]
        answers = self.generate([prompt.tokens for prompt in fitted], Sampling.of_attempt(self._given, attempt))
        return [
            Completion(
                answer.text,
                answer.is_whole,
                self.tokens.opens_reasoning,
                prompt.n_records,
                len(prompt.tokens),
                answer.n_tokens,
            )
            for prompt, answer in zip(fitted, answers, strict=True)
        ]

    @abstractmethod
    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Generated]:
        """Answer each prompt, given as tokens."""

    @abstractmethod
    def close(self) -> None:
        """Free the memory of the model."""

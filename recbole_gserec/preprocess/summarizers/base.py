"""The interface of summarizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from recbole_gserec.preprocess.prompts import Prompt


class Completion(NamedTuple):
    """The answer to one prompt.

    Attributes:
        text: The whole answer.
        is_whole: Whether the answer ended by itself, not at the token limit.
        opens_in_reasoning: Whether the answer continues a reasoning block that the prompt opened.
        n_records: Number of records in the prompt; fewer than the history has if the prompt was too long.
        prompt_tokens: Number of tokens of the prompt, if known.
        answer_tokens: Number of tokens of the answer, if known.
    """

    text: str
    is_whole: bool = True
    opens_in_reasoning: bool = False
    n_records: int | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


class Summarizer(Protocol):
    """Turns prompts into answers.

    A summarizer loads its model when it is first asked, so creating one is cheap.

    Attributes:
        name: Its name in :data:`SUMMARIZERS`.
        settings: Everything that affects its answers, as JSON values. It is stored with the codes, and answers made
            with other settings are not reused.
        batch_size: Recommended number of prompts in a batch.
        speaks_json: Whether it was asked for JSON, and answers may contain reasoning.
    """

    name: str
    settings: dict[str, Any]
    batch_size: int
    speaks_json: bool

    def shorten(self, text: str, length: int) -> str:
        """Return the beginning of a text, in tokens of the language model, or in words if it has no tokenizer."""
        ...

    def complete(self, prompts: Sequence[Prompt], attempt: int) -> Sequence[Completion | None]:
        """Ask for each prompt once.

        Args:
            prompts: Prompts of any side.
            attempt: 1 for the first time; later attempts use sampling, so that the answer can differ.

        Returns:
            One completion per prompt, in the same order; ``None`` for a missing answer, with the reason in
            :attr:`failure`.
        """
        ...

    @property
    def failure(self) -> str | None:
        """Why the last answers were missing, if any: a line for the user."""
        ...

    def close(self) -> None:
        """Free the model's memory. The next call loads the model again."""
        ...

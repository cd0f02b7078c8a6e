"""What a summarizer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from recbole_gserec.preprocess.prompts import Prompt


class Completion(NamedTuple):
    """What came back for one prompt.

    Attributes:
        text: The whole answer.
        is_whole: Whether the answer came to its own end, and not to the limit of tokens.
        opens_in_reasoning: Whether the answer goes on with a reasoning block that the prompt has opened.
        n_records: Records of the history that the prompt showed; fewer than it has where it was too long.
        prompt_tokens: Tokens of the prompt, where they are known.
        answer_tokens: Tokens of the answer, where they are known.
    """

    text: str
    is_whole: bool = True
    opens_in_reasoning: bool = False
    n_records: int | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None


class Summarizer(Protocol):
    """Turns prompts into answers.

    A summarizer loads its model when it is first asked, so that making one costs nothing.

    Attributes:
        name: Its name in :data:`SUMMARIZERS`.
        settings: All that decides its answers, as JSON can hold it. It is kept beside the codes, and answers made with
            other settings are not taken for its own.
        batch_size: Prompts it is best given at a time.
        speaks_json: Whether it was asked for JSON, and answers may hold reasoning.
    """

    name: str
    settings: dict[str, Any]
    batch_size: int
    speaks_json: bool

    def shorten(self, text: str, length: int) -> str:
        """The beginning of a text: so many tokens of the language model, or words where it has no tokenizer."""
        ...

    def complete(self, prompts: Sequence[Prompt], attempt: int) -> Sequence[Completion | None]:
        """Ask for each prompt once.

        Args:
            prompts: Of any side.
            attempt: 1 for the first time; later times are sampled, so that another answer can come.

        Returns:
            One completion per prompt, in the same order; ``None`` where there was no answer, with the reason in
            :attr:`failure`.
        """
        ...

    @property
    def failure(self) -> str | None:
        """Why there was no answer the last time, if there was none: a line for the user."""
        ...

    def close(self) -> None:
        """Give back the model's memory. The next question loads it again."""
        ...

"""The interface of summarizers, and the default one: summaries from a template, without a language model."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from recbole_gserec.preprocess.prompts import WORD, Prompt, first_words


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


_WORD = re.compile(WORD)
# Words that say nothing about taste but occur in many titles. The list is short on purpose: longer ones contain
# "system" and "fire".
_FUNCTION_WORDS = frozenset(
    """
    a an and are as at be by for from he her his i in is it its me my no not of on or our she so than that the their
    them they this to was we were what when which who will with you your
    """.split()
)


class TemplateSummarizer:
    """Lists the words of a history; reads :attr:`Prompt.records` and ignores the instruction.

    Words of at least two records come first. Each is repeated as often as records contain it, so that vectors of word
    counts distinguish strong and weak interests. Words of single records follow, the latest record first. In item
    texts, the former are mostly words of categories and the latter words of titles.

    Args:
        max_frequent: Maximum number of words of the first kind.
        max_single: Maximum number of words of the second kind.
    """

    name = "template"
    batch_size = 4096
    speaks_json = False
    failure = None

    def __init__(self, max_frequent: int = 30, max_single: int = 20):
        self.max_frequent, self.max_single = max_frequent, max_single
        self.settings: dict[str, Any] = {"max_frequent": max_frequent, "max_single": max_single}

    def shorten(self, text: str, length: int) -> str:
        return first_words(text, length)

    def complete(self, prompts: Sequence[Prompt], attempt: int = 1) -> list[Completion]:
        return [Completion(self.summary(prompt.records)) for prompt in prompts]

    def close(self) -> None:
        """Do nothing."""

    def summary(self, records: Sequence[tuple[str, ...]]) -> str:
        """Return the text for one history, oldest record first."""
        counts: Counter[str] = Counter()
        latest: dict[str, int] = {}
        for index, record in enumerate(records):
            # A word counts once per record, in the order of the record.
            words = dict.fromkeys(_WORD.findall(" ".join(record).lower()))
            for word in words:
                counts[word] += 1
                latest[word] = index
        known = [word for word in counts if word not in _FUNCTION_WORDS] or list(counts)
        # Sorting is stable, so ties keep the order of the texts.
        ranked = sorted(known, key=lambda word: (-counts[word], -latest[word]))
        frequent = [word for word in ranked if counts[word] > 1][: self.max_frequent]
        single = [word for word in ranked if counts[word] == 1][: self.max_single]
        parts = []
        if frequent:
            parts.append("Often: " + ", ".join(" ".join([word] * counts[word]) for word in frequent) + ".")
        if single:
            parts.append("Also: " + ", ".join(single) + ".")
        return " ".join(parts)

"""From a language model's answer to a summary, or to the reason why there is none."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import NamedTuple

from recbole_gserec.preprocess.summarizers.base import Completion

REASONING_START, REASONING_END = "<think>", "</think>"
FIELD = "summary"
READER = 1
"""Version of how answers are read; to be raised when stored summaries would be read otherwise."""

USABLE = ("json", "text")
FAILED = ("truncated", "reasoning", "empty", "not_json")
STATUSES = {
    "json": "JSON, as asked for",
    "text": "whole, but not the JSON asked for; used as it is",
    "truncated": "cut off at the limit of tokens (llm_max_tokens)",
    "reasoning": "never came to the end of its reasoning",
    "empty": "no text",
    "not_json": "not the JSON asked for (plain_answers: fail)",
}
_KEPT_OF_FAILURES = 2000
_OBJECT = re.compile(r'\{\s*"')
_PLACEHOLDER = re.compile(r"<[^<>]*>")
# Where more than these fail, reading on would take time and find nothing.
_MOST_OBJECTS = 200


class Summary(NamedTuple):
    """One prompt's summary, as the store keeps it.

    Attributes:
        status: A key of :data:`STATUSES`.
        text: The summary; of a failure the beginning of the answer, for a look at what went wrong.
        attempts: Times the prompt was asked.
        n_records: Records of the history that the prompt showed, where it was shortened.
        prompt_tokens: Tokens of the prompt, where they are known.
        answer_tokens: Tokens of the answer, where they are known.
    """

    status: str
    text: str
    attempts: int = 1
    n_records: int | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None

    @property
    def is_usable(self) -> bool:
        return self.status in USABLE

    def judged(self, use_plain: bool) -> Summary:
        """The same, or a failure if whole answers without the JSON asked for are not to be used."""
        return self if use_plain or self.status != "text" else self._replace(status="not_json")


def read_answer(completion: Completion, attempts: int = 1) -> Summary:
    """Find the summary in an answer.

    A reasoning block is taken out; of what follows, the JSON object with the field ``summary`` counts, also inside a
    code fence or between other words. An answer cut off by the limit of tokens is a failure, unless its first object
    was complete before.

    Args:
        completion: The answer.
        attempts: Times the prompt was asked.
    """
    status, text = _read(completion)
    if status in FAILED:
        text = completion.text.strip()[:_KEPT_OF_FAILURES]
    # JSON can escape halves of characters, which can neither be stored nor tokenized.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Summary(status, text, attempts, completion.n_records, completion.prompt_tokens, completion.answer_tokens)


def _read(completion: Completion) -> tuple[str, str]:
    _, end, after = completion.text.rpartition(REASONING_END)
    if REASONING_START in after or (completion.opens_in_reasoning and not end):
        return "reasoning", ""
    text = after.strip()
    # Of an answer that was cut off, a later object may be part of the first, which has no end.
    found = json_summary(text, 1 if not completion.is_whole else _MOST_OBJECTS)
    if found:
        return "json", found
    if not completion.is_whole:
        return "truncated", ""
    if not text or found == "":
        return "empty", ""
    return "text", text


def json_summary(text: str, n_objects: int = _MOST_OBJECTS) -> str | None:
    """The field ``summary`` of the first JSON object that has one, inside of others too; ``None`` if none has.

    Args:
        text: An answer.
        n_objects: Most places to try at which an object seems to begin.
    """
    decoder = json.JSONDecoder(strict=False)
    for match in islice(_OBJECT.finditer(text), n_objects):
        try:
            value, _ = decoder.raw_decode(text, match.start())
            # Small models begin by repeating what the prompt shows as the form of an answer.
            if FIELD in value and not _PLACEHOLDER.fullmatch(summary := _as_text(value[FIELD])):
                return summary
        except (ValueError, RecursionError):
            continue
    return None


def _as_text(value: object) -> str:
    """Models put lists and objects where a text was asked for."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return "; ".join(filter(None, map(_as_text, value)))
    if isinstance(value, dict):
        return "; ".join(f"{name}: {text}" for name, part in value.items() if (text := _as_text(part)))
    return "" if value is None else str(value)

"""Extracts the summary from a language model's answer, or the reason why there is none."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from recbole_gserec.preprocess.summarizers import Completion

FIELD = "summary"
READER = 1
"""Version of the parser; raise it if stored answers would be parsed differently."""

USABLE = ("json", "text")
FAILED = ("truncated", "reasoning", "empty", "not_json")
STATUSES = {
    "json": "JSON, as requested",
    "text": "complete, but not the requested JSON; used as it is",
    "truncated": "cut off at the limit of tokens (llm_max_tokens)",
    "reasoning": "never finished its reasoning",
    "empty": "no text",
    "not_json": "not the requested JSON (plain_answers: fail)",
}
_KEPT_OF_FAILURES = 2000
_OBJECT = re.compile(r'\{\s*"')
_NAME = (
    r"(?:[\w-]{1,20}:)?(?:think(?:ing)?|thoughts?|reason(?:ing|s)?|reflect(?:ion|ing)?|analysis|scratch[_-]?pad"
    r"|inner[_-]?(?:monologue|thoughts?)|internal|deliberat(?:e|ion)|plan(?:ning)?|chain[_-]?of[_-]?thought|cot)"
    r"(?:[_-][\w-]{1,30})?"
)
_BAR, _GAP = "[|\uff5c]", r"\s{0,4}"
_MARKS = re.compile(
    # A message on a channel: the last one is the answer, all others lead to it.
    rf"(?P<final><\|channel\|?>{_GAP}(?:final|response|answer)(?:[^<{{]{{0,40}}<\|constrain\|>{_GAP}\w*)?"
    rf"(?:{_GAP}<\|message\|>)?|<{_BAR}start_(?:response|text){_BAR}>|\[begin final response\])"
    rf"|(?P<open><\|channel\|?>{_GAP}(?:[^<{{\n]{{0,60}}<\|message\|>|\w*)"
    rf"|<{_GAP}{_NAME}(?:\s[^<>]*(?<!/))?>|\[{_GAP}{_NAME}{_GAP}\]|\u25c1{_GAP}{_NAME}{_GAP}\u25b7"
    rf"|<(?:begin|start)_(?:of_)?{_NAME}>|&lt;{_GAP}(?:(?:begin|start)_(?:of_)?)?{_NAME}{_GAP}&gt;"
    rf"|<{_BAR}{_GAP}(?:(?:begin|start)_(?:of_)?)?{_NAME}{_GAP}{_BAR}>)"
    rf"|(?P<close><channel\|>|<{_GAP}/{_GAP}{_NAME}{_GAP}>|\[{_GAP}/{_GAP}{_NAME}{_GAP}\]"
    rf"|<end_(?:of_)?{_NAME}>|&lt;{_GAP}(?:/{_GAP}|end_(?:of_)?){_NAME}{_GAP}&gt;"
    rf"|\u25c1{_GAP}/{_GAP}{_NAME}{_GAP}\u25b7|<{_BAR}{_GAP}(?:/|end_(?:of_)?){_NAME}{_GAP}{_BAR}>)",
    re.IGNORECASE,
)
# Without its marks, as shown by servers that leave out special tokens.
_BARE_CHANNELS = re.compile(r"\s*(?:assistant\s*)?analysis.*?assistant\s*final(?=\W|[A-Z]|$)", re.DOTALL)
_END_MARKS = re.compile(
    r"(?:\s|<\|(?:end|return|call|im_end|eot_id|endoftext)\|>|\[end final response\])+$", re.IGNORECASE
)
_BEFORE_A_MENTION = re.compile(r"(?:[\w,)'\"`] |['\"`(\u201c\u2018])$")
_AFTER_A_MENTION = re.compile(r" \S|['\"`,.;:!?)\u201d\u2019]")
_BETWEEN_OBJECTS = re.compile(r"[\w<`]")
_PLACEHOLDER = re.compile(r"<[^<>]*>")
# After more failures than this, reading on would only cost time.
_MOST_OBJECTS = 200


class Summary(NamedTuple):
    """The summary of one prompt, as stored.

    Attributes:
        status: A key of :data:`STATUSES`.
        text: The summary; for a failure, the beginning of the answer, to see what went wrong.
        attempts: How often the prompt was asked.
        n_records: Number of records in the prompt, if it was shortened.
        prompt_tokens: Number of tokens of the prompt, if known.
        answer_tokens: Number of tokens of the answer, if known.
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

    def require_json_unless(self, use_plain: bool) -> Summary:
        """Return this summary, or a failure if complete answers without the requested JSON may not be used."""
        return self if use_plain or self.status != "text" else self._replace(status="not_json")


def read_answer(completion: Completion, attempts: int = 1) -> Summary:
    """Find the summary in an answer.

    Reasoning is removed, whatever its marks or channel. In the rest, the JSON object with the field ``summary`` counts,
    even inside a code fence or between other words. Marks inside that object are part of its text, and so are marks
    that a plain answer mentions in a sentence. An answer cut off at the token limit is a failure, unless its first
    object was complete.

    Args:
        completion: The answer.
        attempts: How often the prompt was asked.
    """
    status, text = _read(completion)
    if status in FAILED:
        text = completion.text.strip()[:_KEPT_OF_FAILURES]
    # JSON can escape unpaired surrogates, which can neither be stored nor tokenized.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Summary(status, text, attempts, completion.n_records, completion.prompt_tokens, completion.answer_tokens)


def _read(completion: Completion) -> tuple[str, str]:
    parts, is_open = _without_reasoning(completion.text, completion.opens_in_reasoning)
    found = _found(parts, is_open, completion.is_whole)
    if found is None:
        plain, is_plain_open = _without_reasoning(completion.text, completion.opens_in_reasoning, has_mentions=True)
        # A draft does not count as an answer.
        if not any(json_summary(part) for part in plain):
            parts, is_open = plain, is_plain_open
    if found:
        return "json", found
    if is_open:
        return "reasoning", ""
    if not completion.is_whole:
        return "truncated", ""
    text = _END_MARKS.sub("", parts[-1]).strip()
    if not text or found == "":
        return "empty", ""
    return "text", text


def _found(parts: list[str], is_open: bool, is_whole: bool) -> str | None:
    """Return the summary in JSON from the last part that has one."""
    for part in reversed(parts):
        # If the answer was cut off, a later object may be part of the first, which has no end.
        found = json_summary(part) if is_whole else json_summary(part, 1)
        if found is not None or (part.strip() and not is_whole and not is_open):
            return found
    return None


def ends_in_reasoning(prompt: str) -> bool:
    """Return whether a prompt ends by opening reasoning, which the answer then continues."""
    prompt = prompt.rstrip()
    return any(mark.lastgroup == "open" and mark.end() == len(prompt) for mark in _MARKS.finditer(prompt))


def _without_reasoning(text: str, is_open: bool, has_mentions: bool = False) -> tuple[list[str], bool]:
    """Return the parts of an answer outside of reasoning, and whether it ends inside reasoning.

    A mark within a JSON object is part of its text. Reasoning may be nested, and may mention its own marks. If
    reasoning ends without a visible beginning, everything before its end is reasoning.

    Args:
        text: The answer.
        is_open: Whether the answer begins inside reasoning.
        has_mentions: Whether a mark in the middle of a sentence outside of reasoning is part of the sentence.
    """
    text = text.strip()
    bare = _BARE_CHANNELS.match(text)
    if bare:
        text, is_open = text[bare.end() :], False
    marks = list(_MARKS.finditer(text))
    if marks:
        objects = list(_objects(text))
        starts = [start for start, _ in objects]
        marks = [
            mark
            for mark in marks
            if not (index := bisect_right(starts, mark.start())) or objects[index - 1][1] <= mark.start()
        ]
        # Words in brackets also occur in ordinary texts.
        if not any(mark.lastgroup == "close" and mark.group().startswith("[") for mark in marks):
            marks = [mark for mark in marks if mark.group()[0] != "[" or mark.group().isupper() or not mark.start()]
        if marks and _ends_an_answer(text, marks[-1], {end for _, end in objects}):
            rest, depth = _parts(text, marks[:-1], int(is_open), is_nested=True)
            if not depth:
                return rest, False
        if has_mentions:
            marks = _without_mentions(text, marks, int(is_open))
    parts, depth = _parts(text, marks, int(is_open), is_nested=True)
    if depth:
        # Of two opening marks, the second may only be mentioned.
        parts, depth = _parts(text, marks, int(is_open), is_nested=False)
    return parts, depth > 0


def _ends_an_answer(text: str, mark: re.Match[str], ends: set[int]) -> bool:
    """Return whether reasoning ends after the answer's object, with nothing after it."""
    is_last = mark.lastgroup == "close" and not _END_MARKS.sub("", text[mark.end() :])
    return is_last and len(text[: mark.start()].rstrip("` \t\r\n")) in ends


def _without_mentions(text: str, marks: list[re.Match[str]], depth: int) -> list[re.Match[str]]:
    """Drop marks in the middle of a sentence after reasoning has ended, or if reasoning never ends."""
    last_end = max((mark.start() for mark in marks if mark.lastgroup != "open"), default=-1)
    kept, has_ended = [], False
    for mark in marks:
        is_opening = mark.lastgroup == "open"
        is_free = not depth and mark.lastgroup != "final" and (has_ended or (is_opening and mark.start() > last_end))
        if (
            is_free
            and _BEFORE_A_MENTION.search(text[max(0, mark.start() - 2) : mark.start()])
            and _AFTER_A_MENTION.match(text, mark.end())
        ):
            continue
        kept.append(mark)
        depth = depth + 1 if is_opening else max(0, depth - 1) if mark.lastgroup == "close" else 0
        has_ended = not depth
    return kept


def _parts(text: str, marks: list[re.Match[str]], depth: int, is_nested: bool) -> tuple[list[str], int]:
    """Return the text outside of reasoning, and the depth of reasoning at the end."""
    parts: list[str] = []
    start = 0
    for mark in marks:
        kind = mark.lastgroup
        if kind == "open":
            if not depth and (part := text[start : mark.start()].strip()):
                parts.append(part)
            depth += 1
        elif kind == "final" or not depth:
            parts, start, depth = [], mark.end(), 0
        else:
            depth = depth - 1 if is_nested else 0
            start = mark.end()
    if not depth:
        parts.append(text[start:])
    return parts, depth


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Return the begin and end of complete JSON objects in a text, without nested ones."""
    decoder = json.JSONDecoder(strict=False)
    start = 0
    for _ in range(_MOST_OBJECTS):
        match = _OBJECT.search(text, start)
        if not match:
            return
        start = match.start() + 1
        try:
            _, start = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        yield match.start(), start


def json_summary(text: str, n_objects: int = _MOST_OBJECTS) -> str | None:
    """Return the field ``summary`` of a JSON object that has one, also if nested; ``None`` if none has.

    Of several, the first counts. If words or tags stand between them, the last counts, because the others led to it.

    Args:
        text: An answer.
        n_objects: Maximum number of positions to try where an object may begin.
    """
    decoder = json.JSONDecoder(strict=False)
    found = None
    start = end = found_end = -1
    for match in islice(_OBJECT.finditer(text), n_objects):
        if found is not None and match.start() < found_end:
            continue
        try:
            value, stop = decoder.raw_decode(text, match.start())
            if match.start() >= end:
                start, end = match.start(), stop
            # Small models first repeat the example of an answer from the prompt.
            if FIELD in value and not _PLACEHOLDER.fullmatch(summary := _as_text(value[FIELD])):
                if found is None or (summary and _BETWEEN_OBJECTS.search(text, found_end, start)):
                    found = summary
                found_end = end
        except (ValueError, RecursionError):
            continue
    return found


def _as_text(value: object) -> str:
    """Convert a value to text: models return lists and objects although text is requested."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return "; ".join(filter(None, map(_as_text, value)))
    if isinstance(value, dict):
        return "; ".join(f"{name}: {text}" for name, part in value.items() if (text := _as_text(part)))
    return "" if value is None else str(value)

"""Prompts that ask for a summary of a user's preferences (Section 4.1.1 of GSERec).

The wording lives in ``templates/*.txt``. The instruction stands first and the history last, so that all prompts of a
side share a prefix, which a language model server computes once.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from recbole_gserec.errors import DataError

if TYPE_CHECKING:
    from recbole_gserec.preprocess.settings import PreprocessSettings

SIDES = ("search", "recommendation")
TEMPLATES = {side: Path(__file__).parent / "templates" / f"en_{side}.txt" for side in SIDES}
SLOT = "{history}"

# Chinese and Japanese put no spaces between words; there a character counts as a word.
_CHARACTER = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CUT_UNIT = re.compile(rf"[{_CHARACTER}]|[^\s{_CHARACTER}]+")
WORD = rf"[{_CHARACTER}]|[^\W{_CHARACTER}]+(?:['-][^\W{_CHARACTER}]+)*"
"""Pattern of a word as summaries and TF-IDF count it: "sci-fi" and "children's" are one."""


class Search(Protocol):
    """One search: the words of its query and the clicked items."""

    @property
    def query(self) -> str: ...

    @property
    def items(self) -> Sequence[str]: ...


class Histories(Protocol):
    """The training part of all users' histories, in original ids."""

    user_tokens: list[str]

    def recommendation_history(self, user: int, n: int) -> Sequence[str]:
        """Last ``n`` items of a user's interactions, oldest first."""
        ...

    def search_history(self, user: int, n: int) -> Sequence[Search]:
        """Last ``n`` searches of a user, oldest first."""
        ...


class Prompt(NamedTuple):
    """A request for one summary.

    Attributes:
        user: Place of the user in ``Histories.user_tokens``.
        side: ``search`` or ``recommendation``.
        records: The history, oldest first; a record is the item's text, or the query and the clicked items' texts.
        template: The wording, with a slot for the history.
    """

    user: int
    side: str
    records: tuple[tuple[str, ...], ...]
    template: str

    @property
    def text(self) -> str:
        """The whole prompt. Made when asked for: the texts of all users together can be large."""
        line = _search_line if self.side == "search" else _item_line
        return self.template.replace(SLOT, "\n".join(line(*record) for record in self.records))


def build_prompts(
    side: str, histories: Histories, item_texts: Mapping[str, str], settings: PreprocessSettings
) -> list[Prompt]:
    """Build one side's prompts.

    Args:
        side: ``search`` or ``recommendation``.
        histories: The users' training histories.
        item_texts: Text by item; an item without text is named by its id.
        settings: How much of the histories a prompt shows.

    Returns:
        One prompt for each user who has a history on this side, in the order of the users.

    Raises:
        DataError: If the side's template is damaged.
    """
    template = read_template(side)

    @functools.cache
    def item_text(item: str) -> str:
        return cut(item_texts.get(item, ""), settings.prompt_item_words) or item

    prompts = []
    for user in range(len(histories.user_tokens)):
        if side == "search":
            searches = histories.search_history(user, settings.prompt_history_length)
            records = _search_records(searches, item_text, settings)
        else:
            items = histories.recommendation_history(user, settings.prompt_history_length)
            records = tuple((item_text(item),) for item in items)
        if records:
            prompts.append(Prompt(user, side, records, template))
    return prompts


def read_template(side: str) -> str:
    """Read a side's wording.

    Raises:
        DataError: If the history's slot is not the one thing at the end of the file.
    """
    template = TEMPLATES[side].read_text(encoding="utf-8").rstrip()
    if template.count(SLOT) != 1 or not template.endswith(SLOT):
        raise DataError(TEMPLATES[side], f"it must end with its only '{SLOT}'", "Put the instruction before the slot.")
    return template


def template_hashes() -> dict[str, str]:
    """SHA-256 of each side's wording."""
    return {side: hashlib.sha256(read_template(side).encode()).hexdigest() for side in SIDES}


def cut(text: str, n_words: int) -> str:
    """The first ``n_words`` words of a text, with single spaces."""
    text = " ".join(text.split())
    for count, match in enumerate(_CUT_UNIT.finditer(text), start=1):
        if count == n_words:
            return text[: match.end()]
    return text


def _search_records(
    searches: Iterable[Search], item_text: Callable[[str], str], settings: PreprocessSettings
) -> tuple[tuple[str, ...], ...]:
    records = []
    for search in searches:
        clicked = [item_text(item) for item in search.items[: settings.prompt_clicks]]
        query = cut(search.query, settings.prompt_query_words)
        if query or clicked:
            records.append((query, *clicked))
    return tuple(records)


def _search_line(query: str, *clicked: str) -> str:
    return f"- query: {query}" + "".join(f" | clicked: {text}" for text in clicked)


def _item_line(text: str) -> str:
    return f"- {text}"

"""Prompts that ask for a summary of a user's preferences (Section 4.1.1 of GSERec), and the items' texts in them.

The wording lives in ``templates/<language>/<side>.txt``, or in a folder of the user's. The instruction stands first and
the history last, so that a language model's server can reuse the prefix.

"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from recbole_gserec.errors import DataError
from recbole_gserec.files import field_types, read_columns

if TYPE_CHECKING:
    import scipy.sparse as sp

    from recbole_gserec.settings import PreprocessSettings

SIDES = ("search", "recommendation")
TEMPLATES = Path(__file__).parent / "templates"
SLOT = "{history}"
Cut = Callable[[str, int], str]
"""Shortens a text to a number of words or of tokens."""

# How a search appears in a prompt: the query, and what precedes each clicked item.
_SEARCH_LINES = {"en": ("- query: ", " | clicked: "), "zh": ("- 搜索词：", " | 点击：")}

# Chinese and Japanese have no spaces between words, so each character counts as a word.
_CHARACTER = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CUT_UNIT = re.compile(rf"[{_CHARACTER}]|[^\s{_CHARACTER}]+")
WORD = rf"[{_CHARACTER}]|[^\W{_CHARACTER}]+(?:['-][^\W{_CHARACTER}]+)*"
"""Pattern of a word in summaries and TF-IDF: "sci-fi" and "children's" are single words."""


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
        """Return the last ``n`` items of a user's interactions, oldest first."""
        ...

    def search_history(self, user: int, n: int) -> Sequence[Search]:
        """Return the last ``n`` searches of a user, oldest first."""
        ...


class HistoriesWithItems(Histories, Protocol):
    """Histories that also provide all items at once."""

    def item_matrix(self) -> sp.csr_matrix:
        """Users x items, 1 where a user interacted with an item."""
        ...


class Prompt(NamedTuple):
    """A request for one summary.

    Attributes:
        user: Index of the user in ``Histories.user_tokens``.
        side: ``search`` or ``recommendation``.
        records: The history, oldest first; a record is the item's text, or the query and the clicked items' texts.
        template: The wording, with a slot for the history.
        language: Language of the words around a search's query and clicked items.
    """

    user: int
    side: str
    records: tuple[tuple[str, ...], ...]
    template: str
    language: str = "en"

    @property
    def text(self) -> str:
        """The whole prompt. It is built on demand, because the texts of all users together can be large."""
        query_label, click_label = _SEARCH_LINES[self.language] if self.side == "search" else ("- ", "")
        lines = (query_label + click_label.join(record) for record in self.records)
        return self.template.replace(SLOT, "\n".join(lines))


def build_prompts(
    side: str,
    histories: Histories,
    item_texts: Mapping[str, str],
    settings: PreprocessSettings,
    shorten: Cut | None = None,
) -> list[Prompt]:
    """Build the prompts of one side.

    Args:
        side: ``search`` or ``recommendation``.
        histories: The users' training histories.
        item_texts: Text by item; an item without text is named by its id.
        settings: Decide how much of the histories a prompt shows, and the wording.
        shorten: Keeps the beginning of a query or of an item's text; by default, counts words (:func:`first_words`).

    Returns:
        One prompt for each user who has a history on this side, in the order of the users.

    Raises:
        DataError: If the side's template is damaged.
    """
    shorten = shorten or first_words
    template = read_template(template_path(side, settings.prompt_language, settings.prompt_templates))

    @functools.cache
    def item_text(item: str) -> str:
        return shorten(item_texts.get(item, ""), settings.prompt_item_length) or item

    @functools.cache
    def query_text(query: str) -> str:
        return shorten(query, settings.prompt_query_length)

    prompts = []
    for user in range(len(histories.user_tokens)):
        if side == "search":
            searches = histories.search_history(user, settings.prompt_history_length)
            records = _search_records(searches, query_text, item_text, settings.prompt_clicks)
        else:
            items = histories.recommendation_history(user, settings.prompt_history_length)
            records = tuple((item_text(item),) for item in items)
        if records:
            prompts.append(Prompt(user, side, records, template, settings.prompt_language))
    return prompts


def template_path(side: str, language: str, folder: str | None = None) -> Path:
    """Return the path of a side's template, in the user's ``folder`` or among those of the package."""
    return Path(folder or TEMPLATES / language) / f"{side}.txt"


def read_template(path: Path) -> str:
    """Read a template.

    Raises:
        DataError: If the file is missing, or the slot for the history is not at its end exactly once.
    """
    if not path.is_file():
        raise DataError(path, "file not found", f"Write the prompt there, ending with '{SLOT}'.")
    try:
        template = path.read_text(encoding="utf-8").rstrip()
    except UnicodeDecodeError as error:
        raise DataError(path, "not UTF-8 text", "Save it in this encoding.") from error
    if template.count(SLOT) != 1 or not template.endswith(SLOT):
        raise DataError(
            path, f"it must contain '{SLOT}' exactly once, at its end", "Put the instruction before the slot."
        )
    return template


def template_hashes(settings: PreprocessSettings) -> dict[str, str]:
    """Return the SHA-256 of each side's template."""
    paths = {side: template_path(side, settings.prompt_language, settings.prompt_templates) for side in SIDES}
    return {side: hashlib.sha256(read_template(path).encode()).hexdigest() for side, path in paths.items()}


def first_words(text: str, n_words: int) -> str:
    """Return the first ``n_words`` words of a text, with single spaces."""
    text = " ".join(text.split())
    for count, match in enumerate(_CUT_UNIT.finditer(text), start=1):
        if count == n_words:
            return text[: match.end()]
    return text


def _search_records(
    searches: Iterable[Search], query_text: Callable[[str], str], item_text: Callable[[str], str], n_clicks: int
) -> tuple[tuple[str, ...], ...]:
    records = []
    for search in searches:
        clicked = [item_text(item) for item in search.items[:n_clicks]]
        query = query_text(search.query)
        if query or clicked:
            records.append((query, *clicked))
    return tuple(records)


logger = logging.getLogger(__name__)


def read_item_texts(
    path: str | Path, *, item_field: str = "item_id", separator: str = "\t", encoding: str = "utf-8"
) -> dict[str, str]:
    """Join the text columns (``token`` and ``token_seq``) of an ``.item`` file, titles first.

    Args:
        path: The file. If it is missing, no item has a text, and prompts name items by their ids.
        item_field: The column of item ids.
        separator: Separator between columns.
        encoding: Encoding of the text.

    Returns:
        Text by item, if it has one. If an item occurs twice in the file, its first row counts.

    Raises:
        DataError: If the file is malformed.
    """
    path = Path(path)
    if not path.is_file():
        logger.warning("%s is missing: prompts name items by their ids.", path)
        return {}
    types = field_types(path, separator=separator, encoding=encoding)
    columns = [name for name, kind in types.items() if kind.startswith("token") and name != item_field]
    columns.sort(key=lambda name: "title" not in name.lower())
    # The reader raises an error with the file's name if there is no id column.
    table = read_columns(path, [item_field, *columns], separator=separator, encoding=encoding, required=[item_field])
    texts: dict[str, str] = {}
    for item, *parts in zip(*(table[name].to_pylist() for name in [item_field, *columns]), strict=True):
        text = "; ".join(part for part in map(str.strip, parts) if part)
        if text:
            texts.setdefault(item, text)
    return texts

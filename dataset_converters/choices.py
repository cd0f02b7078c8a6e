"""What conversions can be told, and what they take by default.

The command line shows all of it in its help, so nothing here imports the libraries that conversions work with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from recbole_gserec.errors import SettingError

# ---- all conversions ------------------------------------------------------------------------------------------------

WORDS = ("text", "spaces")
ACTIONS = ("error", "skip")


@dataclass(frozen=True)
class Filters:
    """What to keep of the logs; the steps are taken in the order of the fields.

    Args:
        since: Earliest time kept, of interactions and searches, in the unit of the logs' times; none by default.
        until: Time from which on nothing is kept; none by default.
        drop_duplicates: Keep one of interactions, or searches, that are equal in everything, their time included;
            queries of the same words are equal too.
        min_searches: Fewest searches of a user.
        k_core: Fewest interactions of a user and of an item, both at once; 0 leaves items as they are.
        min_interactions: Fewest interactions of a user who has any, also within the core. Evaluation needs 3: training,
            validation, test.
        search_only_users: Keep users who search and never interact; they are nodes of the user-code graph. Others go
            before users and items are counted, with what the steps up to then left.
    """

    since: float | None = None
    until: float | None = None
    drop_duplicates: bool = False
    min_searches: int = 0
    k_core: int = 0
    min_interactions: int = 3
    search_only_users: bool = False

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            if not math.isfinite(getattr(self, name) or 0):
                raise SettingError(f"{name} {getattr(self, name)} is not a time.")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise SettingError(f"nothing lies between since {self.since:.15g} and until {self.until:.15g}.")
        for name in ("min_searches", "k_core", "min_interactions"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} {getattr(self, name)} is negative. Give 0 or more.")


@dataclass(frozen=True)
class Options:
    """What every conversion can be told.

    Args:
        filters: What to keep.
        words: How queries are split (:func:`dataset_converters.query_words.words_of_texts`).
        bad_rows: ``error``: refuse a source with rows that cannot be used; ``skip``: leave them out, counted.
        all_items: Write texts of items that no kept event mentions too.
        memory: Limit of the database's memory.
        threads: Of the database; as many as processors by default.
    """

    filters: Filters = field(default_factory=Filters)
    words: str = "text"
    bad_rows: str = "error"
    all_items: bool = False
    memory: str = "2GB"
    threads: int | None = None


AS_WORDS = Options(words="spaces")
"""Defaults for sources whose queries are words, or numbers of words, already."""

# ---- Amazon ---------------------------------------------------------------------------------------------------------

ORIGINS = ("published", "categories")
PER_PURCHASE = ("one", "all")


@dataclass(frozen=True)
class Recipe:
    """How searches and texts are made.

    Args:
        queries_from: ``published`` or ``categories``; by default the published ones where their files are there.
        queries_per_purchase: ``one`` of the queries that could have led to the item, drawn; or ``all`` of them.
        search_probability: Of a purchase to have begun with a search, if there are queries for it.
        items_with_text: Leave out items with neither title nor description, as the paper's authors do.
        description_length: Most characters of a description; 0: all.
        seed: Of the draws.
    """

    queries_from: str | None = None
    queries_per_purchase: str = "one"
    search_probability: float = 1.0
    items_with_text: bool = False
    description_length: int = 2000
    seed: int = 2025

    def __post_init__(self) -> None:
        if self.queries_from not in (None, *ORIGINS):
            raise SettingError(f"queries_from can be one of {', '.join(ORIGINS)}, not '{self.queries_from}'.")
        if self.queries_per_purchase not in PER_PURCHASE:
            raise SettingError(
                f"queries_per_purchase can be one of {', '.join(PER_PURCHASE)}, not '{self.queries_per_purchase}'."
            )
        if not 0 <= self.search_probability <= 1:
            raise SettingError(f"search_probability {self.search_probability} is not between 0 and 1.")
        for name in ("description_length", "seed"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} {getattr(self, name)} is negative. Give 0 or more.")


# ---- Qilin ----------------------------------------------------------------------------------------------------------

QILIN = "qilin"
#: Users of either log are users; those with few or no interactions are nodes of the user-code graph.
QILIN_DEFAULTS = Options(filters=Filters(min_interactions=0, search_only_users=True))
SEARCH_TIMES = {"last": "max", "first": "min"}


@dataclass(frozen=True)
class QilinReading:
    """How the logs are understood.

    Args:
        raw_times: Keep times as they are in the files: milliseconds of recommendations, seconds of searches.
        search_time: When a search took place: when the ``last`` or the ``first`` of its clicked notes was shown; for a
            search without clicks, when its first note was shown.
        keep_unclicked: Let a search without clicks have its first shown note as if it had been clicked.
        first_query_only: Keep one query of each ``search_idx``, the first in the order of characters.
        drop_textless: Leave out interactions with, and clicks on, notes without title and content.
        as_listed: Order notes shown at one time as in the source's lists, not by position, and keep copies of clicks.
        content_length: Most characters kept of a note's content; 0 for titles alone.
    """

    raw_times: bool = False
    search_time: str = "last"
    keep_unclicked: bool = False
    first_query_only: bool = False
    drop_textless: bool = False
    as_listed: bool = False
    content_length: int = 500

    def __post_init__(self) -> None:
        if self.search_time not in SEARCH_TIMES:
            raise SettingError(f"search_time can be one of {', '.join(SEARCH_TIMES)}, not '{self.search_time}'.")
        if self.content_length < 0:
            raise SettingError(f"content_length {self.content_length} is negative. Give 0 or more.")


AS_PUBLISHED = QilinReading(
    raw_times=True,
    search_time="first",
    keep_unclicked=True,
    first_query_only=True,
    drop_textless=True,
    as_listed=True,
)
"""What the notebooks of GSERec's authors do."""


# ---- KuaiSAR --------------------------------------------------------------------------------------------------------

KUAISAR = "kuaisar"
FEEDBACK = ("click", "forward", "like", "follow")
POSITIVE = (*FEEDBACK, "any", "shown")
LANGUAGES = {"en": "_name_en", "zh": "_name"}


@dataclass(frozen=True)
class KuaiSARReading:
    """How the logs are understood.

    Args:
        positive: Which feedback on a recommendation makes an interaction: ``click``, ``forward``, ``like``,
            ``follow``, ``any`` of these, or ``shown``: every recommendation.
        recommended_types_only: Leave out clicked results of types that are never recommended, such as users and
            live streams. The searches stay.
        category_language: Of the names of categories: ``en`` or ``zh``.
    """

    positive: str = "click"
    recommended_types_only: bool = False
    category_language: str = "en"

    def __post_init__(self) -> None:
        for name, allowed in (("positive", POSITIVE), ("category_language", LANGUAGES)):
            if getattr(self, name) not in allowed:
                raise SettingError(f"{name} can be one of {', '.join(allowed)}, not '{getattr(self, name)}'.")


# ---- MovieLens-100k -------------------------------------------------------------------------------------------------

ML_100K = "ml-100k-search"
ML_100K_SEED = 2025

# ---- logs -----------------------------------------------------------------------------------------------------------

LOGS = "logs"
#: Meanings of the columns of each kind of file.
MEANINGS = {
    "interactions": ("user", "item", "time"),
    "searches": ("user", "query", "time", "items", "item", "click", "search"),
    "items": ("item", "title", "categories", "brand", "description"),
}
#: Names of what separates items; nothing does where each cell is one id.
SEPARATORS = {"comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "none": ""}
#: Units of numbers, and how many of them are a second.
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "position": 1.0}

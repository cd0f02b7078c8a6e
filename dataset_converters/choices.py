"""The options of conversions with their defaults.

The command line shows them in its help, so this module imports none of the libraries that conversions need.
"""

import math
from dataclasses import dataclass, field

from recbole_gserec.errors import SettingError

# ---- all conversions ------------------------------------------------------------------------------------------------

WORDS = ("text", "spaces")
ACTIONS = ("error", "skip")


@dataclass(frozen=True)
class Filters:
    """What to keep of the logs. The filters run in the order of the fields.

    Args:
        since: Keep events from this time on, in the logs' unit of time. No limit by default.
        until: Keep events before this time. No limit by default.
        drop_duplicates: Keep one of several interactions or searches that are equal in everything, including the time.
            Queries with the same words count as equal.
        min_searches: Minimum number of searches per user.
        k_core: Minimum number of interactions of each user and each item (k-core). 0 turns the filter off.
        min_interactions: Minimum number of interactions of users who have any, also within the core. Evaluation needs
            3: one each for training, validation and test.
        search_only_users: Keep users who search but never interact; they are nodes of the user-code graph. Otherwise
            they are removed before the filters that count searches or interactions.
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
                raise SettingError(f"{name} {getattr(self, name)} is not a time. Give a finite number.")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise SettingError(f"since {self.since:.15g} is not before until {self.until:.15g}.")
        for name in ("min_searches", "k_core", "min_interactions"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} {getattr(self, name)} is negative. Give 0 or more.")


@dataclass(frozen=True)
class Options:
    """Options of every conversion.

    Args:
        filters: Which users, items and events to keep.
        words: How to split queries into words (:func:`dataset_converters.query_words.words_of_texts`).
        bad_rows: What to do with rows that cannot be used: ``error`` stops at the first, ``skip`` leaves them out and
            counts them.
        all_items: Also write the texts of items that are in no kept event.
        memory: Memory limit of the database.
        threads: Number of database threads. The default is one per processor.
    """

    filters: Filters = field(default_factory=Filters)
    words: str = "text"
    bad_rows: str = "error"
    all_items: bool = False
    memory: str = "2GB"
    threads: int | None = None


AS_WORDS = Options(words="spaces")
"""Defaults for sources whose queries already consist of words, or of word ids."""

# ---- Amazon ---------------------------------------------------------------------------------------------------------

QUERY_SOURCES = ("published", "categories")
QUERIES_PER_PURCHASE = ("one", "all")


@dataclass(frozen=True)
class Recipe:
    """How to make searches and texts.

    Args:
        queries_from: Source of the queries: ``published`` or ``categories``. The default is ``published`` if the files
            exist.
        queries_per_purchase: ``one`` random query of those that could have led to the item, or ``all`` of them.
        search_probability: Probability that a purchase with queries began with a search.
        items_with_text: Leave out items that have neither title nor description, as the paper's authors do.
        description_length: Maximum length of a description in characters; 0 for no limit.
        seed: Random seed.
    """

    queries_from: str | None = None
    queries_per_purchase: str = "one"
    search_probability: float = 1.0
    items_with_text: bool = False
    description_length: int = 2000
    seed: int = 2025

    def __post_init__(self) -> None:
        if self.queries_from not in (None, *QUERY_SOURCES):
            raise SettingError(f"queries_from must be one of {', '.join(QUERY_SOURCES)}, not '{self.queries_from}'.")
        if self.queries_per_purchase not in QUERIES_PER_PURCHASE:
            raise SettingError(
                f"queries_per_purchase must be one of {', '.join(QUERIES_PER_PURCHASE)}, "
                f"not '{self.queries_per_purchase}'."
            )
        if not 0 <= self.search_probability <= 1:
            raise SettingError(f"search_probability {self.search_probability} must be between 0 and 1.")
        for name in ("description_length", "seed"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} {getattr(self, name)} is negative. Give 0 or more.")


# ---- Qilin ----------------------------------------------------------------------------------------------------------

QILIN = "qilin"
#: Users of both logs are kept. Those with few or no interactions are nodes of the user-code graph.
QILIN_DEFAULTS = Options(filters=Filters(min_interactions=0, search_only_users=True))
SEARCH_TIMES = {"last": "max", "first": "min"}


@dataclass(frozen=True)
class QilinReading:
    """How to interpret the logs.

    Args:
        raw_times: Keep times as in the files: milliseconds for recommendations, seconds for searches.
        search_time: Time of a search: when its ``last`` or ``first`` clicked note was shown. A search without clicks
            has the time of its first shown note.
        keep_unclicked: In a search without clicks, treat the first shown note as clicked.
        first_query_only: Keep one query per ``search_idx``, the first in alphabetical order.
        drop_textless: Leave out interactions with and clicks on notes that have neither title nor content.
        as_listed: Keep duplicate clicks, and order notes shown at the same time as in the source's lists instead of by
            position.
        content_length: Maximum length of a note's content in characters; 0 keeps only titles.
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
            raise SettingError(f"search_time must be one of {', '.join(SEARCH_TIMES)}, not '{self.search_time}'.")
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
"""The processing in the notebooks of GSERec's authors."""


# ---- KuaiSAR --------------------------------------------------------------------------------------------------------

KUAISAR = "kuaisar"
FEEDBACK = ("click", "forward", "like", "follow")
POSITIVE = (*FEEDBACK, "any", "shown")
LANGUAGES = {"en": "_name_en", "zh": "_name"}


@dataclass(frozen=True)
class KuaiSARReading:
    """How to interpret the logs.

    Args:
        positive: Feedback that makes a recommendation an interaction: ``click``, ``forward``, ``like``, ``follow``,
            ``any`` of these, or ``shown`` for every recommendation.
        recommended_types_only: Leave out clicked results of types that are never recommended, such as users and live
            streams. Their searches are kept.
        category_language: Language of the category names: ``en`` or ``zh``.
    """

    positive: str = "click"
    recommended_types_only: bool = False
    category_language: str = "en"

    def __post_init__(self) -> None:
        for name, allowed in (("positive", POSITIVE), ("category_language", LANGUAGES)):
            if getattr(self, name) not in allowed:
                raise SettingError(f"{name} must be one of {', '.join(allowed)}, not '{getattr(self, name)}'.")


# ---- JDsearch -------------------------------------------------------------------------------------------------------

JDSEARCH = "jdsearch"
#: Types of behaviour: purchase, click, addition to the cart, and following a product.
HISTORY_TYPES = ("ORD", "CLICK", "CART", "FLW")
TIME_ZEROS = ("first", "last")


@dataclass(frozen=True)
class JDsearchReading:
    """How to interpret the histories.

    Args:
        types: Types of behaviour without a query that are interactions, of ``ORD``, ``CLICK``, ``CART`` and ``FLW``.
            Any behaviour after a query is a click in the search.
        search_gap: Maximum number of seconds between two events of a search. After a longer gap, the same query is a
            new search.
        searched_too: Behaviour after a query is an interaction as well as a click in the search.
        drop_last_search: Leave out the last query of each user, which the makers of the data use for testing.
        time_zero: The time 0 of each user: the ``first`` event of the history, or the ``last`` query.
    """

    types: tuple[str, ...] = HISTORY_TYPES
    search_gap: float = 1800.0
    searched_too: bool = False
    drop_last_search: bool = False
    time_zero: str = "first"

    def __post_init__(self) -> None:
        if not self.types or not set(self.types) <= set(HISTORY_TYPES):
            raise SettingError(f"types must be some of {', '.join(HISTORY_TYPES)}, not '{', '.join(self.types)}'.")
        if not 0 <= self.search_gap < math.inf:
            raise SettingError(f"search_gap {self.search_gap} is not a number of seconds. Give 0 or more.")
        if self.time_zero not in TIME_ZEROS:
            raise SettingError(f"time_zero must be {' or '.join(TIME_ZEROS)}, not '{self.time_zero}'.")


# ---- Diginetica -----------------------------------------------------------------------------------------------------

DIGINETICA = "diginetica"
DIGINETICA_USERS = ("user", "session")
DIGINETICA_INTERACTIONS = ("views", "purchases", "all")


@dataclass(frozen=True)
class DigineticaReading:
    """How to interpret the logs.

    Args:
        users: Who is a user: the ``user`` with an id, or else the session; or each ``session`` by itself.
        interactions: What is an interaction: ``views`` of product pages, ``purchases`` or ``all`` of both.
        text_queries_only: Leave out the queries that only chose a category.
        keep_test_queries: Keep the queries of the competition's test, whose clicks are not published, as searches
            without clicks.
        drop_opened_views: Leave out a view within a minute of the user's click on the same item in a search of the
            session, because the click opened it.
    """

    users: str = "user"
    interactions: str = "views"
    text_queries_only: bool = False
    keep_test_queries: bool = False
    drop_opened_views: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("users", DIGINETICA_USERS), ("interactions", DIGINETICA_INTERACTIONS)):
            if getattr(self, name) not in allowed:
                raise SettingError(f"{name} must be one of {', '.join(allowed)}, not '{getattr(self, name)}'.")


# ---- MovieLens-100k -------------------------------------------------------------------------------------------------

ML_100K = "ml-100k-search"
ML_100K_SEED = 2025

# ---- logs -----------------------------------------------------------------------------------------------------------

LOGS = "logs"
#: Possible meanings of the columns of each log.
MEANINGS = {
    "interactions": ("user", "item", "time"),
    "searches": ("user", "query", "time", "items", "item", "click", "search"),
    "items": ("item", "title", "categories", "brand", "description"),
}
#: Separators of the items in a cell, by name. "none" means that each cell is one id.
SEPARATORS = {"comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "none": ""}
#: Units of numbers, with the number of units per second.
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "position": 1.0}
#: Texts that mean a missing value wherever they stand.
NO_WORDS = ("-", "--", "(not set)", "(not provided)", "(none)", "(null)", "(empty)", "(missing)", "(blank)")
#: Texts that mean "no query", upper or lower case. A user may type "none", but far more often a program wrote it.
NO_QUERY = (
    *("NA", "N/A", "#N/A", "<NA>", "nan", "null", "<null>", "nil", "none", "undefined", r"\N", "n.a.", "NaT"),
    *NO_WORDS,
)

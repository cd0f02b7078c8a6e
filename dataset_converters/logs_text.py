"""Cells of a log as values: what stands for nothing, what surrounds a text, and what an id cannot hold."""

from __future__ import annotations

from collections.abc import Iterable

from dataset_converters.sql_text import literal
from dataset_converters.table_checks import NO_IDS

# What programs write for a missing value, and readers of tables, RecBole's among them, take for one.
_NO_WORDS = ("-", "--", "(not set)", "(not provided)", "(none)", "(null)", "(empty)", "(missing)", "(blank)")
_NOTHING = (*NO_IDS, "", r"\N", "Null", "none", "undefined", *_NO_WORDS)
#: SQL list of the texts that stand for a missing id or time.
MISSING = ", ".join(map(literal, _NOTHING))
#: Texts that stand for no query, in any case. Somebody may type "none"; far more often a program wrote it.
NO_QUERY = (
    *("NA", "N/A", "#N/A", "<NA>", "nan", "null", "<null>", "nil", "none", "undefined", r"\N", "n.a.", "NaT"),
    *_NO_WORDS,
)
# All that Python's str.strip takes for white space.
_SPACES = "".join(filter(str.isspace, map(chr, range(0x3001))))
#: Regular expression of what separates the items of a search in the dataset: any white space or control character.
WHITE_SPACE = r"[\s\pZ\p{Cc}]"
#: What is wrong with an item id that holds some.
SPACED = "item holds white space"
_CONTROL = r"\p{Cc}"
#: Regular expression of what Python, its libraries and Scala write before a list.
WRAPPER = (
    r"(?:(?:np|numpy|pd|pandas|collections)\.)?(?:set|frozenset|list|tuple|deque|array|ndarray|Index|Series|dict_keys"
    r"|dict_values|List|Vector|Set|Seq|WrappedArray|ArrayBuffer|ArraySeq)"
)
#: Regular expression of a list in brackets; a single word in parentheses may be an id.
IS_LIST = rf"""(?s)\[.*\]|\{{.*\}}|\(\s*\)|\(.*[,'"].*\)|{WRAPPER}\(.*\)|(?i:array)\s*\[.*\]"""


def trimmed(column: str) -> str:
    """SQL of a text without the white space around it."""
    return f"trim({column}, {literal(_SPACES)})"


def present(column: str) -> str:
    """SQL of a trimmed id; NULL if it stands for nothing."""
    return f"CASE WHEN {column} NOT IN ({MISSING}) THEN {column} END"


def query(column: str, missing: Iterable[str] = NO_QUERY) -> str:
    """SQL of a trimmed query; the empty text if it stands for nothing.

    Args:
        column: The query.
        missing: Texts that stand for no query, in any case.
    """
    texts = ", ".join(f"lower({literal(text.strip())})" for text in ("", *missing))
    return f"CASE WHEN {column} IS NULL OR lower({column}) IN ({texts}) THEN '' ELSE {column} END"


def user_problem(column: str) -> str:
    """SQL of what is wrong with a trimmed user id; NULL if nothing is."""
    return f"""
        CASE WHEN {column} IS NULL OR {column} IN ({MISSING}) THEN 'user is missing'
            WHEN starts_with({column}, '"') THEN 'user begins with a quotation mark'
            WHEN regexp_matches({column}, {literal(_CONTROL)}) THEN 'user holds a tab, line break or the like' END
    """


def item_problem(column: str, replace_spaces: bool) -> str:
    """SQL of what is wrong with a trimmed item id; NULL if nothing is.

    Args:
        column: The id.
        replace_spaces: Whether white space in it will be replaced.
    """
    spaces = f"WHEN regexp_matches({column}, {literal(WHITE_SPACE)}) THEN {literal(SPACED)}"
    return f"""
        CASE WHEN {column} IS NULL OR {column} IN ({MISSING}) THEN 'item is missing'
            WHEN starts_with({column}, '"') THEN 'item begins with a quotation mark'
            WHEN regexp_full_match({column}, {literal(IS_LIST)}) THEN 'item is a list'
            {"" if replace_spaces else spaces} END
    """


def without_spaces(column: str, replace_spaces: bool) -> str:
    """SQL of an item id as it will be written."""
    return f"regexp_replace({column}, {literal(WHITE_SPACE + '+')}, '_', 'g')" if replace_spaces else column

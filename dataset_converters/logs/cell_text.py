"""SQL for the cells of a log: missing values, surrounding white space, and invalid ids."""

from collections.abc import Iterable

from dataset_converters.bad_rows import MISSING_VALUE_TEXTS
from dataset_converters.choices import NO_QUERY, NO_WORDS
from dataset_converters.workspace import literal

# Texts that programs write for a missing value. RecBole and other readers also treat them as missing.
_NOTHING = (*MISSING_VALUE_TEXTS, "", r"\N", "Null", "none", "undefined", *NO_WORDS)
#: SQL list of the texts that mean a missing id or time.
MISSING = ", ".join(map(literal, _NOTHING))
# All white space that Python's str.strip removes.
_SPACES = "".join(filter(str.isspace, map(chr, range(0x3001))))
#: Regular expression of white space and control characters, which separate the items of a search in the dataset.
WHITE_SPACE = r"[\s\pZ\p{Cc}]"
#: Problem of an item id with white space.
WHITE_SPACE_PROBLEM = "item contains white space"
_CONTROL = r"\p{Cc}"
#: Regular expression of the names that Python, its libraries and Scala print before a list.
WRAPPER = (
    r"(?:(?:np|numpy|pd|pandas|collections)\.)?(?:set|frozenset|list|tuple|deque|array|ndarray|Index|Series|dict_keys"
    r"|dict_values|List|Vector|Set|Seq|WrappedArray|ArrayBuffer|ArraySeq)"
)
#: Regular expression of a list in brackets. A single word in parentheses does not match, because it may be an id.
IS_LIST = rf"""(?s)\[.*\]|\{{.*\}}|\(\s*\)|\(.*[,'"].*\)|{WRAPPER}\(.*\)|(?i:array)\s*\[.*\]"""


def trimmed_sql(column: str) -> str:
    """SQL for a text without surrounding white space."""
    return f"trim({column}, {literal(_SPACES)})"


def present_id_sql(column: str) -> str:
    """SQL for a trimmed id; NULL if it means a missing value."""
    return f"CASE WHEN {column} NOT IN ({MISSING}) THEN {column} END"


def query_sql(column: str, missing: Iterable[str] = NO_QUERY) -> str:
    """SQL for a trimmed query; the empty text if it means "no query".

    Args:
        column: SQL of the query.
        missing: Texts that mean "no query", upper or lower case.
    """
    texts = ", ".join(f"lower({literal(text.strip())})" for text in ("", *missing))
    return f"CASE WHEN {column} IS NULL OR lower({column}) IN ({texts}) THEN '' ELSE {column} END"


def user_problem_sql(column: str) -> str:
    """SQL for the problem of a trimmed user id, or NULL."""
    return f"""
        CASE WHEN {column} IS NULL OR {column} IN ({MISSING}) THEN 'user is missing'
            WHEN starts_with({column}, '"') THEN 'user begins with a quotation mark'
            WHEN regexp_matches({column}, {literal(_CONTROL)}) THEN 'user contains a control character or tab' END
    """


def item_problem_sql(column: str, replace_spaces: bool) -> str:
    """SQL for the problem of a trimmed item id, or NULL.

    Args:
        column: SQL of the id.
        replace_spaces: Whether white space in the id will be replaced.
    """
    spaces = f"WHEN regexp_matches({column}, {literal(WHITE_SPACE)}) THEN {literal(WHITE_SPACE_PROBLEM)}"
    return f"""
        CASE WHEN {column} IS NULL OR {column} IN ({MISSING}) THEN 'item is missing'
            WHEN starts_with({column}, '"') THEN 'item begins with a quotation mark'
            WHEN regexp_full_match({column}, {literal(IS_LIST)}) THEN 'item is a list'
            {"" if replace_spaces else spaces} END
    """


def id_without_spaces_sql(column: str, replace_spaces: bool) -> str:
    """SQL for an item id in the dataset, with white space replaced if requested."""
    return f"regexp_replace({column}, {literal(WHITE_SPACE + '+')}, '_', 'g')" if replace_spaces else column

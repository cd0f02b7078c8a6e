"""Parsing of a search's clicked items: lists in a cell, as various programs write them, or one row per click."""

import duckdb

from dataset_converters.choices import SEPARATORS
from dataset_converters.logs.cell_text import IS_LIST, MISSING, WRAPPER, item_problem_sql, present_id_sql, trimmed_sql
from dataset_converters.workspace import count, literal
from recbole_gserec.errors import SettingError

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
# Single values that NumPy and Python print inside lists: np.int64(17), Decimal('17.00').
_CALL = r"(?:[A-Za-z_]\w*\.)*(?:u?int\d*|float\d*|str_?|bytes_?|longlong|object_|Decimal|UUID|ObjectId)"
_WHOLE_CALL = rf"(?s)^{_CALL}\(\s*(.*?)\s*\)$"
_BARE = r"""[^,\s'"()\[\]{}][^,\s()\[\]{}]*"""
# Entries of a list that is not JSON: in single quotes as in Python, in double quotes, or without quotes.
_ENTRY = rf"""[uUbB]?(?:{_QUOTED})|{_CALL}\(\s*(?:{_QUOTED}|[^\s,'"()]+)\s*\)|{_BARE}"""
_ENTRIES = rf"(?s)\s*(?:{_ENTRY})(?:[\s,]+(?:{_ENTRY}))*[\s,]*"
# Escapes from which only the backslash must be removed. This is true for punctuation, but not for \n or \x.
_PLAIN_ESCAPES = r"(?s)(?:[^\\]|\\[^xuUN0-7abfnrtv])*"
# Other printed values instead of a list: a generator, a pandas Series, a container of another library.
_CONTAINER = r"[A-Za-z_][\w.]*\(\s*(?:[\[({].*[\])}]\s*(?:,.*)?)?\)|(?:torch\.)?[Tt]ensor\(.*\)"
_PRINTED = rf"(?s)<.*\s.*>|.*\bdtype\b\s*[:=].*|{_CONTAINER}"
# Words and marks that people write between items. They remain if the text is split at spaces.
_BETWEEN = r"^[\pP\p{Sm}\p{Sk}]+$|(?i)^(?:and|or)$|^[，、；｜]|[，、；｜]$"
_CUT = r"""^[\[{]|[\]}]$|^\(\s*['"]|['"]\s*,?\s*\)$|^""" + WRAPPER + r"\("
_TUPLE = r"""(?s)^\((.*[,'"].*)\)$"""
_NOTHING_IN_IT = rf"(?:{WRAPPER})?\(\s*\)"
_WRAPPED = rf"(?s)^{WRAPPER}\(\s*([\[{{(].*[\]}})])\s*(?:,(?:\s*\w+\s*=.*)?)?\)$"
_ARRAY = r"(?is)^array\s*(\[.*\])$"
#: SQL list of click flags in lower case.
FLAGS = ", ".join(map(literal, ("0", "1", "0.0", "1.0", "true", "false", "t", "f", "yes", "no", "y", "n")))
_NOT_CLICKED = ", ".join(map(literal, ("", "false", "f", "no", "n")))
_ZERO = r"0+(\.0*)?"


def parse_separator(requested: str) -> str:
    """The separator with a name, or the requested character itself. Empty if each cell is one id.

    Raises:
        SettingError: If the request is empty.
    """
    if not requested:
        raise SettingError(f"--click-separator is empty. Give one of {', '.join(SEPARATORS)}.")
    return SEPARATORS.get(requested, requested)


def separator_name(separator: str) -> str:
    """Name of a separator on the command line."""
    return next((name for name, mark in SEPARATORS.items() if mark == separator), separator)


def holds_lists(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether most non-empty cells of the column ``item`` contain a list in brackets."""
    share = connection.execute(
        f"""
        SELECT avg(regexp_full_match(cell, {literal(IS_LIST)})::INTEGER)
        FROM (SELECT {trimmed_sql("item")} AS cell FROM {table}) WHERE cell NOT IN ({MISSING})
        """
    ).fetchall()[0][0]
    return (share or 0) > 0.5


def holds_flags(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether the column ``items`` contains only click flags."""
    filled = f"(SELECT lower({trimmed_sql('items')}) AS cell FROM {table}) WHERE cell NOT IN ({MISSING.lower()})"
    others = count(connection, f"SELECT count(*) FROM (SELECT 1 FROM {filled} AND cell NOT IN ({FLAGS}) LIMIT 1)")
    return not others and count(connection, f"SELECT count(*) FROM (SELECT 1 FROM {filled} LIMIT 1)") > 0


def unwrapped_sql(cell: str) -> str:
    """SQL that converts any list in a trimmed cell to square brackets or braces.

    ``('a', 'b')``, ``set()`` and ``array(['a'], dtype=object)`` become ``['a', 'b']``, ``[]`` and ``['a']``.
    """
    inner = f"""
        CASE WHEN regexp_full_match({cell}, {literal(_NOTHING_IN_IT)}) THEN '[]'
            WHEN regexp_matches({cell}, {literal(_WRAPPED)}) THEN regexp_extract({cell}, {literal(_WRAPPED)}, 1)
            WHEN regexp_matches({cell}, {literal(_ARRAY)}) THEN regexp_extract({cell}, {literal(_ARRAY)}, 1)
            ELSE {cell} END
    """
    # The cell or the wrapped value may be a tuple.
    return f"regexp_replace({inner}, {literal(_TUPLE)}, '[\\1]')"


def entries_sql(cell: str, separator: str) -> str:
    """SQL for the entries of a trimmed cell that is not a list in brackets."""
    if not separator:
        return f"[{cell}]"
    parts = f"regexp_split_to_array({cell}, '\\s+')" if separator == " " else f"split({cell}, {literal(separator)})"
    return f"list_filter(list_transform({parts}, lambda entry: {trimmed_sql('entry')}), lambda entry: entry <> '')"


def items_sql(cell: str, separator: str) -> str:
    """SQL for the items in a trimmed and :func:`unwrapped_sql` cell, with NULL for missing values."""
    inner = _inner(cell)
    peeled = rf"regexp_replace(entry, {literal(_WHOLE_CALL)}, '\1')"
    unmarked = r"""regexp_replace(entry, '(?s)^[uUbB](["''].*)$', '\1')"""
    unquoted = r"regexp_replace(substr(entry, 2, length(entry) - 2), '\\(.)', '\1', 'g')"
    quoted_list = f"""
        list_transform(list_transform(list_transform(
            regexp_extract_all({inner}, {literal("(?s)" + _ENTRY)}), lambda entry: {peeled}),
            lambda entry: {unmarked}),
            lambda entry: CASE WHEN entry[1] IN ('''', '"') THEN {unquoted} ELSE entry END)
    """
    # NumPy prints the float 17.0 as "17.".
    bare_list = rf"list_transform({_bare_entries(cell)}, lambda entry: regexp_replace({peeled}, '^(\d+)\.$', '\1'))"
    entry = present_id_sql(trimmed_sql("entry"))
    return f"""
        CASE
            WHEN {cell} IS NULL OR {cell} IN ({MISSING}) THEN []::VARCHAR[]
            WHEN NOT regexp_full_match({cell}, {literal(IS_LIST)}) THEN {entries_sql(cell, separator)}
            WHEN {trimmed_sql(inner)} = '' THEN []::VARCHAR[]
            WHEN starts_with({cell}, '[') AND json_valid({cell})
                THEN list_transform(from_json({cell}, '["VARCHAR"]'), lambda entry: {entry})
            WHEN regexp_matches({inner}, '[''"]') THEN list_transform({quoted_list}, lambda entry: {entry})
            ELSE list_transform({bare_list}, lambda entry: {entry})
        END
    """


def _inner(cell: str) -> str:
    return f"substr({cell}, 2, length({cell}) - 2)"


def _bare_entries(cell: str) -> str:
    """SQL for the trimmed entries of a list without quotes, separated by commas or, as in NumPy, by spaces."""
    inner = f"regexp_replace({trimmed_sql(_inner(cell))}, '\\s*,$', '')"
    parts = f"CASE WHEN contains({inner}, ',') THEN split({inner}, ',') ELSE regexp_split_to_array({inner}, '\\s+') END"
    return f"list_transform({parts}, lambda entry: {trimmed_sql('entry')})"


def broken_list_sql(cell: str) -> str:
    """SQL condition of a trimmed cell that contains an incomplete list, or a printed value that is not a list."""
    return f"(regexp_matches({cell}, {literal(_CUT)}) OR regexp_full_match({cell}, {literal(_PRINTED)}))"


def cell_problem_sql(cell: str, separator: str = " ") -> str:
    """SQL for the problem with the format of a trimmed and :func:`unwrapped_sql` cell of items, or NULL.

    Args:
        cell: SQL of the cell.
        separator: Separator of the items in cells without brackets.
    """
    inner, no_list = _inner(cell), "'clicked items are not a list of ids'"
    return f"""
        CASE WHEN {cell} IS NULL OR {cell} IN ({MISSING}) THEN NULL
            WHEN starts_with({cell}, '[') AND json_valid({cell}) THEN
                CASE WHEN regexp_matches({inner}, '^\\s*[\\[{{]') THEN {no_list} END
            WHEN regexp_full_match({cell}, {literal(_PRINTED)}) THEN {no_list}
            WHEN NOT regexp_full_match({cell}, {literal(IS_LIST)}) THEN
                CASE WHEN regexp_matches({cell}, {literal(_CUT)}) THEN 'clicked items are an incomplete list'
                    WHEN {_split_wrongly_sql(entries_sql(cell, separator))}
                    THEN 'clicked items are split wrongly by the separator' END
            WHEN NOT regexp_matches({cell}, '^[\\[{{]') THEN {no_list}
            WHEN regexp_matches({inner}, '"\\s*:') OR (starts_with({cell}, '{{') AND regexp_matches({inner}, ':\\s'))
                THEN {no_list}
            WHEN regexp_matches({inner}, '[''"]') THEN
                CASE WHEN NOT regexp_full_match({inner}, {literal(_ENTRIES)})
                    THEN 'clicked items are a list with unmatched quotation marks'
                    WHEN NOT regexp_full_match({inner}, {literal(_PLAIN_ESCAPES)})
                    THEN 'clicked items are a list with escapes such as \\x, \\u or \\n' END
            WHEN {_split_wrongly_sql(_bare_entries(cell))} THEN {no_list}
            WHEN regexp_full_match({inner}, '[^,\\s]*[|;][^,\\s]*') THEN 'clicked items are a list without commas'
        END
    """


def _split_wrongly_sql(entries: str) -> str:
    """SQL condition of a wrong split: an entry begins with a quotation mark, or has an unmatched bracket.

    An entry that only separates items, such as ``&`` or ``and``, is also a sign of a wrong split.
    """
    between = f"entry NOT IN ({MISSING}, '...', '…') AND regexp_matches(entry, {literal(_BETWEEN)})"
    torn = f"""
        starts_with(entry, '''') OR (regexp_matches(entry, '^[\\[({{][^\\])}}]*$|^[^\\[({{]*[\\])}}]$')
            AND NOT regexp_matches(entry, {literal(_WHOLE_CALL)}))
    """
    return f"""
        (len(list_filter({entries}, lambda entry: {torn})) > 0
            OR (len({entries}) > 1 AND len(list_filter({entries}, lambda entry: {between})) > 0))
    """


def items_problem_sql(items: str, replace_spaces: bool) -> str:
    """SQL for the problem of the first bad id in a list, or NULL."""
    problem = f"""
        CASE WHEN entry IN ('...', '…') THEN 'items are an incomplete list'
            ELSE {item_problem_sql("entry", replace_spaces)} END
    """
    problems = f"list_transform({items}, lambda entry: {problem})"
    return f"'clicked ' || list_filter({problems}, lambda problem: problem IS NOT NULL)[1]"


def clicked_sql(click: str) -> str:
    """SQL condition of a trimmed flag or number of clicks that means a click."""
    return f"""
        ({click} NOT IN ({MISSING}) AND lower({click}) NOT IN ({_NOT_CLICKED})
            AND NOT regexp_full_match({click}, {literal(_ZERO)}))
    """


def click_problem_sql(click: str) -> str:
    """SQL for the problem of a flag or number of clicks, or NULL."""
    return f"""
        CASE WHEN {click} NOT IN ({MISSING}) AND lower({click}) NOT IN ({FLAGS})
            AND NOT regexp_full_match({click}, '\\d+(\\.0*)?') THEN 'click is neither a number nor yes or no' END
    """

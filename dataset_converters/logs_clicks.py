"""The clicked items of a search: lists in a cell, in the ways that programs write them, or a row for each click."""

from __future__ import annotations

import duckdb

from dataset_converters.choices import SEPARATORS
from dataset_converters.logs_text import IS_LIST, MISSING, WRAPPER, item_problem, present, trimmed
from dataset_converters.sql_text import literal
from dataset_converters.workspace import count
from recbole_gserec.errors import SettingError

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
# Single values as NumPy and Python print them inside lists: np.int64(17), Decimal('17.00').
_CALL = r"(?:[A-Za-z_]\w*\.)*(?:u?int\d*|float\d*|str_?|bytes_?|longlong|object_|Decimal|UUID|ObjectId)"
_WHOLE_CALL = rf"(?s)^{_CALL}\(\s*(.*?)\s*\)$"
_BARE = r"""[^,\s'"()\[\]{}][^,\s()\[\]{}]*"""
# Entries of a list that is not JSON: in single quotes, as Python writes, in double ones, or bare.
_ENTRY = rf"""[uUbB]?(?:{_QUOTED})|{_CALL}\(\s*(?:{_QUOTED}|[^\s,'"()]+)\s*\)|{_BARE}"""
_ENTRIES = rf"(?s)\s*(?:{_ENTRY})(?:[\s,]+(?:{_ENTRY}))*[\s,]*"
# Of what Python writes as escapes, only a mark stays itself when the backslash goes.
_PLAIN_ESCAPES = r"(?s)(?:[^\\]|\\[^xuUN0-7abfnrtv])*"
# What else programs print in the place of a list: a generator, a pandas Series, a container of another library.
_CONTAINER = r"[A-Za-z_][\w.]*\(\s*(?:[\[({].*[\])}]\s*(?:,.*)?)?\)|(?:torch\.)?[Tt]ensor\(.*\)"
_PRINTED = rf"(?s)<.*\s.*>|.*\bdtype\b\s*[:=].*|{_CONTAINER}"
# What people write between items, and marks of theirs that stay at an item where spaces separate.
_BETWEEN = r"^[\pP\p{Sm}\p{Sk}]+$|(?i)^(?:and|or)$|^[，、；｜]|[，、；｜]$"
_CUT = r"""^[\[{]|[\]}]$|^\(\s*['"]|['"]\s*,?\s*\)$|^""" + WRAPPER + r"\("
_TUPLE = r"""(?s)^\((.*[,'"].*)\)$"""
_NOTHING_IN_IT = rf"(?:{WRAPPER})?\(\s*\)"
_WRAPPED = rf"(?s)^{WRAPPER}\(\s*([\[{{(].*[\]}})])\s*(?:,(?:\s*\w+\s*=.*)?)?\)$"
_ARRAY = r"(?is)^array\s*(\[.*\])$"
#: SQL list of the flags that say whether something was clicked, in lower case.
FLAGS = ", ".join(map(literal, ("0", "1", "0.0", "1.0", "true", "false", "t", "f", "yes", "no", "y", "n")))
_NOT_CLICKED = ", ".join(map(literal, ("", "false", "f", "no", "n")))
_ZERO = r"0+(\.0*)?"


def named_separator(given: str) -> str:
    """The separator that the user names, or the mark itself; the empty text if each cell is one id.

    Raises:
        SettingError: If nothing is named.
    """
    if not given:
        raise SettingError(f"the separator of clicks is empty. Give one of {', '.join(SEPARATORS)}.")
    return SEPARATORS.get(given, given)


def told_separator(separator: str) -> str:
    """A separator as the command line takes it."""
    return next((name for name, mark in SEPARATORS.items() if mark == separator), separator)


def holds_lists(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether most cells of the column ``item`` that hold something hold a list in brackets."""
    share = connection.execute(
        f"""
        SELECT avg(regexp_full_match(cell, {literal(IS_LIST)})::INTEGER)
        FROM (SELECT {trimmed("item")} AS cell FROM {table}) WHERE cell NOT IN ({MISSING})
        """
    ).fetchall()[0][0]
    return (share or 0) > 0.5


def holds_flags(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether the column ``items`` says no more than whether something was clicked."""
    filled = f"(SELECT lower({trimmed('items')}) AS cell FROM {table}) WHERE cell NOT IN ({MISSING.lower()})"
    others = count(connection, f"SELECT count(*) FROM (SELECT 1 FROM {filled} AND cell NOT IN ({FLAGS}) LIMIT 1)")
    return not others and count(connection, f"SELECT count(*) FROM (SELECT 1 FROM {filled} LIMIT 1)") > 0


def unwrapped(cell: str) -> str:
    """SQL of a trimmed cell of several items, a list in it being in square brackets or braces.

    ``('a', 'b')``, ``set()`` and ``array(['a'], dtype=object)`` become ``['a', 'b']``, ``[]`` and ``['a']``.
    """
    inner = f"""
        CASE WHEN regexp_full_match({cell}, {literal(_NOTHING_IN_IT)}) THEN '[]'
            WHEN regexp_matches({cell}, {literal(_WRAPPED)}) THEN regexp_extract({cell}, {literal(_WRAPPED)}, 1)
            WHEN regexp_matches({cell}, {literal(_ARRAY)}) THEN regexp_extract({cell}, {literal(_ARRAY)}, 1)
            ELSE {cell} END
    """
    # A tuple, alone or in the wrapper.
    return f"regexp_replace({inner}, {literal(_TUPLE)}, '[\\1]')"


def split(cell: str, separator: str) -> str:
    """SQL of the entries of a trimmed cell that is no list in brackets."""
    if not separator:
        return f"[{cell}]"
    parts = f"regexp_split_to_array({cell}, '\\s+')" if separator == " " else f"split({cell}, {literal(separator)})"
    return f"list_filter(list_transform({parts}, lambda entry: {trimmed('entry')}), lambda entry: entry <> '')"


def list_of_cell(cell: str, separator: str) -> str:
    """SQL of the items in a trimmed and :func:`unwrapped` cell; an entry that stands for nothing is NULL."""
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
    # NumPy prints the float 17 as "17.".
    bare_list = rf"list_transform({_bare_entries(cell)}, lambda entry: regexp_replace({peeled}, '^(\d+)\.$', '\1'))"
    entry = present(trimmed("entry"))
    return f"""
        CASE
            WHEN {cell} IS NULL OR {cell} IN ({MISSING}) THEN []::VARCHAR[]
            WHEN NOT regexp_full_match({cell}, {literal(IS_LIST)}) THEN {split(cell, separator)}
            WHEN {trimmed(inner)} = '' THEN []::VARCHAR[]
            WHEN starts_with({cell}, '[') AND json_valid({cell})
                THEN list_transform(from_json({cell}, '["VARCHAR"]'), lambda entry: {entry})
            WHEN regexp_matches({inner}, '[''"]') THEN list_transform({quoted_list}, lambda entry: {entry})
            ELSE list_transform({bare_list}, lambda entry: {entry})
        END
    """


def _inner(cell: str) -> str:
    return f"substr({cell}, 2, length({cell}) - 2)"


def _bare_entries(cell: str) -> str:
    """SQL of the trimmed entries of a list without quotation marks, separated by commas or, as NumPy prints, spaces."""
    inner = f"regexp_replace({trimmed(_inner(cell))}, '\\s*,$', '')"
    parts = f"CASE WHEN contains({inner}, ',') THEN split({inner}, ',') ELSE regexp_split_to_array({inner}, '\\s+') END"
    return f"list_transform({parts}, lambda entry: {trimmed('entry')})"


def is_broken_list(cell: str) -> str:
    """SQL of whether a trimmed cell that is no list in brackets holds one cut short, or what is printed for one."""
    return f"(regexp_matches({cell}, {literal(_CUT)}) OR regexp_full_match({cell}, {literal(_PRINTED)}))"


def cell_problem(cell: str, separator: str = " ") -> str:
    """SQL of what is wrong with the form of a trimmed and :func:`unwrapped` cell of several items; NULL if nothing is.

    Args:
        cell: The cell.
        separator: Of the items in a cell that is no list in brackets.
    """
    inner, no_list = _inner(cell), "'clicked items are no list of ids'"
    return f"""
        CASE WHEN {cell} IS NULL OR {cell} IN ({MISSING}) THEN NULL
            WHEN starts_with({cell}, '[') AND json_valid({cell}) THEN
                CASE WHEN regexp_matches({inner}, '^\\s*[\\[{{]') THEN {no_list} END
            WHEN regexp_full_match({cell}, {literal(_PRINTED)}) THEN {no_list}
            WHEN NOT regexp_full_match({cell}, {literal(IS_LIST)}) THEN
                CASE WHEN regexp_matches({cell}, {literal(_CUT)}) THEN 'clicked items are a list cut short'
                    WHEN {_any_torn(split(cell, separator))} THEN 'clicked items are torn apart by their separator' END
            WHEN NOT regexp_matches({cell}, '^[\\[{{]') THEN {no_list}
            WHEN regexp_matches({inner}, '"\\s*:') OR (starts_with({cell}, '{{') AND regexp_matches({inner}, ':\\s'))
                THEN {no_list}
            WHEN regexp_matches({inner}, '[''"]') THEN
                CASE WHEN NOT regexp_full_match({inner}, {literal(_ENTRIES)})
                    THEN 'clicked items are a list whose quotation marks do not fit together'
                    WHEN NOT regexp_full_match({inner}, {literal(_PLAIN_ESCAPES)})
                    THEN 'clicked items are a list with escapes such as \\x, \\u or \\n' END
            WHEN {_any_torn(_bare_entries(cell))} THEN {no_list}
            WHEN regexp_full_match({inner}, '[^,\\s]*[|;][^,\\s]*') THEN 'clicked items are a list without commas'
        END
    """


def _any_torn(entries: str) -> str:
    """SQL of whether an entry begins with a quotation mark, or holds only one of a pair of brackets.

    Among several, one that stands between items, such as ``&`` or ``and``, shows that they are torn, too.
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


def items_problem(items: str, replace_spaces: bool) -> str:
    """SQL of what is wrong with the first bad id of a list; NULL if nothing is."""
    problem = f"""
        CASE WHEN entry IN ('...', '…') THEN 'items are a list cut short'
            ELSE {item_problem("entry", replace_spaces)} END
    """
    problems = f"list_transform({items}, lambda entry: {problem})"
    return f"'clicked ' || list_filter({problems}, lambda problem: problem IS NOT NULL)[1]"


def clicked(click: str) -> str:
    """SQL of whether a trimmed flag or number of clicks says that something was clicked."""
    return f"""
        ({click} NOT IN ({MISSING}) AND lower({click}) NOT IN ({_NOT_CLICKED})
            AND NOT regexp_full_match({click}, {literal(_ZERO)}))
    """


def click_problem(click: str) -> str:
    """SQL of what is wrong with a flag or number of clicks; NULL if nothing is."""
    return f"""
        CASE WHEN {click} NOT IN ({MISSING}) AND lower({click}) NOT IN ({FLAGS})
            AND NOT regexp_full_match({click}, '\\d+(\\.0*)?') THEN 'click is no number and no yes or no' END
    """

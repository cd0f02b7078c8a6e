"""The clicked items of a search: lists in a cell, in the ways that programs write them, or a row for each click."""

from __future__ import annotations

from pathlib import Path

import duckdb

from dataset_converters.logs_text import MISSING, item_problem, present, trimmed
from dataset_converters.sql_text import literal
from dataset_converters.workspace import count
from recbole_gserec.errors import DataError, SettingError

SEPARATORS = {"comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
# Entries of a list that is not JSON: in single quotes, as Python writes, in double ones, or bare.
_ENTRY = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,\s'"][^,\s]*"""
_ENTRIES = rf"\s*({_ENTRY})([\s,]+({_ENTRY}))*[\s,]*"
_IS_LIST = r"(?s)\[.*\]|\{.*\}"
_FLAGS = ("0", "1", "0.0", "1.0", "true", "false", "t", "f", "yes", "no", "y", "n")
_NOT_CLICKED = ", ".join(map(literal, ("", "0", "0.0", "false", "f", "no", "n")))


def separator_of(connection: duckdb.DuckDBPyConnection, table: str, path: Path, given: str | None) -> str:
    """What separates the items in the cells of a table that are no lists in brackets.

    Args:
        connection: Of the workspace.
        table: Has the text column ``items``.
        path: The file, for messages.
        given: A name or the separator itself, if the user says it.

    Raises:
        DataError: If the cells hold several separators.
    """
    if given is not None:
        if not given:
            raise SettingError(f"the separator of clicks is empty. Give one of {', '.join(SEPARATORS)}.")
        return SEPARATORS.get(given, given)
    marks = [mark for mark in SEPARATORS.values() if mark != " "]
    counts = ", ".join(f"count(*) FILTER (contains(items, {literal(mark)}))" for mark in marks)
    numbers = connection.execute(
        f"SELECT {counts} FROM {table} WHERE NOT regexp_full_match(trim(items), {literal(_IS_LIST)})"
    ).fetchall()[0]
    found = {mark: number for mark, number in zip(marks, numbers, strict=True) if number}
    if len(found) > 1:
        told = " and ".join(f"'{mark}' in {number:,} rows" for mark, number in found.items())
        raise DataError(path, f"clicked items could be separated by {told}", "Say by which: --click-separator.")
    return next(iter(found), " ")


def holds_lists(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether most cells of the column ``item`` that hold something hold a list in square brackets."""
    share = connection.execute(
        f"""
        SELECT avg((starts_with(cell, '[') AND ends_with(cell, ']'))::INTEGER)
        FROM (SELECT {trimmed("item")} AS cell FROM {table}) WHERE cell NOT IN ({MISSING})
        """
    ).fetchall()[0][0]
    return (share or 0) > 0.5


def holds_flags(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether the column ``items`` says no more than whether something was clicked."""
    flags = ", ".join(map(literal, _FLAGS))
    filled = f"(SELECT lower({trimmed('items')}) AS cell FROM {table}) WHERE cell NOT IN ({MISSING.lower()})"
    others = count(connection, f"SELECT count(*) FROM (SELECT 1 FROM {filled} AND cell NOT IN ({flags}) LIMIT 1)")
    return not others and count(connection, f"SELECT count(*) FROM (SELECT 1 FROM {filled} LIMIT 1)") > 0


def list_of_cell(cell: str, separator: str) -> str:
    """SQL of the items in a trimmed cell; an entry of a list that stands for nothing is NULL."""
    split = f"regexp_split_to_array({cell}, '\\s+')" if separator == " " else f"split({cell}, {literal(separator)})"
    inner = f"substr({cell}, 2, length({cell}) - 2)"
    unquoted = r"regexp_replace(substr(entry, 2, length(entry) - 2), '\\(.)', '\1', 'g')"
    quoted_list = f"""
        list_transform(regexp_extract_all({inner}, {literal(_ENTRY)}),
            lambda entry: CASE WHEN entry[1] IN ('''', '"') THEN {unquoted} ELSE entry END)
    """
    bare_list = (
        f"CASE WHEN contains({inner}, ',') THEN split({inner}, ',') ELSE regexp_split_to_array({inner}, '\\s+') END"
    )
    entry = present(trimmed("entry"))
    return f"""
        CASE
            WHEN {cell} IS NULL OR {cell} IN ({MISSING}) THEN []::VARCHAR[]
            WHEN NOT regexp_full_match({cell}, {literal(_IS_LIST)})
                THEN list_filter(list_transform({split}, lambda entry: {trimmed("entry")}), lambda entry: entry <> '')
            WHEN {trimmed(inner)} = '' THEN []::VARCHAR[]
            WHEN starts_with({cell}, '[') AND json_valid({cell})
                THEN list_transform(from_json({cell}, '["VARCHAR"]'), lambda entry: {entry})
            WHEN regexp_matches({inner}, '[''"]') THEN list_transform({quoted_list}, lambda entry: {entry})
            ELSE list_transform({bare_list}, lambda entry: {entry})
        END
    """


def cell_problem(cell: str) -> str:
    """SQL of what is wrong with the form of a trimmed cell of several items; NULL if nothing is."""
    inner = f"substr({cell}, 2, length({cell}) - 2)"
    return f"""
        CASE WHEN NOT regexp_full_match({cell}, {literal(_IS_LIST)}) THEN
                CASE WHEN regexp_matches({cell}, '^[\\[{{]|[\\]}}]$') THEN 'clicked items are a list cut short' END
            WHEN starts_with({cell}, '[') AND json_valid({cell}) THEN
                CASE WHEN regexp_matches({inner}, '^\\s*[\\[{{]') THEN 'clicked items are no list of ids' END
            WHEN regexp_matches({inner}, '"\\s*:') THEN 'clicked items are no list of ids'
            WHEN regexp_matches({inner}, '[''"]') AND NOT regexp_full_match({inner}, {literal(_ENTRIES)})
                THEN 'clicked items are a list whose quotation marks do not fit together'
        END
    """


def items_problem(items: str, replace_spaces: bool) -> str:
    """SQL of what is wrong with the first bad id of a list; NULL if nothing is."""
    problems = f"list_transform({items}, lambda entry: {item_problem('entry', replace_spaces)})"
    return f"'clicked ' || list_filter({problems}, lambda problem: problem IS NOT NULL)[1]"


def clicked(click: str) -> str:
    """SQL of whether a trimmed flag or number of clicks says that something was clicked."""
    return f"({click} NOT IN ({MISSING}) AND lower({click}) NOT IN ({_NOT_CLICKED}))"


def click_problem(click: str) -> str:
    """SQL of what is wrong with a flag or number of clicks; NULL if nothing is."""
    flags = ", ".join(map(literal, _FLAGS))
    return f"""
        CASE WHEN {click} NOT IN ({MISSING}) AND lower({click}) NOT IN ({flags})
            AND NOT regexp_full_match({click}, '\\d+(\\.0*)?') THEN 'click is no number and no yes or no' END
    """

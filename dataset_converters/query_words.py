"""Splitting of queries into words, for English, Chinese and mixed texts."""

import re
import unicodedata
from collections.abc import Iterable

import duckdb
import pyarrow as pa
import rjieba

from dataset_converters.choices import WORDS
from recbole_gserec.errors import SettingError

_ROWS_AT_ONCE = 65536
# Vowel signs and accents, which Python does not treat as letters. The range excludes the variation selectors of emoji.
_MARKS = "".join(mark for mark in map(chr, range(0x300, 0xFE00)) if unicodedata.category(mark) in ("Mn", "Mc"))
_RUN = rf"[^\W_](?:[^\W_]|[{_MARKS}])*"
_WORD = re.compile(rf"{_RUN}(?:'{_RUN})*")
_CHINESE = re.compile(r"[\u3005-\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


def words_of_texts(texts: Iterable[str], kind: str = "text") -> list[str]:
    """Split texts into words and join the words of each text by spaces.

    Args:
        texts: ``[n]`` queries as users typed them.
        kind: How to split. ``text`` takes runs of letters, digits and inner apostrophes in lower case, and splits
            Chinese runs into dictionary words (jieba's algorithm). ``spaces`` only splits at white space, for queries
            that already are words or word ids.

    Returns:
        ``[n]`` strings, empty for texts without words.

    Raises:
        SettingError: If the kind is unknown.
    """
    if kind not in WORDS:
        raise SettingError(f"words must be {' or '.join(WORDS)}, not '{kind}'.")
    split = str.split if kind == "spaces" else _words
    return [" ".join(split(text)) for text in texts]


def split_queries(connection: duckdb.DuckDBPyConnection, table: str, kind: str) -> None:
    """Add the new queries of a table to ``query_texts`` (``query, words``).

    Args:
        connection: Connection to the workspace.
        table: Table with the column ``query``. A missing query counts as the empty text.
        kind: As for :func:`words_of_texts`, the same in every call.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS query_texts (query VARCHAR, words VARCHAR)")
    connection.execute(
        f"""
        CREATE TABLE new_queries AS
        SELECT DISTINCT coalesce(query, '') AS query FROM {table} ANTI JOIN query_texts
            ON coalesce({table}.query, '') = query_texts.query
        """
    )
    texts = connection.cursor().sql("FROM new_queries")
    for batch in texts.to_arrow_reader(_ROWS_AT_ONCE):
        query = batch.column(0)
        words = pa.array(words_of_texts(query.to_pylist(), kind), pa.string())
        connection.register("split", pa.table({"query": query, "words": words}))
        connection.execute("INSERT INTO query_texts SELECT query, words FROM split")
        connection.unregister("split")
    connection.execute("DROP TABLE new_queries")


def _words(text: str) -> list[str]:
    # First normalize full-width letters and other compatibility forms, and use one kind of apostrophe.
    found = _WORD.findall(unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'"))
    return [word for run in found for word in (_split_chinese(run) if _CHINESE.search(run) else (run,))]


def _split_chinese(run: str) -> list[str]:
    """Split a run of letters that contains Chinese: ``iphone手机壳`` into ``iphone``, ``手机``, ``壳``."""
    words, end = [], 0
    for chinese in _CHINESE.finditer(run):
        words += [run[end : chinese.start()], *rjieba.cut(chinese.group())]
        end = chinese.end()
    parts = (part.strip("'") for part in [*words, run[end:]])
    return [part for part in parts if part]

"""Logs written in every format, and what is read of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_converters import bad_rows
from dataset_converters.logs import steps
from dataset_converters.logs.log_settings import LogSettings, inspect_logs

FORMATS = ("csv", "tsv", "csv.gz", "csv.zst", "jsonl", "jsonl.gz", "parquet")
INTERACTIONS = ("user_id", "item_id", "timestamp")
SEARCHES = ("user_id", "query", "timestamp", "clicked_items")


def written(path: Path, names: Sequence[str], rows: Sequence[Sequence], *, newline: str = "\n") -> Path:
    """Write rows in the format that the path's name says."""
    kind = path.name.split(".", 1)[1]
    if kind == "parquet":
        pq.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}), path)
        return path
    if kind.startswith("jsonl"):
        text = "".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + newline for row in rows)
    else:
        buffer = io.StringIO(newline="")
        # Line breaks in cells are kept by quoting everything.
        quoting = csv.QUOTE_ALL if any("\r" in str(cell) for row in rows for cell in row) else csv.QUOTE_MINIMAL
        delimiter = "\t" if kind.startswith("tsv") else ","
        writer = csv.writer(buffer, lineterminator=newline, quoting=quoting, delimiter=delimiter)
        writer.writerow(names)
        writer.writerows([json.dumps(cell) if isinstance(cell, list) else cell for cell in row] for row in rows)
        text = buffer.getvalue()
    data = text.encode("utf-8")
    if kind.endswith("gz"):
        data = gzip.compress(data)
    if kind.endswith("zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(data)
    else:
        path.write_bytes(data)
    return path


class Read:
    """What is read from some logs: every good row, every kind of bad row, and the interpretations."""

    def __init__(self, interactions: Path, searches: Path, items: Path | None = None, **settings: object):
        self.settings = LogSettings(**settings)
        self.logs = inspect_logs(interactions, searches, items, self.settings)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            self.interpretations = {
                log.role: log
                for log in steps.read_logs(
                    connection, self.logs, self.settings, lambda table, _: bad_rows.remove_bad_rows(connection, table)
                )
            }
            self.warnings = steps.check_logs(connection, self.logs, list(self.interpretations.values()), self.settings)
            self.lines = {
                role: [
                    line
                    for (line,) in connection.execute(f"SELECT line FROM read_{role} ORDER BY source_row").fetchall()
                ]
                for role in self.interpretations
            }
            steps.fill_tables(connection, list(self.interpretations.values()), self.settings)
            self.interactions = connection.execute(
                "SELECT user, item, time FROM interactions ORDER BY source_row"
            ).fetchall()
            self.searches = connection.execute(
                "SELECT user, query, time, items FROM searches ORDER BY source_row"
            ).fetchall()
            self.items = connection.execute("SELECT * FROM items").fetchall()

    def bad(self, role: str = "interactions") -> dict[str, int]:
        """How many rows have each problem."""
        return {bad.problem: bad.rows for bad in self.interpretations[role].bad_rows}

    def bad_lines(self, role: str = "interactions") -> list[int]:
        """The lines of the bad rows that are named."""
        return sorted(line for bad in self.interpretations[role].bad_rows for line in bad.lines)

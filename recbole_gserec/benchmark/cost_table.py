"""The costs of models as Markdown tables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from recbole_gserec import escaping
from recbole_gserec.benchmark.legend import note_mark
from recbole_gserec.benchmark.model_names import printed_name
from recbole_gserec.markdown_table import NO_VALUE, markdown_table

# Columns of the frame, their headings, and how to format numbers.
_COLUMNS = (
    ("parameters", "parameters", ",.0f"),
    ("seconds_per_epoch", "s/epoch", ",.2f"),
    ("cpu_seconds_per_epoch", "CPU s/epoch", ",.2f"),
    ("epochs_to_best", "best epoch", ".4g"),
    ("total_seconds", "total s", ",.0f"),
    ("samples_per_second", "samples/s", ",.0f"),
    ("peak_memory_mib", "memory MiB", ",.0f"),
    ("peak_gpu_memory_mib", "GPU MiB", ",.0f"),
    ("at_once", "at once", ".0f"),
)

HOW_TO_READ = (
    "Seconds per epoch: only training, the median over all epochs of all seeds. CPU seconds add up over all "
    "threads, and other programs affect them less. Samples are training rows. The best epoch counts "
    "from 1. Total includes data, validation and test. Other numbers are the median over seeds; memory is the largest: "
    "of the process, and of its tensors on the GPU. At once: how many runs the machine made at the same time, "
    "which slows each."
)


def markdown(frame: pd.DataFrame) -> str:
    """Write one table for each dataset, from the frame of :func:`costs.costs_frame`.

    Times from a machine other than the most frequent one are marked.
    """
    parts = []
    for dataset, rows in frame.groupby("dataset", sort=False):
        records = rows.to_dict("records")
        usual = next((row["machine"] for row in records if row["comparable"] is True), None)
        others = [name for name in dict.fromkeys(row["machine"] for row in records) if name and name != usual]
        marks = {name: f"<sup>{note_mark(index)}</sup>" for index, name in enumerate(others)}
        table = [["model", *(head for _, head, _ in _COLUMNS)]]
        table += [[printed_name(row["model"]) + marks.get(row["machine"], ""), *_cells(row)] for row in records]
        parts += [f"### {escaping.markdown(str(dataset))}", markdown_table(table)]
        if usual:
            parts.append(escaping.markdown(f"Made with {usual}."))
        parts += [
            f"{mark} {escaping.markdown(f'Times are not comparable with the others: made with {name}.')}"
            for name, mark in marks.items()
        ]
    return "\n\n".join([*parts, HOW_TO_READ]) + "\n"


def _cells(row: Mapping[Hashable, Any]) -> list[str]:
    return [NO_VALUE if pd.isna(row[name]) else f"{row[name]:{form}}" for name, _, form in _COLUMNS]

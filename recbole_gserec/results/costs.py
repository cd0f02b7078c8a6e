"""What each model cost: parameters, time and memory, also as a Markdown table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

import pandas as pd

from recbole_gserec.report import NO_VALUE, escape_markdown, markdown_table, plural
from recbole_gserec.results.load import ModelRuns, StoredRun
from recbole_gserec.results.tables import note_mark
from recbole_gserec.runs import started_at
from recbole_gserec.settings import printed_name

_MIB = 1 << 20


class Machine(NamedTuple):
    """The machine of a run. Times from different machines are not compared."""

    cpu: str
    cores: str
    memory: str
    device: str
    threads: int

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Machine:
        """Return the machine of a finished run."""
        machine = record["machine"]
        memory = machine.get("memory_bytes")
        # Rounded to GiB: the reported memory differs slightly after every boot.
        gib = f"{memory / 2**30:.0f} GiB" if isinstance(memory, int) else "?"
        return cls(
            str(machine.get("cpu")), str(machine.get("cores", "?")), gib, record["device"], int(record["threads"])
        )

    def __str__(self) -> str:
        threads = f"{self.threads} {plural('thread', self.threads)}"
        return f"{self.device}, {threads}, {self.cpu}, {self.cores} cores, {self.memory}"


def costs_frame(cells: Iterable[ModelRuns], runs: Sequence[StoredRun]) -> pd.DataFrame:
    """Make one row for each model on each dataset, including those without a finished run.

    Seconds per epoch are the median over all epochs of all seeds. Memory is the largest value over seeds, and other
    numbers are the median over seeds. ``comparable`` says whether the runs used the machine of most runs on this
    dataset.

    Args:
        cells: All models on all datasets.
        runs: All stored runs. ``at_once`` counts the runs that were made at the same time, which slows each of them.
    """
    cells = list(cells)
    machines: dict[str, Counter[Machine]] = {}
    for cell in cells:
        machines.setdefault(cell.dataset, Counter()).update(
            Machine.from_record(run.record) for run in cell.finished.values()
        )
    names = [{"dataset": cell.dataset, "model": cell.model} for cell in cells]
    rows = [_row(cell, machines[cell.dataset], runs) for cell in cells]
    return pd.DataFrame([name | row for name, row in zip(names, rows, strict=True)])


def _row(cell: ModelRuns, machines: Counter[Machine], runs: Sequence[StoredRun]) -> dict[str, Any]:
    finished = list(cell.finished.values())
    # The most frequent machine; the first by name among equally frequent ones.
    usual = min(machines, key=lambda machine: (-machines[machine], machine)) if machines else None
    # If one model's runs used several machines, count those on the usual machine, or else on the first by name.
    groups: dict[Machine, list[StoredRun]] = {}
    for run in finished:
        groups.setdefault(Machine.from_record(run.record), []).append(run)
    machine = usual if usual in groups else min(groups, default=None)
    chosen = groups[machine] if machine else []
    records = [run.record for run in chosen]
    epoch, cpu_epoch = (
        _median(each for record in records for each in record["epochs"][name]) for name in ("seconds", "cpu_seconds")
    )
    samples = _median(record["samples_per_epoch"] for record in records)
    return {
        "parameters": _median(record["parameters"] for record in records),
        "seconds_per_epoch": epoch,
        "cpu_seconds_per_epoch": cpu_epoch,
        "epochs_to_best": _median(record["epochs"]["best"] + 1 for record in records),
        "total_seconds": _median(record["wall_seconds"] for record in records),
        "samples_per_second": samples / epoch if epoch and samples is not None else None,
        "peak_memory_mib": _largest(record["peak_memory_bytes"] for record in records),
        "peak_gpu_memory_mib": _largest(record.get("peak_gpu_memory_bytes") for record in records),
        "at_once": max((_at_once(run, runs) for run in chosen), default=None),
        "flops": _median(record["flops"] for record in records if record.get("flops") is not None),
        "n_runs": len(records),
        "device": machine.device if machine else None,
        "threads": machine.threads if machine else None,
        "machine": str(machine) if machine else "",
        "comparable": machine == usual if machine else None,
    }


def _median(values: Iterable[float]) -> float | None:
    values = list(values)
    return median(values) if values else None


def _largest(values: Iterable[int | None]) -> float | None:
    return max((value / _MIB for value in values if value is not None), default=None)


def _at_once(run: StoredRun, runs: Sequence[StoredRun]) -> int:
    """Return the largest number of runs made at one time on this machine during the run, including the run itself."""
    start, end = _span(run.record)
    spans = [
        _span(other.record)
        for other in runs
        if other.record and other.record.get("machine") == run.record["machine"] and _lasted(other.record)
    ]
    # The number grows only when a run starts.
    moments = [start, *(began for began, _ in spans if start <= began < end)]
    return max(1, *(sum(began <= moment < ended for began, ended in spans) for moment in moments))


def _lasted(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("wall_seconds"), int | float) and math.isfinite(record["wall_seconds"])


def _span(record: Mapping[str, Any]) -> tuple[datetime, datetime]:
    start, seconds = started_at(record), record["wall_seconds"]
    # The start is stored in whole seconds, and may be up to one second later.
    return start + timedelta(seconds=min(1, seconds)), start + timedelta(seconds=seconds)


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
        parts += [f"### {escape_markdown(str(dataset))}", markdown_table(table)]
        if usual:
            parts.append(escape_markdown(f"Made with {usual}."))
        parts += [
            f"{mark} {escape_markdown(f'Times are not comparable with the others: made with {name}.')}"
            for name, mark in marks.items()
        ]
    return "\n\n".join([*parts, HOW_TO_READ]) + "\n"


def _cells(row: Mapping[Hashable, Any]) -> list[str]:
    return [NO_VALUE if pd.isna(row[name]) else f"{row[name]:{form}}" for name, _, form in _COLUMNS]

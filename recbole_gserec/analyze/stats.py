"""Writes the statistics of a dataset to files (Table 1 and Figure 1 of GSERec)."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from dataset_converters.statistics import Statistics
from dataset_converters.statistics_report import write_report
from recbole_gserec.files import scratch_folder
from recbole_gserec.report_files import write_csv


def write_statistics(folder: Path, dataset: str, statistics: Statistics) -> Path:
    """Write ``<dataset>.statistics.json``, ``.md``, ``.png``, ``.pdf`` and ``.csv`` (Figure 1); return the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder, dataset) as aside:
        write_report(aside, dataset, statistics)
        for path in sorted(aside.iterdir()):
            os.replace(path, folder / path.name)
    write_csv(folder / f"{dataset}.statistics.csv", pd.DataFrame(statistics.users_by_searches))
    return folder / f"{dataset}.statistics.md"

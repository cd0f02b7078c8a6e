"""``gserec analyze stats``: what a dataset holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recbole_gserec.cli.options import DataPath
from recbole_gserec.errors import SettingError
from recbole_gserec.interruptions import while_importing


def stats(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.")],
    groups: Annotated[
        str, typer.Option(help="The most searches of the users of each group, ascending; one more has those with more.")
    ] = "0,5,10,20,50",
    data_path: DataPath = Path("dataset"),
    memory: Annotated[str, typer.Option(help="Limit of memory.")] = "2GB",
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the result.")] = Path("analyze/stats"),
) -> None:
    """Count a dataset: its row of Table 1, and its users by number of searches (Figure 1)."""
    borders = _borders(groups)
    with while_importing():
        from dataset_converters.statistics_folder import collect_from_folder
        from dataset_converters.statistics_report import print_report
        from recbole_gserec.analyze.stats import write_statistics
        from recbole_gserec.data.dataset_paths import check_dataset
        from recbole_gserec.settings import check_dataset_name

    check_dataset_name(dataset)
    check_dataset(data_path, dataset)
    found = collect_from_folder(data_path / dataset, borders, memory=memory)
    print_report(dataset, found)
    typer.echo(write_statistics(output, dataset, found))


def _borders(text: str) -> list[int]:
    try:
        borders = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(f"--groups is '{text}'; it takes whole numbers, separated by commas") from error
    if borders[0] < 0 or any(low >= high for low, high in zip(borders, borders[1:], strict=False)):
        raise SettingError(f"--groups is '{text}'; its numbers ascend from 0 or more")
    return borders

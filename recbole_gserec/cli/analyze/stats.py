"""``gserec analyze stats``: statistics of a dataset."""

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
        str,
        typer.Option(help="Upper bounds of the user groups by number of searches; users above form one more group."),
    ] = "0,5,10,20,50",
    data_path: DataPath = Path("dataset"),
    memory: Annotated[str, typer.Option(help="Memory limit of the database.")] = "2GB",
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder for the result.")] = Path("analyze/stats"),
) -> None:
    """Compute a dataset's statistics: its row of Table 1 and its users by number of searches (Figure 1)."""
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
        raise SettingError(
            f"--groups '{text}' is not a list of whole numbers. Separate them by commas: 0,5,10"
        ) from error
    if borders[0] < 0 or any(low >= high for low, high in zip(borders, borders[1:], strict=False)):
        raise SettingError(f"--groups '{text}' must be ascending numbers of at least 0")
    return borders

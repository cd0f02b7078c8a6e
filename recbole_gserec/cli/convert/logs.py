"""``gserec convert logs``: anybody's own logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataset_converters.choices import LOGS, MEANINGS, SEPARATORS, UNITS, Options
from dataset_converters.logs_text import NO_QUERY
from recbole_gserec.cli.convert.options import OutputFolder, with_options
from recbole_gserec.errors import SettingError
from recbole_gserec.interruptions import while_importing

_COLUMNS, _FORM = "What the columns are", "How the files are written"


def _option(help_text: str, panel: str | None = None) -> object:
    return typer.Option(help=help_text, rich_help_panel=panel)


def _like(role: str, example: str) -> str:
    joined = "" if role == "items" else " Day and clock in two columns: time=DAY+CLOCK."
    return f"Columns of {role}, like {example}. Meanings: {', '.join(MEANINGS[role])}.{joined}"


@with_options()
def logs(
    *,
    interactions: Annotated[
        str | None, _option("File of interactions: CSV, Parquet or JSON Lines; or a folder or pattern of parts.")
    ] = None,
    searches: Annotated[str | None, _option("File of searches, likewise.")] = None,
    items: Annotated[str | None, _option("File of items with their texts, likewise.")] = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="Folder with interactions.*, searches.* and, if there is one, items.*."),
    ] = None,
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, _option("Name of the new dataset.")] = LOGS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what is understood and write nothing.")] = False,
    interaction_columns: Annotated[
        str | None, _option(_like("interactions", "user=customer_id,item=sku,time=ts"), _COLUMNS)
    ] = None,
    search_columns: Annotated[
        str | None, _option(_like("searches", "user=customer_id,query=text,time=ts,items=clicked"), _COLUMNS)
    ] = None,
    item_columns: Annotated[str | None, _option(_like("items", "item=sku,title=name"), _COLUMNS)] = None,
    columns: Annotated[
        Path | None, _option("YAML file that names columns: for each file, lines like 'user: customer_id'.", _COLUMNS)
    ] = None,
    time_unit: Annotated[
        str | None,
        _option(f"Of numbers in times: {', '.join(UNITS)}; found in each file, but for those beside a day.", _FORM),
    ] = None,
    time_format: Annotated[
        str | None, _option("Of dates not in ISO 8601, as for strptime: '%d/%m/%Y %H:%M'.", _FORM)
    ] = None,
    time_zone: Annotated[str, _option("Of dates that name none, like Europe/Berlin.", _FORM)] = "UTC",
    allow_disjoint_times: Annotated[
        bool, typer.Option("--allow-disjoint-times", help="Accept logs without a common time.", rich_help_panel=_FORM)
    ] = False,
    replace_spaces: Annotated[
        bool, typer.Option("--replace-spaces", help="Turn white space in item ids into '_'.", rich_help_panel=_FORM)
    ] = False,
    click_separator: Annotated[
        str | None, _option(f"Between clicked items in a cell: {', '.join(SEPARATORS)} or the mark itself.", _FORM)
    ] = None,
    no_query: Annotated[
        str,
        _option("Texts, separated by commas, that stand for no query, in any case; '' if none does.", _FORM),
    ] = ",".join(NO_QUERY),
    encoding: Annotated[str, _option("Of texts.", _FORM)] = "utf-8",
    delimiter: Annotated[str | None, _option(r"Between cells of separated text; '\t' is a tab.", _FORM)] = None,
    quote: Annotated[str | None, _option("Around cells of separated text; 'none' if there is none.", _FORM)] = None,
    options: Options,
) -> None:
    """Your own logs of interactions and searches, as CSV, Parquet or JSON Lines.

    What columns mean, how cells are separated and which unit times are in is found in the files unless it is said.
    """
    with while_importing():
        from dataset_converters.logs import convert_logs, explain_logs
        from dataset_converters.logs_columns import read_file, read_option
        from dataset_converters.logs_settings import LogSettings

    logs = (_needed("interactions", interactions, input_), _needed("searches", searches, input_))
    of_items = _place("items", items, input_)
    named = {"interactions": interaction_columns, "searches": search_columns, "items": item_columns}
    in_file = read_file(columns) if columns is not None else {}
    settings = LogSettings(
        columns={role: in_file.get(role, {}) | read_option(role, text) for role, text in named.items()},
        encoding=encoding,
        delimiter=delimiter,
        quote=quote,
        click_separator=click_separator,
        time_unit=time_unit,
        time_format=time_format,
        time_zone=time_zone,
        no_query=tuple(filter(None, map(str.strip, no_query.split(",")))),
        replace_spaces=replace_spaces,
        allow_disjoint_times=allow_disjoint_times,
    )
    if dry_run:
        folder = output if output.is_dir() else None
        typer.echo(explain_logs(*logs, of_items, settings=settings, options=options, folder=folder))
    else:
        typer.echo(convert_logs(output, name, *logs, of_items, settings=settings, options=options))


def _place(role: str, given: str | None, folder: Path | None) -> str | Path | None:
    """Where a log is: where it is said to be, or in the folder."""
    from dataset_converters.logs_files import find_in_folder

    return given or (find_in_folder(folder, role) if folder else None)


def _needed(role: str, given: str | None, folder: Path | None) -> str | Path:
    place = _place(role, given, folder)
    if place is None:
        where = f"there is no {role}.* in {folder}" if folder else f"no {role} are given"
        raise SettingError(f"{where}. Give --{role} FILE.")
    return place

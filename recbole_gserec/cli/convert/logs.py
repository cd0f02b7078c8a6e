"""``gserec convert logs``: your own logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataset_converters.choices import LOGS, MEANINGS, SEPARATORS, UNITS, Options
from dataset_converters.logs_text import NO_QUERY
from recbole_gserec.cli.convert.options import OutputFolder, with_options
from recbole_gserec.errors import SettingError
from recbole_gserec.interruptions import while_importing

_COLUMNS, _FORM = "Columns", "File format"


def _option(help_text: str, panel: str | None = None) -> object:
    return typer.Option(help=help_text, rich_help_panel=panel)


def _like(role: str, example: str) -> str:
    joined = "" if role == "items" else " If date and time of day are two columns: time=DAY+CLOCK."
    return f"Columns of the {role}, like {example}. Meanings: {', '.join(MEANINGS[role])}.{joined}"


@with_options()
def logs(
    *,
    interactions: Annotated[
        str | None, _option("Interactions: a CSV, Parquet or JSON Lines file, or a folder or pattern of several files.")
    ] = None,
    searches: Annotated[str | None, _option("Searches, in the same forms.")] = None,
    items: Annotated[str | None, _option("Items with their texts, in the same forms.")] = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="Folder with interactions.*, searches.* and optionally items.*."),
    ] = None,
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, _option("Name of the new dataset.")] = LOGS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report how the files are understood; write nothing.")
    ] = False,
    interaction_columns: Annotated[
        str | None, _option(_like("interactions", "user=customer_id,item=sku,time=ts"), _COLUMNS)
    ] = None,
    search_columns: Annotated[
        str | None, _option(_like("searches", "user=customer_id,query=text,time=ts,items=clicked"), _COLUMNS)
    ] = None,
    item_columns: Annotated[str | None, _option(_like("items", "item=sku,title=name"), _COLUMNS)] = None,
    columns: Annotated[
        Path | None, _option("YAML file with the columns of each log, in lines like 'user: customer_id'.", _COLUMNS)
    ] = None,
    time_unit: Annotated[
        str | None,
        _option(f"Unit of numeric times: {', '.join(UNITS)}; detected, except for numbers beside a day.", _FORM),
    ] = None,
    time_format: Annotated[
        str | None, _option("Format of dates that are not ISO 8601, as for strptime: '%d/%m/%Y %H:%M'.", _FORM)
    ] = None,
    time_zone: Annotated[str, _option("Time zone of dates without one, like Europe/Berlin.", _FORM)] = "UTC",
    allow_disjoint_times: Annotated[
        bool,
        typer.Option("--allow-disjoint-times", help="Accept logs that do not overlap in time.", rich_help_panel=_FORM),
    ] = False,
    replace_spaces: Annotated[
        bool, typer.Option("--replace-spaces", help="Replace white space in item ids by '_'.", rich_help_panel=_FORM)
    ] = False,
    click_separator: Annotated[
        str | None,
        _option(f"Separator of the clicked items in a cell: {', '.join(SEPARATORS)} or the character itself.", _FORM),
    ] = None,
    no_query: Annotated[
        str,
        _option("Texts that mean 'no query', separated by commas, upper or lower case; '' for none.", _FORM),
    ] = ",".join(NO_QUERY),
    encoding: Annotated[str, _option("Encoding of text files.", _FORM)] = "utf-8",
    delimiter: Annotated[str | None, _option(r"Delimiter of the cells in CSV files; '\t' is a tab.", _FORM)] = None,
    quote: Annotated[
        str | None, _option("Quotation mark around cells in CSV files; 'none' for no mark.", _FORM)
    ] = None,
    options: Options,
) -> None:
    """Convert your own logs of interactions and searches: CSV, Parquet or JSON Lines.

    By default, the meaning of the columns, the delimiters and the time units are detected from the files.
    """
    with while_importing():
        from dataset_converters.logs import convert_logs, explain_logs
        from dataset_converters.logs_columns import read_file, read_option
        from dataset_converters.logs_settings import LogSettings

    log_paths = (
        _required_log_path("interactions", interactions, input_),
        _required_log_path("searches", searches, input_),
    )
    items_path = _log_path("items", items, input_)
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
        typer.echo(explain_logs(*log_paths, items_path, settings=settings, options=options, folder=folder))
    else:
        typer.echo(convert_logs(output, name, *log_paths, items_path, settings=settings, options=options))


def _log_path(role: str, requested: str | None, folder: Path | None) -> str | Path | None:
    """The path of a log: the requested one, or the file found in the folder."""
    from dataset_converters.logs_files import find_in_folder

    return requested or (find_in_folder(folder, role) if folder else None)


def _required_log_path(role: str, requested: str | None, folder: Path | None) -> str | Path:
    path = _log_path(role, requested, folder)
    if path is None:
        where = f"no {role}.* in {folder}" if folder else f"no file of {role}"
        raise SettingError(f"{where}. Give --{role} FILE.")
    return path

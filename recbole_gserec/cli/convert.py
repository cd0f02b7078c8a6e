"""``gserec convert``: raw data to search-extended atomic files, a command for each kind of source."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dataset_converters import (
    ACTIONS,
    AS_PUBLISHED,
    AS_WORDS,
    DIGINETICA,
    DIGINETICA_INTERACTIONS,
    DIGINETICA_USERS,
    HISTORY_TYPES,
    JDSEARCH,
    KUAISAR,
    LANGUAGES,
    LOGS,
    MEANINGS,
    ML_100K,
    ML_100K_SEED,
    NO_QUERY,
    POSITIVE,
    QILIN,
    QILIN_DEFAULTS,
    SEARCH_TIMES,
    SEPARATORS,
    TIME_ZEROS,
    UNITS,
    WORDS,
    DigineticaReading,
    Filters,
    JDsearchReading,
    KuaiSARReading,
    Options,
    QilinReading,
    Recipe,
)
from recbole_gserec.cli.commands import group_of
from recbole_gserec.compute import while_importing
from recbole_gserec.errors import SettingError

OutputFolder = Annotated[
    Path, typer.Option("--output", help="Folder of all datasets; the new dataset becomes a subfolder.")
]


def _in_panel(panel: str | None, kind: Any, help_text: str) -> object:
    return Annotated[kind, typer.Option(help=help_text, rich_help_panel=panel)]


# 20240131 is a date here; as seconds it would be a day in 1970.
_DATE_IN_DIGITS = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")
_KEEP, _MACHINE = "What to keep", "Machine"
_FILTERS = {
    "since": _in_panel(
        _KEEP, str | None, "Keep events from this time on: a date (2024-01-31, in UTC) or seconds since 1970."
    ),
    "until": _in_panel(_KEEP, str | None, "Keep events before this time."),
    "drop_duplicates": _in_panel(
        _KEEP, bool, "Keep one of several events that are equal in everything, including the time."
    ),
    "min_searches": _in_panel(_KEEP, int, "Minimum number of searches per user."),
    "k_core": _in_panel(_KEEP, int, "Minimum number of interactions of each user and each item (k-core)."),
    "min_interactions": _in_panel(
        _KEEP, int, "Minimum number of interactions of users who have any; evaluation needs 3."
    ),
    "search_only_users": _in_panel(_KEEP, bool, "Keep users who search but never interact."),
}
_OTHERS = {
    "all_items": _in_panel(_KEEP, bool, "Keep the texts of items that are in no kept event."),
    "words": _in_panel(None, str, f"How to split queries into words: {' or '.join(WORDS)} (only at spaces)."),
    "bad_rows": _in_panel(
        None, str, f"What to do with rows that cannot be used: {' or '.join(ACTIONS)} (leave out and count)."
    ),
    "memory": _in_panel(_MACHINE, str, "Memory limit of the database."),
    "threads": _in_panel(_MACHINE, int | None, "Threads of the database; by default one per processor."),
}


def with_options(defaults: Options | None = None) -> Callable[[Callable], Callable]:
    """Decorate a command with the options of every conversion.

    The command takes the keyword argument ``options``, an :class:`Options`. The command line gets one option for each
    of its fields and for each field of its filters.

    Args:
        defaults: Default values of the options.
    """
    defaults = defaults or Options()
    values = {**_fields(defaults.filters), **_fields(defaults)}

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def wrapped(**arguments: Any) -> object:
            filters = {name: arguments.pop(name) for name in _FILTERS}
            filters |= {name: _seconds(name, filters[name]) for name in ("since", "until")}
            others = {name: arguments.pop(name) for name in _OTHERS}
            return command(**arguments, options=Options(filters=Filters(**filters), **others))

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "options"]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=values[name], annotation=annotation)
            for name, annotation in {**_OTHERS, **_FILTERS}.items()
        ]
        described: Any = wrapped
        described.__signature__ = signature.replace(parameters=[*own, *shared])
        # Typer reads the types from the annotations, not from the signature.
        described.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        del described.__wrapped__
        return wrapped

    return decorate


def _fields(options: Options | Filters) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}


def _seconds(name: str, text: str | float | None) -> float | None:
    """Convert a date or a number to seconds since 1970."""
    if text is None:
        return None
    advice = "Give a date like 2024-01-31, or seconds since 1970."
    with suppress(ValueError):
        seconds = float(text)
        if _DATE_IN_DIGITS.fullmatch(str(text)):
            raise SettingError(f"{name} {text} can be a date or a number of seconds. {advice}")
        return seconds
    try:
        # fromisoformat does not accept a lower-case z.
        moment = datetime.fromisoformat(re.sub(r"(?<=\d)z$", "Z", str(text).strip()))
    except ValueError:
        raise SettingError(f"{name} '{text}' is not a date. {advice}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


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
        from dataset_converters.logs import LogSettings, convert_logs, explain_logs, read_file, read_option

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
        if folder and (folder / name).exists():
            typer.echo(f"note: {folder / name} exists and is never overwritten. Give another dataset another --name.")
    else:
        typer.echo(convert_logs(output, name, *log_paths, items_path, settings=settings, options=options))


def _log_path(role: str, requested: str | None, folder: Path | None) -> str | Path | None:
    """The path of a log: the requested one, or the file found in the folder."""
    from dataset_converters.logs import find_in_folder

    return requested or (find_in_folder(folder, role) if folder else None)


def _required_log_path(role: str, requested: str | None, folder: Path | None) -> str | Path:
    path = _log_path(role, requested, folder)
    if path is None:
        where = f"no {role}.* in {folder}" if folder else f"no file of {role}"
        raise SettingError(f"{where}. Give --{role} FILE.")
    return path


_RECIPE = Recipe()
_SEARCHES = "Searches"


@with_options(AS_WORDS)
def amazon(
    *,
    input_: Annotated[
        Path,
        typer.Option(
            "--input", help="Folder with the reviews, the metadata and, if available, the product-search files."
        ),
    ],
    output: OutputFolder = Path("dataset"),
    name: Annotated[
        str | None, typer.Option(help="Name of the new dataset; by default from the category: amazon-electronics.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Category as in the file names (CDs_and_Vinyl), if the folder has several.")
    ] = None,
    edition: Annotated[
        str | None,
        typer.Option(help="Edition of the data: 2014, 2018, 2023 or plain; by default detected from the content."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Folder with query_text.txt.gz, train.qrels.gz and test.qrels.gz; by default --input.",
            rich_help_panel=_SEARCHES,
        ),
    ] = None,
    queries_from: Annotated[
        str | None,
        typer.Option(
            help="Source of the queries: published (from these files, the default if they exist) or categories (made "
            "by the same recipe from the category paths in the metadata).",
            rich_help_panel=_SEARCHES,
        ),
    ] = _RECIPE.queries_from,
    queries_per_purchase: Annotated[
        str,
        typer.Option(help="Queries used per purchase: one (random) or all that match.", rich_help_panel=_SEARCHES),
    ] = _RECIPE.queries_per_purchase,
    search_probability: Annotated[
        float,
        typer.Option(help="Probability that a purchase with queries began with a search.", rich_help_panel=_SEARCHES),
    ] = _RECIPE.search_probability,
    seed: Annotated[int, typer.Option(help="Random seed.", rich_help_panel=_SEARCHES)] = _RECIPE.seed,
    items_with_text: Annotated[
        bool, typer.Option(help="Leave out items that have neither title nor description.")
    ] = _RECIPE.items_with_text,
    description_length: Annotated[
        int, typer.Option(help="Maximum length of a description in characters; 0 for no limit.")
    ] = _RECIPE.description_length,
    options: Options,
) -> None:
    """Convert Amazon reviews (2014, 2018, 2023): reviews become purchases, and searches are made from them."""
    with while_importing():
        from dataset_converters.amazon import convert_amazon

    recipe = Recipe(
        queries_from=queries_from,
        queries_per_purchase=queries_per_purchase,
        search_probability=search_probability,
        items_with_text=items_with_text,
        description_length=description_length,
        seed=seed,
    )
    folder = convert_amazon(
        input_, output, name, category=category, edition=edition, queries=queries, recipe=recipe, options=options
    )
    typer.echo(folder)


_PANEL = "Processing of the paper's authors"


def _flag(name: str, help_text: str) -> object:
    return typer.Option(f"--{name}", help=help_text, rich_help_panel=_PANEL)


@with_options(QILIN_DEFAULTS)
def qilin(
    *,
    input_: Annotated[
        Path,
        typer.Option(
            "--input",
            help="Folder with recommendation_train, recommendation_test, search_train, search_test and notes.",
        ),
    ],
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, typer.Option(help="Name of the new dataset.")] = QILIN,
    content_length: Annotated[
        int, typer.Option(help="Maximum length of a note's content in characters; 0 keeps only titles.")
    ] = QilinReading.content_length,
    search_time: Annotated[
        str,
        typer.Option(help=f"Time of a search: when its {' or '.join(SEARCH_TIMES)} clicked note was shown."),
    ] = QilinReading.search_time,
    as_published: Annotated[
        bool, _flag("as-published", "Set all of the following options, and --search-time first.")
    ] = False,
    raw_times: Annotated[
        bool, _flag("raw-times", "Keep times as in the files: recommendations in milliseconds, searches in seconds.")
    ] = False,
    keep_unclicked: Annotated[
        bool, _flag("keep-unclicked", "In a search without clicks, treat the first shown note as clicked.")
    ] = False,
    first_query_only: Annotated[bool, _flag("first-query-only", "Keep one query per search_idx.")] = False,
    drop_textless: Annotated[bool, _flag("drop-textless", "Drop clicks on notes without text.")] = False,
    as_listed: Annotated[
        bool, _flag("as-listed", "Keep notes of equal time in list order, including duplicates.")
    ] = False,
    options: Options,
) -> None:
    """Convert Qilin, the search and recommendation logs of Xiaohongshu."""
    with while_importing():
        from dataset_converters.qilin import convert_qilin

    requested = QilinReading(
        raw_times, search_time, keep_unclicked, first_query_only, drop_textless, as_listed, content_length
    )
    reading = dataclasses.replace(AS_PUBLISHED, content_length=content_length) if as_published else requested
    typer.echo(convert_qilin(output, input_, name, reading, options=options))


@with_options(AS_WORDS)
def kuaisar(
    *,
    input_: Annotated[
        Path, typer.Option("--input", help="Folder with rec_inter.csv, src_inter.csv and item_features.csv.")
    ],
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, typer.Option(help="Name of the new dataset.")] = KUAISAR,
    positive: Annotated[
        str,
        typer.Option(
            help=f"Feedback that makes a recommendation an interaction: {', '.join(POSITIVE)} (no feedback needed)."
        ),
    ] = KuaiSARReading.positive,
    recommended_types_only: Annotated[
        bool,
        typer.Option("--recommended-types-only", help="Leave out clicked results of types that are never recommended."),
    ] = KuaiSARReading.recommended_types_only,
    category_language: Annotated[
        str, typer.Option(help=f"Language of the category names: {' or '.join(LANGUAGES)}.")
    ] = KuaiSARReading.category_language,
    options: Options,
) -> None:
    """Convert KuaiSAR or KuaiSAR-small, the logs of a short-video app."""
    with while_importing():
        from dataset_converters.kuaisar import convert_kuaisar

    reading = KuaiSARReading(positive, recommended_types_only, category_language)
    typer.echo(convert_kuaisar(output, input_, name, reading, options=options))


@with_options(AS_WORDS)
def jdsearch(
    *,
    input_: Annotated[
        Path, typer.Option("--input", help="Folder with user_behavior_data.txt and product_meta_data.txt.")
    ],
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, typer.Option(help="Name of the new dataset.")] = JDSEARCH,
    types: Annotated[
        str,
        typer.Option(help="Types of behaviour without a query that are interactions, separated by commas."),
    ] = ",".join(HISTORY_TYPES),
    search_gap: Annotated[
        float,
        typer.Option(help="Maximum seconds between two events of a search; later, the same query is a new search."),
    ] = JDsearchReading.search_gap,
    searched_too: Annotated[
        bool,
        typer.Option("--searched-too", help="Behaviour after a query is an interaction too, not only a click."),
    ] = JDsearchReading.searched_too,
    drop_last_search: Annotated[
        bool, typer.Option("--drop-last-search", help="Leave out the last query of each user and its candidates.")
    ] = JDsearchReading.drop_last_search,
    time_zero: Annotated[
        str,
        typer.Option(help=f"Time 0 of each user: the {' event or the '.join(TIME_ZEROS)} query."),
    ] = JDsearchReading.time_zero,
    options: Options,
) -> None:
    """Convert JDsearch, the histories and real queries of users of JD.com."""
    with while_importing():
        from dataset_converters import convert_jdsearch

    chosen = tuple(filter(None, map(str.strip, types.upper().split(","))))
    reading = JDsearchReading(chosen, search_gap, searched_too, drop_last_search, time_zero)
    typer.echo(convert_jdsearch(output, input_, name, reading, options=options))


@with_options(AS_WORDS)
def diginetica(
    *,
    input_: Annotated[
        Path,
        typer.Option("--input", help="Folder with train-*.csv, products.csv and product-categories.csv."),
    ],
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, typer.Option(help="Name of the new dataset.")] = DIGINETICA,
    users: Annotated[
        str,
        typer.Option(help=f"Who is a user: {' (or else the session) or '.join(DIGINETICA_USERS)} (always)."),
    ] = DigineticaReading.users,
    interactions: Annotated[
        str, typer.Option(help=f"What is an interaction: {', '.join(DIGINETICA_INTERACTIONS)}.")
    ] = DigineticaReading.interactions,
    text_queries_only: Annotated[
        bool, typer.Option("--text-queries-only", help="Leave out queries that only chose a category.")
    ] = DigineticaReading.text_queries_only,
    keep_test_queries: Annotated[
        bool,
        typer.Option("--keep-test-queries", help="Keep queries of the competition's test, as searches without clicks."),
    ] = DigineticaReading.keep_test_queries,
    drop_opened_views: Annotated[
        bool,
        typer.Option("--drop-opened-views", help="Leave out views that a click in a search opened."),
    ] = DigineticaReading.drop_opened_views,
    options: Options,
) -> None:
    """Convert Diginetica (CIKM Cup 2016), the sessions of a shop with searches, views and purchases."""
    with while_importing():
        from dataset_converters import convert_diginetica

    reading = DigineticaReading(users, interactions, text_queries_only, keep_test_queries, drop_opened_views)
    typer.echo(convert_diginetica(output, input_, name, reading, options=options))


@with_options(AS_WORDS)
def ml_100k(
    *,
    output: OutputFolder = Path("dataset"),
    name: Annotated[str, typer.Option(help="Name of the new dataset.")] = ML_100K,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="Folder with ml-100k.inter and ml-100k.item; by default the copy in RecBole."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed that decides which interactions began with a search.")
    ] = ML_100K_SEED,
    options: Options,
) -> None:
    """Convert MovieLens-100k, adding semi-synthetic searches. This is the default dataset."""
    with while_importing():
        from dataset_converters import convert_ml_100k

    typer.echo(convert_ml_100k(output, name, seed, input_, options=options))


app = typer.Typer(
    cls=group_of(__name__, ("amazon", "qilin", "kuaisar", "jdsearch", "diginetica", "logs", "ml-100k")),
    help="Convert raw data into a search-extended dataset.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def convert() -> None:
    """Convert raw data into a search-extended dataset."""

"""The meaning of a log's columns, as requested by the user or guessed from usual names."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from dataset_converters.choices import MEANINGS
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import TYPES, read_yaml

Columns = Mapping[str, tuple[str, ...]]
"""The columns of each meaning. Only texts and the time may have several, which are joined by spaces."""

#: Required meanings of each log, and the option that sets its columns.
REQUIRED = {"interactions": ("user", "item", "time"), "searches": ("user", "query", "time"), "items": ("item",)}
OPTIONS = {
    "interactions": "--interaction-columns",
    "searches": "--search-columns",
    "items": "--item-columns",
}
_JOINED = ("query", "title", "categories", "brand", "description", "time")
_NONE = "-"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Usual names in lower case, letters and digits only: customer_id and CustomerID both become customerid.
_IDS = "{0} {0}id {0}idx {0}no {0}number {0}code"
_USERS = _names(
    " ".join(_IDS.format(name) for name in "user customer client visitor buyer member account shopper reviewer".split())
    + " uid custid"
)
_ITEMS = _names(
    " ".join(_IDS.format(name) for name in "item product article sku".split())
    # These names need "id": without it, they can mean a note's text or a book's title.
    + " goodsid movieid filmid videoid noteid bookid trackid movieidx videoidx noteidx asin parentasin iid pid"
)
_TIMES = _names(
    "time timestamp ts date datetime day at when timems timestampms timestamps unixtime unixtimestamp epoch eventtime "
    "eventtimestamp eventdate createdat createtime occurredat occurredon searchtime searchtimestamp searchdate "
    "searchedat orderdate ordertime orderedat purchasedate purchasetime purchasedat clicktime clickedat viewtime "
    "viewedat interactiontime interactiontimestamp logtime requesttime requesttimestamp searchsessiontimestamp"
)
# Time columns that contain the time of day if another column contains the date.
_CLOCKS = _names(
    "time at eventtime searchtime ordertime purchasetime clicktime viewtime logtime requesttime createtime"
)
_CLICKED_ITEM = frozenset(f"{verb}{name}" for verb in ("click", "clicked") for name in _ITEMS)
# Names of columns that surely list the clicked items. The column of our own files has the name and type below.
_CLICKED_LISTS = _names(
    "clickeditems clickeditemids clickeditemlist clickedids clickedproducts clickedproductids clickedarticles "
    "clickedarticleids clickedgoods clickedskus clickedasins clickeddocs clickednotes clickednoteids clickedvideos "
    "clickeditemsids itemsclicked itemidsclicked productsclicked skusclicked clickitems clickitemids clicklist "
    "clickedlist clickproducts clickskus"
)
_OWN_LIST = "search_item_ids:token_seq"
# Names of columns with clicked items, numbers of clicks or click flags. Their values must be checked.
_CLICKS = _names("click clicked clicks")
_CLICK_FLAGS = _CLICKS | _names("isclick isclicked wasclicked")
_CLICK_COUNTS = _CLICK_FLAGS | _names(
    "hasclick hasclicked clickflag clickedflag clickcount clickcnt nclicks nclicked numclick numclicks numclicked"
)
# Names of columns with found, shown or clicked items. Only the user knows which.
_LISTS_OF_ITEMS = _names("items itemids searchitems searchitemids products productids skus")
_RESULTS = _names(
    "itemlist productlist articles articleids goods skuids asins docs docids results resultids resultitems "
    "resultitemids resultlist searchresults impressions impressionids impressionlist shown shownitems shownitemids "
    "shownproducts displayed displayeditems viewed vieweditems candidates candidateids hits ranking recommendations"
)
# Names of columns that show that some rows with an item are not clicks.
_KINDS_OF_ROWS = _names(
    "event events eventtype eventname action actiontype actionname behavior behaviour behaviortype behaviourtype "
    "interactiontype rowtype shown isshown impression isimpression viewed isviewed label type target clk isclk ctr "
    "iclick op operation operationtype kind status position pos rank rating relevance"
)
_SEARCH_IDS = _names("searchid searchidx searchno searchnumber searchuuid serpid serpidx")
_SESSIONS = _names("session sessionid sessionidx searchsession searchsessionid querysession querysessionid")
_USUAL: dict[str, dict[str, frozenset[str]]] = {
    "interactions": {"user": _USERS, "item": _ITEMS, "time": _TIMES},
    "searches": {
        "user": _USERS | {"searchuserid"},
        "query": _names(
            "query queries querytext querystring querywords keyword keywords search searchterm searchterms searchquery "
            "searchtext searchstring searchphrase searchkeyword searchkeywords term terms phrase q"
        ),
        "time": _TIMES,
        "items": _CLICKED_LISTS | _CLICKS | _LISTS_OF_ITEMS | _RESULTS,
        "item": _ITEMS | _CLICKED_ITEM,
        "click": _CLICK_COUNTS,
        "search": _SEARCH_IDS | _SESSIONS,
    },
    "items": {
        "item": _ITEMS | {"id"},
        "title": _names("title name caption itemname itemtitle productname producttitle movietitle notetitle label"),
        "categories": _names("categories category class genre genres department departments categorypath"),
        "brand": _names("brand brandname manufacturer maker"),
    },
}
#: All usual names, to detect whether a first row is a header.
USUAL_NAMES = frozenset().union(*(names for meanings in _USUAL.values() for names in meanings.values()))


def read_option(role: str, text: str | None) -> dict[str, tuple[str, ...]]:
    """Read the columns of a log from its command-line option.

    Args:
        role: ``interactions``, ``searches`` or ``items``.
        text: Columns like ``user=customer_id,item=sku``. ``+`` joins several columns of a text or of the time. ``-``
            means that the log has no such column.

    Raises:
        SettingError: If a meaning is unknown or the text has another form.
    """
    requested: dict[str, tuple[str, ...]] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        meaning, equals, columns = part.partition("=")
        if not equals or not columns.strip():
            raise SettingError(f"{OPTIONS[role]} '{part.strip()}' does not have the form user=customer_id.")
        requested[meaning.strip()] = tuple(column.strip() for column in columns.split("+"))
    return _checked(role, requested)


def read_file(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """Read the columns of each log from a YAML file.

    Raises:
        DataError: If the file cannot be read or has another form.
        SettingError: If a meaning is unknown.
    """
    advice = "Below interactions, searches and items, write lines like 'user: customer_id'."
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "Check --columns.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(path, f"not YAML ({' '.join(str(error).split())})", advice) from None
    if not isinstance(content, dict):
        raise DataError(path, "not a mapping", advice)
    requested = {}
    for role, columns in content.items():
        if role not in MEANINGS:
            raise SettingError(f"{path} has the unknown log '{role}'. {_nearest(str(role), MEANINGS)}")
        if not isinstance(columns, dict):
            raise DataError(path, f"'{role}' is not a mapping", advice)
        requested[role] = _checked(role, {str(meaning): _listed(path, value) for meaning, value in columns.items()})
    return requested


def _listed(path: Path, value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(entry, str | int) and not isinstance(entry, bool) for entry in values):
        raise DataError(path, f"'{value}' is not a column name", "Put quotation marks around names.")
    return tuple(map(str, values))


def _checked(role: str, requested: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    for meaning, columns in requested.items():
        if meaning not in MEANINGS[role]:
            raise SettingError(f"'{meaning}' is not a known column of {role}. {_nearest(meaning, MEANINGS[role])}")
        if len(columns) > 1 and meaning not in _JOINED:
            raise SettingError(f"{meaning} of {role} must be one column, not {' and '.join(columns)}.")
        if columns == (_NONE,) and meaning in REQUIRED[role]:
            raise SettingError(f"{role} need a column for {meaning}.")
    return dict(requested)


def resolve_columns(
    role: str, path: Path, file_columns: Sequence[str], requested: Columns
) -> dict[str, tuple[str, ...]]:
    """Assign columns to meanings, as requested or guessed from usual names.

    Args:
        role: ``interactions``, ``searches`` or ``items``.
        path: The file, for messages.
        file_columns: Column names of the file.
        requested: Columns requested by the user.

    Raises:
        DataError: If a column is missing, a required meaning has no column, or several columns fit one meaning.
    """
    resolved = {
        meaning: tuple(find_column(path, file_columns, column) for column in columns)
        for meaning, columns in requested.items()
        if columns != (_NONE,)
    }
    taken = {column for columns in resolved.values() for column in columns}
    free = [column for column in file_columns if column not in taken]
    for meaning, names in _usual(role, requested, free).items():
        fitting = _surest(meaning, [column for column in free if _plain(column) in names])
        if len(fitting) > 1:
            option = f"{OPTIONS[role]} {meaning}={fitting[0]}"
            problem = f"several columns may be the {meaning}: {', '.join(map(printable, fitting))}"
            both = _day_and_clock_advice(fitting) if meaning == "time" else ""
            raise DataError(path, problem, f"Choose one, like {option}{both}.")
        if fitting:
            resolved[meaning] = (fitting[0],)
            free.remove(fitting[0])
    _require(role, path, file_columns, resolved, requested)
    return {meaning: resolved[meaning] for meaning in MEANINGS[role] if meaning in resolved}


def _day_and_clock_advice(columns: Sequence[str]) -> str:
    """Advice to join a date and a time of day, if the names of two columns suggest these."""
    days = [column for column in columns if _plain(column) == "day" or _plain(column).endswith("date")]
    clocks = [column for column in columns if _plain(column) in _CLOCKS]
    return f", or join both: time={days[0]}+{clocks[0]}" if len(days) == len(clocks) == 1 else ""


def _surest(meaning: str, fitting: list[str]) -> list[str]:
    """The most likely of several columns with usual names."""
    ranks = {
        "items": (is_clicked_items_name, _may_be_clicks),
        "item": (is_clicked_items_name,),
        "click": (_is_flag,),
        "search": (_is_search_id,),
    }
    for is_surer in ranks.get(meaning, ()):
        surer = [column for column in fitting if is_surer(column)]
        if surer:
            return surer
    return fitting


def is_clicked_items_name(column: str) -> bool:
    """Whether a column surely contains clicked items because of its name."""
    return _plain(column) in _CLICKED_LISTS | _CLICKED_ITEM or column == _OWN_LIST


def is_session_name(column: str) -> bool:
    """Whether a column contains session ids because of its name. A session can have several searches."""
    return _plain(column) in _SESSIONS


def row_kind_columns(columns: Iterable[str]) -> list[str]:
    """The columns whose names show that some rows may not be clicks."""
    return [column for column in columns if _plain(column) in _KINDS_OF_ROWS]


def _may_be_clicks(column: str) -> bool:
    return _plain(column) in _CLICKS


def _is_flag(column: str) -> bool:
    return _plain(column) in _CLICK_FLAGS


def _is_search_id(column: str) -> bool:
    return _plain(column) in _SEARCH_IDS


def _usual(role: str, requested: Columns, free: Sequence[str]) -> dict[str, frozenset[str]]:
    """The usual names of the meanings that the user did not request."""
    usual = {meaning: names for meaning, names in _USUAL[role].items() if meaning not in requested}
    if role != "searches":
        return usual
    plain = set(map(_plain, free))
    row_is_click = requested.get("item", (_NONE,)) != (_NONE,) or (
        "items" not in requested and "item" in usual and bool(plain & usual["item"])
    )
    if row_is_click:
        # If another column has one item per row, a column named "clicked" is a flag.
        usual["items"] = usual.get("items", frozenset()) - _CLICK_COUNTS - _RESULTS
        if plain & _CLICKED_ITEM:
            # If another column has the clicked item, lists contain the shown items.
            usual["items"] -= _LISTS_OF_ITEMS
        return usual
    # If each row is one search, it needs no id, and session ids would join different searches.
    return {meaning: names for meaning, names in usual.items() if meaning not in ("item", "click", "search")}


def _require(role: str, path: Path, file_columns: Sequence[str], resolved: Columns, requested: Columns) -> None:
    columns = f"The columns are {', '.join(map(printable, file_columns))}."
    for meaning in REQUIRED[role]:
        if meaning not in resolved:
            advice = f"{columns} Choose one: {OPTIONS[role]} {meaning}=COLUMN."
            raise DataError(path, f"no column found for the {meaning}", advice)
    if role != "searches":
        return
    option = OPTIONS[role]
    if "items" in resolved and "item" in resolved:
        names = f"{printable(resolved['items'][0])} (a list of items) or {printable(resolved['item'][0])} (one item)"
        advice = f"Choose one, like {option} items={resolved['items'][0]},item=-."
        raise DataError(path, f"the clicked items may be in two columns: {names}", advice)
    listed = resolved.get("items", ("",))[0]
    if "items" not in requested and _plain(listed) in _LISTS_OF_ITEMS | _RESULTS and not is_clicked_items_name(listed):
        advice = (
            f"Set {option} items={printable(listed)} if they were clicked, items=COLUMN for another column of clicked "
            "items, or items=- if clicks are unknown."
        )
        raise DataError(path, f"column '{printable(listed)}' may contain shown or clicked items", advice)
    if not {"items", "item"} & set(resolved) and (_NONE,) not in (requested.get("items"), requested.get("item")):
        counts = [printable(column) for column in file_columns if _plain(column) in _CLICK_COUNTS]
        more = f" ('{counts[0]}' only counts clicks)" if counts else ""
        advice = (
            f"{columns} Set {option} items=COLUMN for a list of clicked items, item=COLUMN for one row per click, or "
            "items=- if clicks are unknown."
        )
        raise DataError(path, f"no column found for the clicked items{more}", advice)
    if "click" in resolved and "item" not in resolved:
        raise DataError(
            path, "the click column needs a column with one item", f"Choose one: {OPTIONS[role]} item=COLUMN."
        )


def find_column(path: Path, file_columns: Sequence[str], column: str) -> str:
    """Find the column with this name, or with the same name in another case if it is the only one.

    Raises:
        DataError: If there is no such column.
    """
    if column in file_columns:
        return column
    alike = [name for name in file_columns if name.lower() == column.lower()]
    if len(alike) == 1:
        return alike[0]
    near = difflib.get_close_matches(column, file_columns, n=1)
    hint = f"Did you mean '{printable(near[0])}'? " if near else ""
    columns = ", ".join(map(printable, file_columns))
    raise DataError(path, f"no column '{column}'", f"{hint}The columns are {columns}.")


def _plain(name: str) -> str:
    """Lower-case letters and digits of a column name, without the type in atomic files (``user_id:token``)."""
    stem, colon, kind = name.rpartition(":")
    return re.sub(r"[^a-z0-9]", "", (stem if colon and kind in TYPES else name).lower())


def requested_names(requested: Iterable[Columns]) -> frozenset[str]:
    """All requested column names in lower case, to detect a header."""
    own = {column.lower() for columns in requested for names in columns.values() for column in names}
    return frozenset(own - {_NONE})


def is_usual_name(name: str) -> bool:
    """Whether a column name is usual for some meaning."""
    return _plain(name) in USUAL_NAMES


def printable(name: str) -> str:
    """A column name in printable form. Bytes that are not text are replaced."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return f"{hint}Use one of {', '.join(known)}."

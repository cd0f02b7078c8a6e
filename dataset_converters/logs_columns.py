"""What the columns of a log mean: as the user says, or as their names usually do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from dataset_converters.choices import MEANINGS
from recbole_gserec.data.atomic_files import TYPES
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.yaml_values import read_yaml

Columns = Mapping[str, tuple[str, ...]]
"""The columns of each meaning. Several are for texts and for the time only, and are joined by spaces."""

#: Meanings without which a file says nothing, and the option that names its columns.
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


# Usual names, in lower case and without marks: customer_id and CustomerID are customerid.
_IDS = "{0} {0}id {0}idx {0}no {0}number {0}code"
_USERS = _names(
    " ".join(_IDS.format(name) for name in "user customer client visitor buyer member account shopper reviewer".split())
    + " uid custid"
)
_ITEMS = _names(
    " ".join(_IDS.format(name) for name in "item product article sku".split())
    # Without "id", these name other things too: a note, a book's title.
    + " goodsid movieid filmid videoid noteid bookid trackid movieidx videoidx noteidx asin parentasin iid pid"
)
_TIMES = _names(
    "time timestamp ts date datetime day at when timems timestampms timestamps unixtime unixtimestamp epoch eventtime "
    "eventtimestamp eventdate createdat createtime occurredat occurredon searchtime searchtimestamp searchdate "
    "searchedat orderdate ordertime orderedat purchasedate purchasetime purchasedat clicktime clickedat viewtime "
    "viewedat interactiontime interactiontimestamp logtime requesttime requesttimestamp searchsessiontimestamp"
)
# Those of them that hold a time of day where another column holds the day.
_CLOCKS = _names(
    "time at eventtime searchtime ordertime purchasetime clicktime viewtime logtime requesttime createtime"
)
_CLICKED_ITEM = frozenset(f"{verb}{name}" for verb in ("click", "clicked") for name in _ITEMS)
# Their names say that they list the clicked items; so does the type, of a column of our own files.
_CLICKED_LISTS = _names(
    "clickeditems clickeditemids clickeditemlist clickedids clickedproducts clickedproductids clickedarticles "
    "clickedarticleids clickedgoods clickedskus clickedasins clickeddocs clickednotes clickednoteids clickedvideos "
    "clickeditemsids itemsclicked itemidsclicked productsclicked skusclicked clickitems clickitemids clicklist "
    "clickedlist clickproducts clickskus"
)
_OWN_LIST = "search_item_ids:token_seq"
# These may list the clicked items, count the clicks, or say whether there was one: their values tell.
_CLICKS = _names("click clicked clicks")
_CLICK_FLAGS = _CLICKS | _names("isclick isclicked wasclicked")
_CLICK_COUNTS = _CLICK_FLAGS | _names(
    "hasclick hasclicked clickflag clickedflag clickcount clickcnt nclicks nclicked numclick numclicks numclicked"
)
# Items that were found, shown or clicked: nothing but the user can tell.
_LISTS_OF_ITEMS = _names("items itemids searchitems searchitemids products productids skus")
_RESULTS = _names(
    "itemlist productlist articles articleids goods skuids asins docs docids results resultids resultitems "
    "resultitemids resultlist searchresults impressions impressionids impressionlist shown shownitems shownitemids "
    "shownproducts displayed displayeditems viewed vieweditems candidates candidateids hits ranking recommendations"
)
# Columns that say of a row with an item that it may be no click.
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
#: Every usual name, for telling whether a first row names columns.
USUAL_NAMES = frozenset().union(*(names for meanings in _USUAL.values() for names in meanings.values()))


def read_option(role: str, text: str | None) -> dict[str, tuple[str, ...]]:
    """What the user says on the command line.

    Args:
        role: ``interactions``, ``searches`` or ``items``.
        text: Like ``user=customer_id,item=sku``; several columns of a text, or of the time, are joined by ``+``, and
            ``-`` says that there is none.

    Raises:
        SettingError: If a meaning is unknown or the text is of another form.
    """
    given: dict[str, tuple[str, ...]] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        meaning, equals, columns = part.partition("=")
        if not equals or not columns.strip():
            raise SettingError(f"{OPTIONS[role]} '{part.strip()}' is not like user=customer_id.")
        given[meaning.strip()] = tuple(column.strip() for column in columns.split("+"))
    return _checked(role, given)


def read_file(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """What the user says in a YAML file: for each kind of file, columns by their meaning.

    Raises:
        DataError: If the file cannot be read or is of another form.
        SettingError: If it names an unknown meaning.
    """
    remedy = "Write for each of interactions, searches and items lines like 'user: customer_id'."
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "Check --columns.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(path, f"not YAML ({' '.join(str(error).split())})", remedy) from None
    if not isinstance(content, dict):
        raise DataError(path, "not a mapping", remedy)
    given = {}
    for role, columns in content.items():
        if role not in MEANINGS:
            raise SettingError(f"{path} names '{role}'. {_nearest(str(role), MEANINGS)}")
        if not isinstance(columns, dict):
            raise DataError(path, f"'{role}' is not a mapping", remedy)
        given[role] = _checked(role, {str(meaning): _listed(path, value) for meaning, value in columns.items()})
    return given


def _listed(path: Path, value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(entry, str | int) and not isinstance(entry, bool) for entry in values):
        raise DataError(path, f"'{value}' is no column's name", "Put quotation marks around names.")
    return tuple(map(str, values))


def _checked(role: str, given: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    for meaning, columns in given.items():
        if meaning not in MEANINGS[role]:
            raise SettingError(f"'{meaning}' is no meaning of a column of {role}. {_nearest(meaning, MEANINGS[role])}")
        if len(columns) > 1 and meaning not in _JOINED:
            raise SettingError(f"{meaning} of {role} is one column, not {' and '.join(columns)}.")
        if columns == (_NONE,) and meaning in REQUIRED[role]:
            raise SettingError(f"{role} cannot do without {meaning}.")
    return dict(given)


def resolve(role: str, path: Path, found: Sequence[str], given: Columns) -> dict[str, tuple[str, ...]]:
    """The columns of each meaning, those given and those guessed.

    Args:
        role: ``interactions``, ``searches`` or ``items``.
        path: The file, for messages.
        found: Names of its columns.
        given: What the user says.

    Raises:
        DataError: If a column is not there, a meaning has no column, or several columns could have one meaning.
    """
    resolved = {
        meaning: tuple(exact_name(path, found, column) for column in columns)
        for meaning, columns in given.items()
        if columns != (_NONE,)
    }
    taken = {column for columns in resolved.values() for column in columns}
    free = [column for column in found if column not in taken]
    for meaning, names in _usual(role, given, free).items():
        fitting = _surest(meaning, [column for column in free if _plain(column) in names])
        if len(fitting) > 1:
            option = f"{OPTIONS[role]} {meaning}={fitting[0]}"
            problem = f"{meaning} could be any of the columns {', '.join(map(shown, fitting))}"
            both = _told_day_and_clock(fitting) if meaning == "time" else ""
            raise DataError(path, problem, f"Say which, like {option}{both}.")
        if fitting:
            resolved[meaning] = (fitting[0],)
            free.remove(fitting[0])
    _require(role, path, found, resolved, given)
    return {meaning: resolved[meaning] for meaning in MEANINGS[role] if meaning in resolved}


def _told_day_and_clock(columns: Sequence[str]) -> str:
    """How a day and a time of day are joined; the empty text if two columns are not, by their names, these."""
    days = [column for column in columns if _plain(column) == "day" or _plain(column).endswith("date")]
    clocks = [column for column in columns if _plain(column) in _CLOCKS]
    return f"; both together are time={days[0]}+{clocks[0]}" if len(days) == len(clocks) == 1 else ""


def _surest(meaning: str, fitting: list[str]) -> list[str]:
    """Those of some columns of usual names that are the likeliest by their names."""
    ranks = {
        "items": (says_clicked, _may_be_clicks),
        "item": (says_clicked,),
        "click": (_is_flag,),
        "search": (_is_search_id,),
    }
    for is_surer in ranks.get(meaning, ()):
        surer = [column for column in fitting if is_surer(column)]
        if surer:
            return surer
    return fitting


def says_clicked(column: str) -> bool:
    """Whether a column's name says that it holds clicked items, so that its values need not."""
    return _plain(column) in _CLICKED_LISTS | _CLICKED_ITEM or column == _OWN_LIST


def is_session(column: str) -> bool:
    """Whether a column's name says that it holds sessions, in which there may be several searches."""
    return _plain(column) in _SESSIONS


def kinds_of_rows(columns: Iterable[str]) -> list[str]:
    """The columns whose names say that not every row may be a click."""
    return [column for column in columns if _plain(column) in _KINDS_OF_ROWS]


def _may_be_clicks(column: str) -> bool:
    return _plain(column) in _CLICKS


def _is_flag(column: str) -> bool:
    return _plain(column) in _CLICK_FLAGS


def _is_search_id(column: str) -> bool:
    return _plain(column) in _SEARCH_IDS


def _usual(role: str, given: Columns, free: Sequence[str]) -> dict[str, frozenset[str]]:
    """The names to look for, of the meanings that are not given."""
    usual = {meaning: names for meaning, names in _USUAL[role].items() if meaning not in given}
    if role != "searches":
        return usual
    plain = set(map(_plain, free))
    by_click = given.get("item", (_NONE,)) != (_NONE,) or (
        "items" not in given and "item" in usual and bool(plain & usual["item"])
    )
    if by_click:
        # Beside a column of one item each, a column named "clicked" says whether it was clicked.
        usual["items"] = usual.get("items", frozenset()) - _CLICK_COUNTS - _RESULTS
        if plain & _CLICKED_ITEM:
            # Beside the clicked one, others were shown.
            usual["items"] -= _LISTS_OF_ITEMS
        return usual
    # A search in one row needs no id, and sessions, which hold several, would join them.
    return {meaning: names for meaning, names in usual.items() if meaning not in ("item", "click", "search")}


def _require(role: str, path: Path, found: Sequence[str], resolved: Columns, given: Columns) -> None:
    columns = f"The columns are {', '.join(map(shown, found))}."
    for meaning in REQUIRED[role]:
        if meaning not in resolved:
            remedy = f"{columns} Name it, like {OPTIONS[role]} {meaning}=COLUMN."
            raise DataError(path, f"no column is known to be the {meaning}", remedy)
    if role != "searches":
        return
    option = OPTIONS[role]
    if "items" in resolved and "item" in resolved:
        names = f"{shown(resolved['items'][0])} as a list of items and {shown(resolved['item'][0])} as one item"
        remedy = f"Say which, like {option} items={resolved['items'][0]},item=-."
        raise DataError(path, f"clicked items could be in two columns: {names}", remedy)
    listed = resolved.get("items", ("",))[0]
    if "items" not in given and _plain(listed) in _LISTS_OF_ITEMS | _RESULTS and not says_clicked(listed):
        remedy = (
            f"Say which: {option} items={shown(listed)} if they were clicked; items=COLUMN for the column of those "
            "clicked; items=- if clicks are not known."
        )
        raise DataError(path, f"column '{shown(listed)}' may hold the items that were shown, or clicked", remedy)
    if not {"items", "item"} & set(resolved) and (_NONE,) not in (given.get("items"), given.get("item")):
        counts = [shown(column) for column in found if _plain(column) in _CLICK_COUNTS]
        more = f" ('{counts[0]}' only counts clicks)" if counts else ""
        remedy = (
            f"{columns} Name it: {option} items=COLUMN for a list of the clicked items, item=COLUMN for a row "
            "a click, items=- if there is none."
        )
        raise DataError(path, f"no column is known to be the clicked items{more}", remedy)
    if "click" in resolved and "item" not in resolved:
        raise DataError(path, "click needs a column of one item", f"Name it, like {OPTIONS[role]} item=COLUMN.")


def exact_name(path: Path, found: Sequence[str], column: str) -> str:
    """The column of this name, whatever its case if that is clear.

    Raises:
        DataError: If there is none.
    """
    if column in found:
        return column
    alike = [name for name in found if name.lower() == column.lower()]
    if len(alike) == 1:
        return alike[0]
    near = difflib.get_close_matches(column, found, n=1)
    hint = f"Did you mean '{shown(near[0])}'? " if near else ""
    columns = ", ".join(map(shown, found))
    raise DataError(path, f"there is no column '{column}'", f"{hint}The columns are {columns}.")


def _plain(name: str) -> str:
    """A column's name without case, marks, and the type that atomic files add (``user_id:token``)."""
    stem, colon, kind = name.rpartition(":")
    return re.sub(r"[^a-z0-9]", "", (stem if colon and kind in TYPES else name).lower())


def known_names(given: Iterable[Columns]) -> frozenset[str]:
    """Names, in lower case, by which a first row is known to name columns."""
    own = {column.lower() for columns in given for names in columns.values() for column in names}
    return frozenset(own - {_NONE})


def is_usual(name: str) -> bool:
    """Whether a column's name is one that tells its meaning."""
    return _plain(name) in USUAL_NAMES


def shown(name: str) -> str:
    """A column's name as it can be printed: bytes of another encoding are none."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return f"{hint}Known are {', '.join(known)}."

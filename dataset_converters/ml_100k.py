"""MovieLens-100k with semi-synthetic searches: the default dataset.

The ratings are the copy that RecBole ships. As in the paper's semi-synthetic data (Section 5.1.1), queries are made
from item categories: an interaction may have begun with a search for the film's genres and decade.
"""

import hashlib
import importlib.util
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from dataset_converters.bad_rows import BadRows
from dataset_converters.choices import AS_WORDS, ML_100K, ML_100K_SEED, Options
from dataset_converters.conversion import convert
from recbole_gserec.errors import DataError, SettingError, not_none
from recbole_gserec.files import field_types, line_of_row, read_columns

_INTERACTION_TYPES = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
_FILM_TYPES = {"item_id": "token", "movie_title": "token_seq", "release_year": "token", "class": "token_seq"}

#: Parameters of the Beta distribution of the users' search probabilities. Most users search rarely, a few often.
BETA = (0.5, 1.5)
RECIPE = (
    f"Each interaction began with a search with a probability of the user's own, drawn from Beta{BETA}; "
    "the query is the film's genres and decade, and the search clicked the film at the interaction's time."
)


def convert_ml_100k(
    output_dir: str | Path,
    name: str = ML_100K,
    seed: int = ML_100K_SEED,
    source: str | Path | None = None,
    *,
    options: Options | None = None,
) -> Path:
    """Make a search-extended dataset from MovieLens-100k.

    Args:
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        name: Name of the new dataset.
        seed: Random seed that decides which interactions began with a search.
        source: Folder with ``ml-100k.inter`` and ``ml-100k.item``. The default is the copy inside RecBole.
        options: Options of the conversion.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. An existing identical dataset is kept.

    Raises:
        DataError: If the source is missing or malformed, or the folder has other content.
        SettingError: If the name or the seed is invalid.
    """
    if seed < 0:
        raise SettingError(f"seed {seed} is negative. Give 0 or more.")
    source = shipped_ml_100k() if source is None else Path(source)
    sources = {name: source / name for name in ("ml-100k.inter", "ml-100k.item")}

    def read(connection: duckdb.DuckDBPyConnection) -> list[BadRows]:
        films = _read_films(sources["ml-100k.item"])
        interactions = _read_interactions(sources["ml-100k.inter"], films.index)
        _fill_tables(connection, interactions, films, seed)
        return []

    return convert(
        output_dir,
        name,
        "ml-100k",
        sources,
        read,
        options or AS_WORDS,
        settings={"recipe": RECIPE, "seed": seed},
        digest=_sha256_of_text,
        searches_from_interactions=True,
    )


def shipped_ml_100k() -> Path:
    """Folder of MovieLens-100k inside the installed RecBole."""
    # Only its files are needed, and importing RecBole takes seconds.
    spec = importlib.util.find_spec("recbole")
    return Path(not_none(not_none(spec).origin)).parent / "dataset_example" / "ml-100k"


def draw_searches(users: np.ndarray, seed: int) -> np.ndarray:
    """Choose at random which interactions began with a search.

    Args:
        users: ``[n_interactions]`` user of each interaction.
        seed: Random seed. The generator draws one probability per user in ascending order of users, then one uniform
            number per interaction in their order.

    Returns:
        ``[n_interactions]`` bool.
    """
    generator = np.random.default_rng(seed)
    distinct, indices = np.unique(users, return_inverse=True)
    probabilities = generator.beta(*BETA, size=len(distinct))
    return generator.random(len(users)) < probabilities[indices]


def film_query_words(categories: pd.Series, release_years: pd.Series) -> pd.Series:
    """Query words of each film: its genres in lower case, then its decade if the year is known ("drama 1990s")."""
    decades = (release_years.str[:3] + "0s").where(release_years.str.fullmatch("[0-9]{4}"), "")
    return categories.str.lower().str.cat(decades, sep=" ").str.strip()


def _fill_tables(
    connection: duckdb.DuckDBPyConnection, interactions: pd.DataFrame, films: pd.DataFrame, seed: int
) -> None:
    """Fill the tables of the conversion."""
    interactions = interactions.sort_values(["user_id", "timestamp"], kind="stable")
    searched = draw_searches(interactions["user_id"].to_numpy(), seed)
    queries = interactions["item_id"].map(film_query_words(films["class"], films["release_year"]))
    events = pd.DataFrame(
        {
            "user": interactions["user_id"].astype(str),
            "item": interactions["item_id"].astype(str),
            "rating": interactions["rating"],
            "time": interactions["timestamp"],
            "query": queries,
            "searched": searched,
        }
    )
    texts = films.reset_index().astype(str)
    connection.register("ratings", events)
    connection.register("films", texts)
    connection.execute(
        """
        CREATE TABLE events AS SELECT *, row_number() OVER () AS source_row FROM ratings;
        CREATE TABLE interactions AS SELECT user, item, rating, time, source_row FROM events;
        CREATE TABLE searches AS SELECT user, query, time, [item] AS items, source_row FROM events WHERE searched;
        CREATE TABLE items AS
        SELECT item_id AS item, movie_title AS title, "class" AS categories, release_year AS "release_year:token"
        FROM films;
        """
    )


def _read_films(path: Path) -> pd.DataFrame:
    """Read the title, release year ("unknown" if it is not a year) and genres of each film."""
    films = _read(path, _FILM_TYPES, ids=["item_id"])
    repeated = films["item_id"].duplicated().to_numpy()
    if repeated.any():
        line = line_of_row(path, int(repeated.argmax()))
        raise DataError(path, f"film {films['item_id'][repeated].iloc[0]} appears twice", "Keep one of its rows.", line)
    films["release_year"] = films["release_year"].where(films["release_year"].str.fullmatch("[0-9]{4}"), "unknown")
    return films.set_index("item_id")


def _read_interactions(path: Path, films: pd.Index) -> pd.DataFrame:
    """Read the interactions in the order of the file."""
    interactions = _read(path, _INTERACTION_TYPES, ids=["user_id", "item_id"])
    unknown = ~interactions["item_id"].isin(films).to_numpy()
    if unknown.any():
        film, line = interactions["item_id"][unknown].iloc[0], line_of_row(path, int(unknown.argmax()))
        raise DataError(path, f"film {film} is not in ml-100k.item", "Use complete copies of both files.", line)
    return interactions


def _read(path: Path, types: dict[str, str], ids: list[str]) -> pd.DataFrame:
    """Read columns of a source file, with ids as whole numbers."""
    advice = "Use the ml-100k.inter and ml-100k.item that RecBole ships."
    if not types.items() <= field_types(path).items():
        raise DataError(path, f"the header is not {' '.join(map(':'.join, types.items()))}", advice, line=1)
    required = [field for field, kind in types.items() if field in ids or kind == "float"]
    frame = read_columns(path, list(types), required=required).to_pandas()
    if frame.empty:
        raise DataError(path, "no rows below the header", advice)
    for field in ids:
        bad = ~frame[field].str.fullmatch("[0-9]{1,9}").to_numpy(dtype=bool)
        if bad.any():
            line = line_of_row(path, int(bad.argmax()))
            raise DataError(path, f"{field} '{frame[field][bad].iloc[0]}' is not a whole number", advice, line)
        frame[field] = frame[field].astype(np.int64)
    return frame


def _sha256_of_text(path: Path) -> str:
    """Hash of a text file that ignores the kind of line ends, which differs between RecBole's wheels."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()

"""MovieLens-100k with semi-synthetic searches: the default dataset.

The ratings are those RecBole ships. As in the semi-synthetic data of the paper (Section 5.1.1), queries are made from
the categories of items: each interaction may have begun with a search for the film's genres and decade.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from dataset_converters.atomic_writer import Columns, already_made, check_name, write_dataset
from recbole_gserec.data.atomic_files import field_types, line_of_row, read_columns
from recbole_gserec.errors import DataError, MissingDependencyError, SettingError

_INTERACTION_TYPES = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
_FILM_TYPES = {"item_id": "token", "movie_title": "token_seq", "release_year": "token", "class": "token_seq"}

logger = logging.getLogger(__name__)

NAME = "ml-100k-search"
SEED = 2025
#: Parameters of the Beta distribution of the users' search probabilities: most users search seldom, a few often.
BETA = (0.5, 1.5)
RECIPE = (
    f"Each interaction began with a search with a probability of the user's own, drawn from Beta{BETA}; "
    "the query is the film's genres and decade, and the search clicked the film at the interaction's time."
)


def convert_ml_100k(
    output_dir: str | Path, name: str = NAME, seed: int = SEED, source: str | Path | None = None
) -> Path:
    """Make a search-extended dataset from MovieLens-100k.

    Args:
        output_dir: Folder of all datasets (RecBole's ``data_path``).
        name: The new dataset's name.
        seed: Of the draws that decide which interactions began with a search.
        source: Folder with ``ml-100k.inter`` and ``ml-100k.item``; by default the one shipped inside RecBole.

    Returns:
        The dataset's folder ``<output_dir>/<name>``. If it already holds the same dataset, nothing is done.

    Raises:
        DataError: If the source is missing or malformed, or the folder holds anything else.
        SettingError: If the name or the seed cannot be used.
        MissingDependencyError: If no source is given and RecBole is not installed.
    """
    check_name(name)
    if seed < 0:
        raise SettingError(f"seed {seed} is negative. Give 0 or more.")
    folder = Path(output_dir) / name
    source = shipped_ml_100k() if source is None else Path(source)
    paths = [source / "ml-100k.inter", source / "ml-100k.item"]
    made_from = {
        "converter": "ml-100k",
        "recipe": RECIPE,
        "seed": seed,
        "source": {path.name: _sha256_of_text(path) for path in paths},
    }
    if already_made(folder, made_from):
        return folder
    films = _read_films(paths[1])
    interactions = _read_interactions(paths[0], films.index)
    tables = _tables(interactions, films, seed)
    write_dataset(folder, tables, made_from)
    counts = {suffix: len(next(iter(columns.values()))) for suffix, columns in tables.items()}
    logger.info("Made %s: %s", folder, ", ".join(f"{count:,} rows of .{suffix}" for suffix, count in counts.items()))
    return folder


def shipped_ml_100k() -> Path:
    """Folder of the MovieLens-100k inside the installed RecBole, which is not imported.

    Raises:
        MissingDependencyError: If RecBole is not installed.
    """
    found = importlib.util.find_spec("recbole")
    if found is None or not found.submodule_search_locations:
        raise MissingDependencyError("RecBole is not installed. Install it with: pip install recbole")
    return Path(found.submodule_search_locations[0]) / "dataset_example" / "ml-100k"


def draw_searches(users: np.ndarray, seed: int) -> np.ndarray:
    """Decide which interactions began with a search.

    Args:
        users: ``[n_interactions]`` user of each interaction.
        seed: Of the generator, which draws one probability per user in ascending order of users, then one uniform
            number per interaction in the given order.

    Returns:
        ``[n_interactions]`` bool.
    """
    generator = np.random.default_rng(seed)
    distinct, places = np.unique(users, return_inverse=True)
    probabilities = generator.beta(*BETA, size=len(distinct))
    return generator.random(len(users)) < probabilities[places]


def words_of_films(categories: pd.Series, release_years: pd.Series) -> pd.Series:
    """Query words of each film: its genres in lower case, then its decade if the year is known ("drama 1990s")."""
    decades = (release_years.str[:3] + "0s").where(release_years.str.fullmatch("[0-9]{4}"), "")
    return categories.str.lower().str.cat(decades, sep=" ").str.strip()


def _tables(interactions: pd.DataFrame, films: pd.DataFrame, seed: int) -> dict[str, Columns]:
    """Columns of the dataset's files."""
    interactions = interactions.sort_values(["user_id", "timestamp"], kind="stable")
    searches = interactions[draw_searches(interactions["user_id"].to_numpy(), seed)]
    query_words = searches["item_id"].map(words_of_films(films["class"], films["release_year"]))
    words, queries = np.unique(query_words.to_numpy(dtype=str), return_inverse=True)
    return {
        "inter": {f"{field}:{kind}": interactions[field].to_numpy() for field, kind in _INTERACTION_TYPES.items()},
        "item": {
            "item_id:token": films.index.to_numpy(),
            "title:token_seq": films["movie_title"].to_numpy(),
            "categories:token_seq": films["class"].to_numpy(),
            "release_year:token": films["release_year"].to_numpy(),
        },
        "search": {
            "search_user_id:token": searches["user_id"].to_numpy(),
            "search_query_id:token": queries + 1,
            "search_timestamp:float": searches["timestamp"].to_numpy(),
            "search_item_ids:token_seq": searches["item_id"].to_numpy(),
        },
        "query": {"query_id:token": np.arange(1, len(words) + 1), "query_words:token_seq": words.astype(object)},
    }


def _read_films(path: Path) -> pd.DataFrame:
    """Title, release year ("unknown" where it is not a year) and genres by film."""
    films = _read(path, _FILM_TYPES, ids=["item_id"])
    repeated = films["item_id"].duplicated().to_numpy()
    if repeated.any():
        line = line_of_row(path, int(repeated.argmax()))
        raise DataError(path, f"film {films['item_id'][repeated].iloc[0]} a second time", "Give it once.", line)
    films["release_year"] = films["release_year"].where(films["release_year"].str.fullmatch("[0-9]{4}"), "unknown")
    return films.set_index("item_id")


def _read_interactions(path: Path, films: pd.Index) -> pd.DataFrame:
    """Interactions in the order of the file."""
    interactions = _read(path, _INTERACTION_TYPES, ids=["user_id", "item_id"])
    unknown = ~interactions["item_id"].isin(films).to_numpy()
    if unknown.any():
        film, line = interactions["item_id"][unknown].iloc[0], line_of_row(path, int(unknown.argmax()))
        raise DataError(path, f"film {film} is not in ml-100k.item", "Give both files complete.", line)
    return interactions


def _read(path: Path, types: dict[str, str], ids: list[str]) -> pd.DataFrame:
    """Read columns of one of the source's files, ids as whole numbers."""
    remedy = "Give the ml-100k.inter and ml-100k.item that RecBole ships."
    if not types.items() <= field_types(path).items():
        raise DataError(path, f"the header is not {' '.join(map(':'.join, types.items()))}", remedy, line=1)
    required = [field for field, kind in types.items() if field in ids or kind == "float"]
    frame = read_columns(path, list(types), required=required).to_pandas()
    if frame.empty:
        raise DataError(path, "no rows below the header", remedy)
    for field in ids:
        bad = ~frame[field].str.fullmatch("[0-9]{1,9}").to_numpy(dtype=bool)
        if bad.any():
            line = line_of_row(path, int(bad.argmax()))
            raise DataError(path, f"{field} '{frame[field][bad].iloc[0]}' is not a whole number", remedy, line)
        frame[field] = frame[field].astype(np.int64)
    return frame


def _sha256_of_text(path: Path) -> str:
    """Hash of a text file whatever its line ends: RecBole's wheels ship the same lines with either kind."""
    if not path.is_file():
        raise DataError(path, "file not found", "Give the folder that holds ml-100k.inter and ml-100k.item.")
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()

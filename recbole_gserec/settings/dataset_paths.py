"""Paths of a dataset's files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_gserec.errors import DataError, nearest
from recbole_gserec.settings.defaults import read_shipped, recbole_properties
from recbole_gserec.settings.names import DEFAULT_DATASET

SUFFIXES = ("inter", "search", "query", "item", "user", "kg", "link")
"""Suffixes of a dataset's own files."""
VECTORS = ("user.vectors.parquet", "item.vectors.parquet")
"""Suffixes of the offline stage's files for models that read text vectors."""

DEFAULT_DATA_PATH = "dataset"
"""Default parent folder of all datasets."""
_OF_RECBOLE = "ml-100k"
"""The dataset inside RecBole, which ignores the parent folder of all datasets for it."""
_ADVICE = "Put its files there, set data_path to another folder, or make it with gserec convert."
_MOST_NAMED = 5


def dataset_path(config: Mapping[str, Any], suffix: str) -> Path:
    """Return the path of one of the files; codes may be elsewhere.

    Args:
        config: RecBole's settings.
        suffix: Suffix after the dataset's name and a dot.
    """
    if suffix == "code" and "code_path" in config and config["code_path"]:
        return Path(config["code_path"])
    return Path(config["data_path"]) / f"{config['dataset']}.{suffix}"


def store_path(config: Mapping[str, Any]) -> Path:
    """Return the path of the store that all code files in a folder share: of summaries and their vectors.

    Vectors of texts alone are always beside the dataset, and so is their store.

    Args:
        config: RecBole's settings.
    """
    if config["preprocess_store"]:
        return Path(config["preprocess_store"])
    return dataset_path(config, "code").with_name(f"{config['dataset']}.preprocess.sqlite3")


def dataset_files(config: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Return the suffix and path of each existing file, without codes and vectors."""
    # Datasets may already be split, into files such as D.train.inter.
    parts = [f"{part}.inter" for part in config["benchmark_filename"] or ()]
    for suffix in (*SUFFIXES, *parts):
        path = dataset_path(config, suffix)
        if path.is_file():
            yield suffix, path


def vectors_read(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the suffixes of the vectors that a model reads."""
    # Only models that read vectors have this setting, whatever its value.
    return () if config["preprocess_missing_vectors"] is None else VECTORS


def append_suffix(prefix: Path, suffix: str) -> Path:
    """Append ``suffix`` to ``prefix``, even if the dataset's name contains a dot."""
    return prefix.with_name(prefix.name + suffix)


def check_dataset(data_path: str | Path, name: str, parts: Sequence[str] | None = None) -> None:
    """Refuse a missing dataset before other work is done for it.

    The default dataset is created, and datasets that RecBole can download are downloaded, when they are read.

    Args:
        data_path: Parent folder of all datasets.
        name: Name of the dataset.
        parts: RecBole's ``benchmark_filename``.

    Raises:
        DataError: With the full path of the folder, and a dataset with a similar name.
    """
    folder = Path(data_path, name).absolute()
    if name == _OF_RECBOLE:
        return
    if not folder.exists():
        if name != DEFAULT_DATASET and name not in _downloads():
            raise no_such_dataset(folder)
        return
    for part in parts or [""]:
        path = folder / ".".join(filter(None, (name, part, "inter")))
        if not path.is_file():
            found = (
                ", ".join(sorted(file.name for file in folder.glob("*.inter"))[:_MOST_NAMED]) if folder.is_dir() else ""
            )
            there = f"There is {found}: the files of a dataset are named like its folder." if found else _ADVICE
            raise DataError(path, "file not found", there)


def no_such_dataset(folder: Path) -> DataError:
    """Return the error for a dataset without a folder."""
    all_of_them = folder.parent
    if not all_of_them.is_dir():
        return DataError(
            all_of_them,
            f"no such folder, so there is no dataset '{folder.name}'",
            "Set data_path to another folder.",
        )
    there = sorted(path.name for path in all_of_them.iterdir() if path.is_dir() and not path.name.startswith("."))
    near = nearest(folder.name, there)
    return DataError(folder, "no such dataset", f"Did you mean '{near}'?" if near else _ADVICE)


def _downloads() -> frozenset[str]:
    """Return the datasets that RecBole can download."""
    files = (recbole_properties() / "dataset").glob("*url.yaml")
    return frozenset(name for file in files for name in read_shipped(file))

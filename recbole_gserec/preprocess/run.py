"""The offline stage for a dataset that settings name, or the part of it that models without searches need."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from recbole.config import Config

from recbole_gserec.data import SearchDataset, TrainingHistories, dataset_fingerprint, query_texts
from recbole_gserec.errors import SettingError
from recbole_gserec.preprocess.pipeline import check_parts, make_codes
from recbole_gserec.preprocess.prompts import read_item_texts
from recbole_gserec.preprocess.vectors import make_recommendation_vectors
from recbole_gserec.settings import (
    DEFAULT_DATA_PATH,
    PreprocessSettings,
    append_suffix,
    check_dataset,
    check_writable,
    dataset_path,
    make_config,
    split_machine,
    store_path,
)

logger = logging.getLogger(__name__)


@contextmanager
def exclusive_lock(path: str | Path) -> Iterator[None]:
    """Wait until no other process is in such a block for the same file. Afterwards, check whether the file exists.

    The lock is released when its process ends, for whatever reason.

    Args:
        path: The file to make: codes or vectors. Vectors use the path of the codes too.
    """
    path = Path(path)
    file = path.with_name(f".{path.name}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Another process is making the files of %s; waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        # Remove the file before releasing it: waiting processes check whether the file that they opened still exists.
        file.unlink(missing_ok=True)
        lock.release()


def preprocess_dataset(dataset: str, settings: Mapping[str, Any]) -> Path:
    """Make the codes of a dataset.

    Args:
        dataset: Name of the dataset.
        settings: Settings of RecBole and of the offline stage that differ from the defaults.

    Returns:
        The ``.code`` file.

    Raises:
        GSERecError: For settings, files or data that cannot be used.
    """
    requested, machine = split_machine({"show_progress": True, **settings})
    check_dataset(requested.get("data_path") or DEFAULT_DATA_PATH, dataset, requested.get("benchmark_filename"))
    return make_codes_from_config(make_config("GSERec", dataset, requested, machine))


def make_codes_from_config(config: Config, *, only_missing: bool = False) -> Path:
    """Make the codes of a configured dataset from its training part; return the ``.code`` file.

    Args:
        config: RecBole's settings.
        only_missing: Whether to keep codes that another process made in the meantime, whatever their settings.
    """
    check_writable(dataset_path(config, "code").parent, "set code_path to a file in another folder")
    part = _training_part(config)
    path = append_suffix(part.code_prefix, ".code")
    with exclusive_lock(path):
        if only_missing and path.is_file():
            return path
        return make_codes(
            part.histories,
            part.item_texts,
            part.code_prefix,
            part.settings.model_copy(update={"preprocess_store": str(store_path(config))}),
            part.fingerprint,
            other_texts=part.records if part.settings.text_vectors else None,
            validation_items=part.validation_items,
            device=str(config["device"]),
            show_progress=bool(config["show_progress"]),
        )


def make_vectors_from_config(config: Config) -> list[Path]:
    """Make the text vectors of a configured dataset from its training interactions; return the files."""
    part = _training_part(config)
    return make_recommendation_vectors(
        part.histories,
        part.item_texts,
        part.records,
        part.prefix,
        part.settings,
        part.fingerprint,
        show_progress=bool(config["show_progress"]),
    )


class _TrainingPart(NamedTuple):
    """What the stage reads from a dataset.

    Attributes:
        histories: The users' histories.
        item_texts: Text by item, if it has one.
        records: ``item`` and ``query``: text by id, for each one with an id in the dataset.
        prefix: ``<data_path>/<D>/<D>``.
        code_prefix: The same for codes, which may be elsewhere.
        settings: Settings of the stage.
        fingerprint: Fingerprint of the data.
        validation_items: int64 ``[n_users]``, internal id of each user's validation item, -1 for none. For the report
            alone: it is not of the training part.
    """

    histories: TrainingHistories
    item_texts: dict[str, str]
    records: dict[str, dict[str, str]]
    prefix: Path
    code_prefix: Path
    settings: PreprocessSettings
    fingerprint: dict[str, Any]
    validation_items: np.ndarray


def _training_part(config: Config) -> _TrainingPart:
    settings = PreprocessSettings.from_config(config.final_config_dict)
    check_parts(settings)
    plain = copy.copy(config)
    suffixes = [suffix for suffix in config["additional_feat_suffix"] or [] if suffix != "code"]
    if "query" not in suffixes:
        raise SettingError(f"additional_feat_suffix is {suffixes}; the offline stage also reads 'query'")
    plain.final_config_dict = {**config.final_config_dict, "additional_feat_suffix": suffixes}
    dataset = SearchDataset(plain)
    validation_items = _validation_items(dataset, dataset.build())
    item_texts = read_item_texts(
        dataset.file_path("item"),
        item_field=dataset.iid_field,
        separator=config["field_separator"],
        encoding=config["encoding"] or "utf-8",
    )
    items, queries = (dataset.field2id_token[field][1:].tolist() for field in (dataset.iid_field, "query_id"))
    records = {
        "item": {item: item_texts.get(item, "") for item in items},
        "query": dict(zip(queries, query_texts(dataset)[1:], strict=True)),
    }
    prefix = Path(dataset.dataset_path) / dataset.dataset_name
    code_prefix = Path(dataset.file_path("code")).with_suffix("")
    fingerprint = dataset_fingerprint(dataset.dataset_path, dataset.dataset_name, plain)
    return _TrainingPart(
        TrainingHistories(dataset), item_texts, records, prefix, code_prefix, settings, fingerprint, validation_items
    )


def _validation_items(dataset: SearchDataset, parts: Sequence[SearchDataset]) -> np.ndarray:
    """Return the first validation item of each user but the padding one; -1 for none, or without a validation part."""
    items = np.full(dataset.user_num - 1, -1)
    # Splits with two parts have one of the two held-out ones.
    if len(parts) == 3:
        rows = parts[1].inter_feat
        users, first = np.unique(rows[dataset.uid_field].numpy(), return_index=True)
        items[users - 1] = rows[dataset.iid_field].numpy()[first]
    return items

"""The offline stage for a dataset named by its settings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.config import Config

from recbole_gserec.config import without_arguments
from recbole_gserec.data.dataset import SearchDataset
from recbole_gserec.data.fingerprint import dataset_fingerprint
from recbole_gserec.data.training_histories import TrainingHistories, query_texts
from recbole_gserec.preprocess.item_texts import read_item_texts
from recbole_gserec.preprocess.pipeline import make_codes
from recbole_gserec.preprocess.settings import PreprocessSettings


def preprocess_dataset(dataset: str, config_files: list[str], config_dict: dict[str, Any]) -> Path:
    """Make the codes of a dataset.

    Args:
        dataset: Its name.
        config_files: RecBole config files.
        config_dict: Settings on top of them.

    Returns:
        The ``.code`` file.
    """
    with without_arguments():
        config = Config("GSERec", dataset, config_file_list=config_files, config_dict=config_dict)
    return make_codes_from_config(config)


def make_codes_from_config(config: Config) -> Path:
    """Make the codes of a configured dataset from its training part; returns the ``.code`` file."""
    settings = PreprocessSettings.from_config(config.final_config_dict)
    plain = copy.copy(config)
    suffixes = [suffix for suffix in config["additional_feat_suffix"] if suffix != "code"]
    plain.final_config_dict = {**config.final_config_dict, "additional_feat_suffix": suffixes}
    dataset = SearchDataset(plain)
    dataset.build()
    fingerprint = dataset_fingerprint(dataset.dataset_path, dataset.dataset_name, plain)
    item_texts = read_item_texts(
        dataset.file_path("item"),
        item_field=dataset.iid_field,
        separator=config["field_separator"],
        encoding=config["encoding"] or "utf-8",
    )
    kinds = {"item": lambda: _item_texts(dataset, item_texts), "query": lambda: _query_texts(dataset)}
    return make_codes(
        TrainingHistories(dataset),
        item_texts,
        Path(dataset.file_path("code")).with_suffix(""),
        settings,
        fingerprint,
        other_texts={kind: texts() for kind, texts in kinds.items() if kind in settings.text_vectors},
        device=str(config["device"]),
        show_progress=bool(config["show_progress"]),
    )


def _item_texts(dataset: SearchDataset, item_texts: Mapping[str, str]) -> dict[str, str]:
    """Text of every item that has an id in the dataset."""
    return {item: item_texts.get(item, "") for item in dataset.field2id_token[dataset.iid_field][1:]}


def _query_texts(dataset: SearchDataset) -> dict[str, str]:
    """Text of every query that has an id in the dataset."""
    return dict(zip(dataset.field2id_token["query_id"][1:], query_texts(dataset)[1:], strict=True))

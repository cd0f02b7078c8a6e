"""The offline stage for a dataset named by its settings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from recbole.config import Config

from recbole_gserec.config import without_arguments
from recbole_gserec.data.dataset import SearchDataset
from recbole_gserec.data.fingerprint import dataset_fingerprint
from recbole_gserec.data.training_histories import TrainingHistories
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
    prefix = Path(dataset.file_path("code")).with_suffix("")
    show_progress = bool(config["show_progress"])
    return make_codes(
        TrainingHistories(dataset), item_texts, prefix, settings, fingerprint, show_progress=show_progress
    )

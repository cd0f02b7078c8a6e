"""Checks a run before its settings are logged and its data is read.

RecBole first logs some two hundred lines of settings. Only then does it report a missing dataset, column or folder,
with messages of its libraries. It does not report a missing GPU at all.
"""

import os
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path

import numpy as np
import recbole.utils
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.utils import ModelType

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import field_types
from recbole_gserec.report import plural
from recbole_gserec.settings.dataset_paths import check_dataset, dataset_path
from recbole_gserec.settings.defaults import model_settings
from recbole_gserec.settings.names import listed_settings

_KNOWLEDGE = ("kg", "link")
"""Files that RecBole's knowledge-aware models read."""
_FEATURES = ("selected_features", "item_attribute")
"""Settings of RecBole's models that name columns of ``.item``."""
_OF_EVENTS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")
_OF_GPUS = ("gpu_id", "use_gpu", "enable_amp", "enable_scaler")


def begin_run(config: Config) -> None:
    """Replace RecBole's ``init_logger``, which a run calls first with its settings, and check the run before.

    Args:
        config: RecBole's settings. ``use_gpu`` becomes False if there is no usable GPU.

    Raises:
        GSERecError: See :func:`check_run`.
    """
    # Settings of a checkpoint have this. They belong to an earlier run, and nothing is written for them.
    if "dataset_files" not in vars(config):
        check_run(config)
    # Through its module, because it may have been replaced since this one was imported.
    recbole.utils.init_logger(config)
    warn_without_gpu(config)


def check_run(config: Config) -> None:
    """Refuse a run that cannot succeed.

    Args:
        config: RecBole's settings.

    Raises:
        DataError: If the dataset, or a file or column that the model reads, is missing.
        SettingError: If settings leave out such a column, or name a folder that is not writable.
    """
    # RecBole has appended the dataset's own name.
    folder = Path(config["data_path"])
    check_dataset(folder.parent, config["dataset"], config["benchmark_filename"])
    # A missing dataset is created or downloaded when it is read.
    if folder.is_dir():
        _check_files(config)
        _check_columns(config)
    _check_pretraining(config)
    check_writable(config["checkpoint_dir"], "set checkpoint_dir to another folder")
    check_writable("log", "RecBole writes its logs to the current folder: start it in another one")


def check_negatives_left(datasets: Sequence[Dataset]) -> None:
    """Refuse users who interacted with all items, because no negatives can be drawn for them.

    Args:
        datasets: The parts of a split.

    Raises:
        SettingError: With one of them.
    """
    whole = datasets[0]
    uid, iid, n_items = whole.uid_field, whole.iid_field, whole.item_num - 1
    users, items = (np.concatenate([part.inter_feat[field].numpy() for part in datasets]) for field in (uid, iid))
    counts = np.bincount(np.unique(users.astype(np.int64) * (n_items + 1) + items) // (n_items + 1))
    full = np.flatnonzero(counts >= n_items)
    if len(full):
        user = whole.id2token(uid, full[0])
        who, what = plural("user", len(full)), plural("item", n_items)
        raise SettingError(
            f"{len(full):,} {who} interacted with all {n_items} {what} (such as '{user}'), so no item is left as a "
            f'negative. Leave these users out with --user_inter_num_interval="[0,{n_items})", or add items'
        )


def check_writable(folder: str | Path, advice: str) -> None:
    """Refuse a folder that cannot be created or is not writable.

    Args:
        folder: The folder, which may be missing.
        advice: Advice on what the user can do.

    Raises:
        SettingError: With the full path.
    """
    folder = Path(folder).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        what = "is a file, not a folder" if there == folder else f"cannot be created, because {there} is a file"
        raise SettingError(f"{folder}: {what}; {advice}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SettingError(f"{folder}: no permission to write there; {advice}")


def _check_files(config: Config) -> None:
    """Refuse a missing file that one of RecBole's models reads besides ``.inter``; our models check this themselves."""
    if model_settings(config["model"]):
        return
    is_of_knowledge = config["MODEL_TYPE"] == ModelType.KNOWLEDGE
    for suffix in [*(_KNOWLEDGE if is_of_knowledge else ()), *(config["additional_feat_suffix"] or [])]:
        path = dataset_path(config, suffix)
        if not path.is_file():
            why = "a knowledge graph" if is_of_knowledge else "additional_feat_suffix"
            advice = "Put it there as one of RecBole's atomic files, or choose another model."
            raise DataError(path.absolute(), f"file not found; {config['model']} reads it ({why})", advice)


def _check_columns(config: Config) -> None:
    """Refuse missing columns that every run reads, or that a setting of the model names."""
    if not isinstance(config["load_col"] or {}, Mapping):
        form = "{inter: [user_id, item_id, timestamp]}"
        raise SettingError(f"load_col is {config['load_col']!r}; it must list columns by file, such as {form}")
    in_time_order = config["eval_args"].get("order") == "TO" or config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    names = _OF_EVENTS if in_time_order else _OF_EVENTS[:2]
    parts = [f"{part}.inter" for part in config["benchmark_filename"] or ()] or ["inter"]
    header = _header(config, parts[0])
    for name in names:
        if config[name]:
            _check_column(config, "inter", header, config[name], name)
    # Config files serve several models: what this model does not read may be missing.
    for name in listed_settings(config["model"]).intersection(_FEATURES):
        columns = config[name] or []
        for column in [columns] if isinstance(columns, str) else columns:
            _check_column(config, "item", _header(config, "item"), column, name)


def _check_pretraining(config: Config) -> None:
    """Refuse a pretraining that ends before its first checkpoint."""
    if "pretrain_epochs" not in listed_settings(config["model"]):
        return
    stage, epochs, step = (config[name] for name in ("train_stage", "pretrain_epochs", "save_step"))
    if str(stage).endswith("pretrain") and epochs and step and epochs < step:
        raise SettingError(
            f"pretrain_epochs is {epochs}, and {config['model']} saves its weights only every {step} epochs "
            f"(save_step): nothing would be saved. Set save_step to {epochs} or less"
        )


def _header(config: Config, suffix: str) -> list[str]:
    path = dataset_path(config, suffix)
    options = {"separator": config["field_separator"], "encoding": config["encoding"] or "utf-8"}
    return list(field_types(path, **options)) if path.is_file() else []


def _check_column(config: Config, suffix: str, header: list[str], column: str, setting: str) -> None:
    if column not in header:
        to_load = {"inter": [config[name] for name in _OF_EVENTS], suffix: [config["ITEM_ID_FIELD"], "COLUMN"]}
        load = f', and load it: --load_col="{to_load}"' if suffix == "item" else ""
        found = f"It has {', '.join(header)}: set" if header else "Write it, and set"
        problem = f"no column '{column}', which {config['model']} reads ({setting})" if header else "file not found"
        raise DataError(
            dataset_path(config, suffix).absolute(), problem, f"{found} {setting} to one of its columns{load}."
        )
    loaded = _loaded(config, suffix, header)
    if column in loaded:
        return
    needed = [config[name] for name in _OF_EVENTS] if suffix == "inter" else [config["ITEM_ID_FIELD"], column]
    wanted = [name for name in header if name in (*loaded, *needed)]
    read = ("inter", "user", "item", *(config["additional_feat_suffix"] or ()))
    kept = {name: columns for name, columns in (config["load_col"] or {}).items() if name in read}
    raise SettingError(
        f"{config['model']} reads the column '{column}' of .{suffix} ({setting}), which the settings do not load. "
        f'Set --load_col="{ {**kept, suffix: wanted} }"'
    )


def _loaded(config: Config, suffix: str, header: list[str]) -> list[str]:
    """Return the columns of a file that RecBole loads."""
    load, unload = config["load_col"], (config["unload_col"] or {}).get(suffix) or ()
    named = header if load is None else load.get(suffix, [])
    return [name for name in (header if named == "*" else named or ()) if name not in unload]


def warn_without_gpu(config: Config) -> None:
    """Warn about settings that request a GPU if there is none, and set them to use none."""
    if config["device"].type != "cpu":
        return
    # In RecBole's form: a list of numbers is a text.
    requested = {name: config[name] for name in _OF_GPUS if name in config.external_config_dict}
    asked = [
        f"{name}={value}"
        for name, value in requested.items()
        if value is not None and value is not False and value != ""
    ]
    config["use_gpu"] = False
    if asked:
        half = ", in bfloat16 because of enable_amp" if requested.get("enable_amp") else ""
        getLogger().warning(f"{', '.join(asked)}: PyTorch finds no such GPU, so this run uses the CPU{half}")

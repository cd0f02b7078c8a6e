"""Default settings by model and dataset, and the check that every requested setting is known."""

import copy
import os
import re
from collections.abc import Container, Iterable, Mapping
from functools import cache
from itertools import chain
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole.utils import argument_list

from dataset_converters import ML_100K
from recbole_gserec.errors import SettingError, nearest
from recbole_gserec.files import is_plain_name
from recbole_gserec.settings.defaults import (
    RECBOLE_MODELS_WITH_OBJECTIVE,
    dataset_settings,
    is_search_aware,
    model_settings,
    objective_settings,
    preset_file,
    properties_folder,
    protocol_settings,
    read_shipped,
    recbole_properties,
    registered_models,
)

DEFAULT_DATASET = ML_100K
_MOST_TOLD = 20
_LOWER_FILES = ("LightGBM", "XGBoost")
"""Models whose files have lower-case names in RecBole."""
_MOST_NAMED = 3
"""Maximum number of models that a message lists."""

# Settings that RecBole or its launcher reads but no YAML file of RecBole contains; the last three belong to a
# transform.
_UNLISTED = """
    model dataset config_files nproc world_size ip port group_offset offset local_rank queue
    double_tower numerical_features discretization encoding valid_metric_bigger tail_ratio wandb_project
    eval_neg_sample_args single_spec preset all_items_users
    mask_ratio ft_ratio beta
""".split()
_UNLISTED_OF_MODELS = """
    loss_type neg_sampling training_neg_sample_num reg_weight train_rec_step train_kg_step
""".split()
# Settings that RecBole's models read but their files do not contain.
_UNLISTED_BY_MODEL = {
    "FEARec": {"tau", "contrast", "sim", "use_filter"},
    "HRM": {"reg_weight"},
    **{model: objective_settings().keys() for model in RECBOLE_MODELS_WITH_OBJECTIVE},
}
_OF_ALL_LOSSES = {"loss_type", "neg_sampling", "training_neg_sample_num"}
"""Settings of RecBole's models that its Config reads for every model."""


def has_searches(folder: str | Path, dataset: str) -> bool:
    """Return whether a dataset has a ``.search`` file, or is the default one, which may not exist yet.

    Args:
        folder: The dataset's own folder.
        dataset: Name of the dataset.
    """
    return dataset == DEFAULT_DATASET or (Path(folder) / f"{dataset}.search").is_file()


def plugin_defaults(model: str, dataset: str, data_path: str, is_sequential: bool) -> dict[str, Any]:
    """Return the defaults that override RecBole's.

    Args:
        model: Name of the model.
        dataset: Name of the dataset.
        data_path: Parent folder of all datasets.
        is_sequential: Whether the model is one of RecBole's sequential models.

    Returns:
        Settings. On a dataset without searches, those of the protocol apply only to search-aware models, and RecBole's
        own models have none but those of our losses, if they can have them.
    """
    settings = model_settings(model)
    if model in RECBOLE_MODELS_WITH_OBJECTIVE:
        own = {"loss_type"}  # Its default is RecBole's or the model's.
        settings = {**{name: value for name, value in objective_settings().items() if name not in own}, **settings}
    if is_search_aware(model) or has_searches(Path(data_path) / dataset, dataset):
        settings = {**protocol_settings(), **settings, **dataset_defaults(model, dataset)}
        if is_sequential:
            settings["repeatable"] = True
    return copy.deepcopy(settings)


def preset_settings(name: Any, model: str) -> dict[str, Any]:
    """Return the settings of a preset in ``properties/preset``; none without a name.

    Raises:
        SettingError: If there is no such preset, or the model does not read all of its settings.
    """
    if name is None:
        return {}
    if not is_plain_name(str(name)):
        raise SettingError(f"preset is '{name}'; it must be the name of a preset, without a folder")
    settings = read_shipped(preset_file(str(name)))
    if others := sorted(settings.keys() - read_settings(model)):
        raise SettingError(f"preset is '{name}', which is not for {model}: {model} does not read '{others[0]}'")
    return dict(settings)


def dataset_defaults(model: str, dataset: str) -> dict[str, Any]:
    """Return those default settings of a dataset that a model reads; few models read the offline stage's.

    A model with its own penalty, ``reg_weight``, does not also get the general one.
    """
    left_out = {"weight_decay"} if "reg_weight" in {*model_settings(model), *_settings_of_recbole(model)} else set()
    known = known_settings(model) - left_out
    return {name: value for name, value in dataset_settings(dataset).items() if name in known}


def known_settings(model: str) -> frozenset[str]:
    """Return the names of all settings that RecBole, this package or the model reads."""
    of_model = {*model_settings(model), *_UNLISTED_BY_MODEL.get(model, ())}
    return _settings_of_all() | _settings_of_models() | of_model | set(protocol_settings())


def read_settings(model: str) -> frozenset[str]:
    """Return the known settings that this model reads, as far as that is known; for our models it is."""
    return known_settings(model) - _unread_settings(model)


def _unread_settings(model: str) -> frozenset[str]:
    """Return the settings of RecBole's models that a model of ours does not read."""
    ours = model_settings(model)
    return _settings_of_models() - ours.keys() - protocol_settings().keys() if ours else frozenset()


@cache
def _settings_of_recbole(model: str) -> frozenset[str]:
    """Return the names in RecBole's file of a model; none if there is no such file."""
    file = model.lower() if model in _LOWER_FILES else model
    return frozenset(_names_in_files(f"model/{file}.yaml"))


@cache
def _settings_of_all() -> frozenset[str]:
    """Return RecBole's settings that do not belong to some models only."""
    lists = (getattr(argument_list, name) for name in dir(argument_list) if name.endswith("_arguments"))
    of_any_model = _names_in_files("model").intersection(chain(*lists))
    files = map(_names_in_files, ("*.yaml", "dataset", "quick_start_config"))
    return frozenset(_UNLISTED).union(of_any_model, *files)


@cache
def _settings_of_models() -> frozenset[str]:
    """Return the settings that some of RecBole's models read."""
    return frozenset(_names_in_files("model")).union(_UNLISTED_OF_MODELS) - _settings_of_all()


def _names_in_files(pattern: str) -> set[str]:
    """Return the names of the settings in files of RecBole."""
    found = recbole_properties().glob(pattern)
    files = [file for path in found for file in (path.rglob("*.yaml") if path.is_dir() else [path])]
    files = [file for file in files if not file.name.endswith("url.yaml")]  # They contain names of datasets.
    # RecBole reads these files with a full YAML loader; here, only the names of the settings are needed.
    contents = [read_shipped(file) for file in files]
    return {name for content in contents if isinstance(content, dict) for name in content}


def check_names(requested: Iterable[str], model: str, lenient: Container[str] = ()) -> None:
    """Refuse an unknown setting, which is usually a typing error.

    For RecBole's own models and users' models of its kind, which may read further settings, this only warns.
    :func:`warn_of_unread` covers settings that other models read.

    Args:
        requested: Names of the requested settings.
        model: Name of the model.
        lenient: Names for which this only warns.

    Raises:
        SettingError: With the most similar known name.
    """
    ours, known = model_settings(model), known_settings(model)
    of_others = settings_of_others(model)
    unknown = [name for name in requested if name not in known and name not in of_others]
    refused = [name for name in unknown if ours and name not in lenient]
    problems = [SettingError.unknown(name, sorted(known)) for name in (refused[:1] or unknown[:_MOST_TOLD])]
    if refused:
        raise problems[0]
    for error in problems:
        getLogger().warning(str(error))
    if len(unknown) > len(problems):
        getLogger().warning(f"{len(unknown) - len(problems):,} more settings are unknown")


def warn_of_unread(requested: Iterable[str], model: str) -> None:
    """Warn about settings that only other models read, because config files may serve several models."""
    for name in sorted(set(requested) & settings_of_others(model)):
        getLogger().warning(unread(name, model))


def unread(name: str, model: str) -> str:
    """Describe a setting that other models read and this one does not."""
    readers = models_reading(name)
    whose = f"a setting of {', '.join(readers)}" if len(readers) <= _MOST_NAMED else "a setting of other models"
    why = "it has no default" if model in registered_models() else "it has no effect"
    return f"{model} does not read '{name}', {whose}: {why}"


def settings_of_others(model: str) -> set[str]:
    """Return the settings that some model reads and this one does not."""
    if model not in known_models():
        # A model of RecBole's kind without known settings.
        return set()
    own = {*model_settings(model), *_settings_of_recbole(model), *_UNLISTED_BY_MODEL.get(model, ())}
    if not model_settings(model):
        own |= _OF_ALL_LOSSES
    others = set().union(*map(listed_settings, known_models()), _UNLISTED_OF_MODELS)
    return others - own - _settings_of_all() - protocol_settings().keys()


def models_reading(name: str) -> list[str]:
    """Return the models that list a setting as theirs, in alphabetical order."""
    return sorted(model for model in known_models() if name in listed_settings(model))


def listed_settings(model: str) -> set[str]:
    """Return the settings in a model's files: those of this package for our models, otherwise RecBole's."""
    return {*model_settings(model)} or {*_settings_of_recbole(model), *_UNLISTED_BY_MODEL.get(model, ())}


def lists_loss_type(model: str) -> bool:
    """Return whether a model lists ``loss_type``, so that its loss is a choice."""
    return "loss_type" in listed_settings(model)


def takes_objective(model: str) -> bool:
    """Return whether a model can be trained by the losses in ``properties/objective.yaml``."""
    named = model in registered_models() or model in RECBOLE_MODELS_WITH_OBJECTIVE
    return lists_loss_type(model) and (named or bool(model_settings(model)))


def known_models() -> frozenset[str]:
    """Return the names of all models in RecBole and this package, and of registered ones."""
    return _shipped_models() | registered_models()


@cache
def _shipped_models() -> frozenset[str]:
    folders = (properties_folder(), recbole_properties())
    shipped = {path.stem for folder in folders for path in (folder / "model").glob("*.yaml")}
    # The first has no settings, and the files of the others have other names.
    return frozenset(shipped - {name.lower() for name in _LOWER_FILES} | {"Random", *_LOWER_FILES})


def check_model(model: str) -> None:
    """Refuse an unknown model.

    Raises:
        SettingError: With the most similar known name.
    """
    known = known_models()
    if is_model_file(model):
        raise SettingError(
            f"'{model}' is a Python file. Its code only runs if you name it yourself, with --model or "
            "run_recbole(model=...)"
        )
    if model not in known:
        if reason := why_not_loaded(model):
            raise SettingError(reason)
        near = nearest(model, sorted(known))
        own = "Register your own models with register_model."
        hint = f"Did you mean '{near}'?" if near else own
        raise SettingError(f"there is no model '{model}'. {hint}")


def check_dataset_name(dataset: str) -> None:
    """Refuse a path or an empty text as the name of a dataset.

    Raises:
        SettingError: With the name.
    """
    if not is_plain_name(dataset):
        raise SettingError(
            f"'{dataset}' is not a dataset name. Give the name only; set its parent folder with --data-path"
        )


# ---- models in files of the user's ---------------------------------------------------------------------------------

MODEL_FILES_VARIABLE = "RECBOLE_GSEREC_MODEL_FILES"
"""Environment variable with the files that the user has named, for child processes: a list in JSON."""

MODEL_FILE_FORM = re.compile(r"(.+\.py)(?::(.*))?", re.DOTALL)
failures: dict[str, str] = {}
"""Models that another process has loaded and this one could not, each with the reason."""


def is_model_file(text: object) -> bool:
    """Whether a text is a file of Python and a class in it, or looks as if it should be."""
    return isinstance(text, str) and MODEL_FILE_FORM.fullmatch(text) is not None


def why_not_loaded(model: str) -> str | None:
    """Why a model that the user has named could not be loaded in this process; None if nothing is known of that."""
    return failures.get(model)


def model_files_environment() -> Mapping[str, str]:
    """What a process on another machine has to find in its environment to know the same models."""
    return {MODEL_FILES_VARIABLE: os.environ[MODEL_FILES_VARIABLE]} if MODEL_FILES_VARIABLE in os.environ else {}

"""Hooks into how RecBole reads settings and finds models, each with its reason."""

import ast
import copy
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import recbole.config.configurator
import recbole.model.context_aware_recommender.kd_dagfm as kd_dagfm
import recbole.model.general_recommender.ldiffrec as ldiffrec
import recbole.quick_start.quick_start
import recbole.trainer.hyper_tuning as hyper_tuning
import recbole.utils.utils
from recbole.config import Config
from recbole.utils import InputType, ModelType
from recbole.utils.argument_list import dataset_arguments

from recbole_gserec.errors import DataError, SettingError, missing_library
from recbole_gserec.evaluation import check_evaluation
from recbole_gserec.files import Loader, read_value
from recbole_gserec.plugin.checkpoint import check_pretrained
from recbole_gserec.plugin.model_registry import named_model
from recbole_gserec.settings import (
    MODELS,
    check_choice,
    check_model,
    check_names,
    check_values,
    for_train_rows,
    gpu_ids,
    is_model_file,
    plugin_defaults,
    preset_settings,
    read_config_files,
    warn_of_unread,
    without_login,
)

_LIBRARIES_OF_TREES = ("lightgbm", "xgboost")
"""What RecBole's models of decision trees import, each of them both."""


DATASET_SETTINGS = (
    "MAX_SEARCH_LIST_LENGTH",
    "MAX_CLICK_LIST_LENGTH",
    "unordered_timestamps",
    "short_users",
    "eval_candidate_seed",
    "resample_negatives",
    "code_path",
)


def evaluate_nothing() -> None:
    """Treat settings as data and never as code.

    RecBole passes texts to ``eval``: all those on the command line and in dictionaries, values in a file for
    ``HyperTuning``, and the name of KD_DAGFM's teacher. LDiffRec also reads vectors that may be pickled.
    """

    def _convert_config_dict(self: Any, requested: Any) -> dict[str, Any]:
        return {name: read_value(name, value) if isinstance(value, str) else value for name, value in requested.items()}

    def choices(text: str) -> Any:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise SettingError(f"'{text[:80]}' is not a list of values such as [0.01, 0.001]") from error

    networks = {name: getattr(kd_dagfm, name) for name in ("CIN", "CrossNet", "DAGFM")}

    def teacher(name: str) -> Any:
        check_choice("teacher", name, tuple(networks))
        return networks[name]

    def load(path: str, **_: Any) -> Any:
        try:
            return np.load(path, allow_pickle=False)
        except ValueError as error:
            advice = "Save the items' vectors as an array of numbers, with numpy.save."
            raise DataError(path, "not an array of numbers", advice) from error

    Config._convert_config_dict = _convert_config_dict
    Config._load_config_files = lambda self, files: read_config_files(files or [])
    Config._build_yaml_loader = lambda self: Loader
    # A name of the module comes before the builtin function.
    hyper_tuning.eval, kd_dagfm.eval = choices, teacher
    ldiffrec.np = SimpleNamespace(**{**vars(np), "load": load})


def add_settings() -> None:
    """Add our YAML files with RecBole's rules of precedence, and check for settings that nothing reads.

    Config cannot load defaults from other packages, and applies ``quick_start_config`` after the model's YAML.
    """
    # A dataset cached under other values of these would otherwise be taken for the right one.
    dataset_arguments.extend(name for name in DATASET_SETTINGS if name not in dataset_arguments)
    load_stock = Config._load_internal_config_dict

    def _load_internal_config_dict(self: Any, model: str, model_class: Any, dataset: str) -> None:
        load_stock(self, model, model_class, dataset)
        requested, internal = self.external_config_dict, self.internal_config_dict
        if "gpu_id" in requested:
            # RecBole joins a tuple alone.
            requested["gpu_id"] = gpu_ids(requested["gpu_id"])
        # The command line may be that of a user's own program, with flags of its own: those are only warned of.
        check_names(requested, model, lenient=self.cmd_config_dict)
        warn_of_unread(requested, model)
        check_values(requested, model)
        check_pretrained(requested)
        if requested.get("use_gpu") is False and "local_rank" not in requested:
            # RecBole asks for the number of a GPU alone, and would use the first.
            requested["gpu_id"] = ""
        data_path = requested.get("data_path", internal["data_path"])
        is_sequential = model_class.type == ModelType.SEQUENTIAL
        preset = preset_settings(requested.get("preset"), model)
        defaults = plugin_defaults(model, dataset, data_path, is_sequential)
        defaults = {**for_train_rows(defaults, {**preset, **requested}), **preset}
        internal.update(defaults)
        follows_protocol = "eval_args" in defaults
        if follows_protocol and isinstance(requested.get("eval_args"), dict):
            # Changing one part of the protocol, such as the mode, leaves the others as they are.
            requested["eval_args"] = {**defaults["eval_args"], **requested["eval_args"]}
        loss_type = None if hasattr(model_class, "input_type") else {**internal, **requested}.get("loss_type")
        if is_sequential and loss_type == "CE":
            # RecBole refuses to run with its own default here: cross entropy takes no sampled negatives.
            internal["train_neg_sample_args"] = None
        if is_sequential and loss_type not in (None, "CE", "BPR"):
            # RecBole knows what these two take. A model without another loss says so itself.
            internal["MODEL_INPUT_TYPE"] = InputType.PAIRWISE
        if follows_protocol and model_class.type == ModelType.CONTEXT and not requested.get("threshold"):
            # RecBole's default is to read labels; a search-extended dataset has none.
            internal["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
        check_task({**internal, **requested}, model, model_class)
        if follows_protocol:
            check_evaluation({**internal, **requested}, is_ours=model in MODELS)

    Config._load_internal_config_dict = _load_internal_config_dict
    show_stock = Config.__str__

    def show(self: Any) -> str:
        # RecBole logs all settings.
        shown = copy.copy(self)
        shown.final_config_dict = without_login(self.final_config_dict)
        return show_stock(shown)

    Config.__str__ = show


def check_task(settings: Mapping[str, Any], model: str, model_class: Any) -> None:
    """Refuse to evaluate searches by a model that does not learn to rank items for them, or that knows too much.

    Raises:
        SettingError: With the model.
    """
    if settings.get("eval_task") != "search":
        return
    ranks_searches = getattr(model_class, "ranks_searches", None)
    if ranks_searches is None or not ranks_searches(settings):
        raise SettingError(
            f"eval_task is 'search', but {model}, as it is set, does not learn to rank items for queries. JSR, USER, "
            "UnifiedSSR and UniSAR do, with lambda_src above 0"
        )
    if "code" in (settings.get("additional_feat_suffix") or ()):
        raise SettingError(
            f"eval_task is 'search', but {model} reads codes, which describe searches that are evaluated"
        )


def find_models_in_files() -> None:
    """Allow users to name a model by its file. RecBole only knows models by their names."""
    find_stock = Config._get_model_and_dataset

    def _get_model_and_dataset(self: Any, model: Any, dataset: Any) -> Any:
        if model is None:
            # Not where a file of settings names it: reading settings runs no code.
            model = self.cmd_config_dict.get("model", self.variable_config_dict.get("model"))
        return find_stock(self, named_model(model) if is_model_file(model) else model, dataset)

    Config._get_model_and_dataset = _get_model_and_dataset


def name_missing_models() -> None:
    """Report an unknown model with the nearest known name.

    RecBole looks for it last among the models of LightGBM and XGBoost, and fails if these libraries are missing.
    """
    find_stock = recbole.utils.utils.get_model

    def get_model(model_name: str) -> type:
        if is_model_file(model_name):
            check_model(model_name)
        try:
            return find_stock(model_name)
        except (ImportError, ValueError, AttributeError) as error:
            library = isinstance(error, ModuleNotFoundError) and error.name
            if isinstance(error, ImportError) and library not in _LIBRARIES_OF_TREES:
                raise  # A fault inside a model's own module.
            check_model(model_name)
            if isinstance(error, ImportError):
                raise missing_library(error, model_name) from error
            raise

    for module in (recbole.utils.utils, recbole.utils, recbole.config.configurator, recbole.quick_start.quick_start):
        module.get_model = get_model

"""Every hook into RecBole, each with its reason; nothing else in this package changes RecBole.

Written for RecBole 1.2.0 and 1.2.1, whose code is the same in all places touched here.

"""

from __future__ import annotations

import ast
import copy
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from logging import getLogger
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import recbole
import torch
from recbole.config import Config
from recbole.utils import EvaluatorType, ModelType

from recbole_gserec.data import JointTrainDataLoader, SearchTrainDataLoader
from recbole_gserec.errors import DataError, SettingError, VersionError
from recbole_gserec.evaluation import (
    BoundedFullSortEvalDataLoader,
    CandidateEvalDataLoader,
    SearchCandidateEvalDataLoader,
)
from recbole_gserec.plugin.model_files import load_model_file, load_named_files, named_model
from recbole_gserec.settings import DEFAULT_DATASET, is_model_file

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

    Model = TypeVar("Model", bound=type[AbstractRecommender])

SUPPORTED_VERSIONS = ("1.2.0", "1.2.1")

MODELS = {
    "GSERec": "recbole_gserec.models.gserec",
    "NRHUB": "recbole_gserec.models.nrhub",
    "QuerySeqRec": "recbole_gserec.models.query_seqrec",
    "JSR": "recbole_gserec.models.jsr",
    "USER": "recbole_gserec.models.user",
    "SESRec": "recbole_gserec.models.sesrec",
    "UnifiedSSR": "recbole_gserec.models.unifiedssr",
    "UniSAR": "recbole_gserec.models.unisar",
    "KAR": "recbole_gserec.models.kar",
    "LLMESR": "recbole_gserec.models.llmesr",
}
"""Models with a dataset and a trainer of ours, of search-extended data: name -> module that has the class."""

RECOMMENDATION_MODELS = {
    "SimGCL": "recbole_gserec.models.simgcl",
    "CL4SRec": "recbole_gserec.models.cl4srec",
}
"""Our models that need no searches and are RecBole's in all else: its datasets, dataloaders and trainer."""

_LIBRARIES_OF_TREES = ("lightgbm", "xgboost")
"""What RecBole's models of decision trees import, each of them both."""

MODELS_OF_OTHERS = "recbole_gserec.models"
"""Group of entry points by which other packages name their search-aware models."""


def register() -> None:
    """Make RecBole know this package. Safe to call more than once.

    Raises:
        VersionError: For a RecBole version this module was not written for.
    """
    if recbole.__version__ not in SUPPORTED_VERSIONS:
        raise VersionError(
            f"RecBole {recbole.__version__} is installed, but this version of recbole-gserec works with "
            f"{' and '.join(SUPPORTED_VERSIONS)}. Install one of them: pip install 'recbole=={SUPPORTED_VERSIONS[0]}'"
        )
    if getattr(recbole, "_gserec_registered", False):
        return
    _restore_numpy_names()
    _restore_scipy_method()
    _silence_pandas()
    _keep_anomaly_detection_off()
    _clean_worker_arguments()
    _evaluate_nothing()
    _add_settings()
    _add_models()
    _name_missing_models()
    _add_dataset_downloads()
    _check_search_data()
    _unpickle_only_when_asked()
    _keep_runs_apart()
    _replace_evaluation()
    _replace_checkpoints()
    _tell_why_training_fails()
    _replace_entry_points()
    _let_exhaustive_search_draw()
    _find_models_in_files()
    recbole._gserec_registered = True
    _add_models_of_others()
    load_named_files()


@overload
def register_model(model: Model, settings: str | Path | None = None) -> Model: ...


@overload
def register_model(model: str, settings: str | Path | None = None) -> type[AbstractRecommender]: ...


def register_model(model: Any, settings: str | Path | None = None) -> Any:
    """Make a model of another package, of a script or of a file known by the name of its class.

    From then on it is a model like those of this package, in this process. A package that names it as an entry point of
    the group ``recbole_gserec.models`` has it registered wherever it is installed: for the command line, for child
    processes and for Ray workers too.

    Args:
        model: A subclass of :class:`SearchRecommender`, or of a recommender of RecBole's; or the file and the class of
            one, ``"my_model.py:MyModel"``, which processes that are started from this one know as well.
        settings: YAML file with all its settings and their defaults; ``<name of the class>.yaml`` beside its module by
            default. A recommender of RecBole's kind may do without.

    Returns:
        The model, so that this can be used as a decorator.

    Raises:
        SettingError: If it is no such class, another model has its name, or the file is missing.
        DataError: If the file is malformed.
    """
    from recbole.model.abstract_recommender import AbstractRecommender

    from recbole_gserec.models import SearchRecommender
    from recbole_gserec.settings import add_model_file, known_models

    if is_model_file(model):
        return load_model_file(model, settings)
    if not (isinstance(model, type) and issubclass(model, AbstractRecommender)):
        raise SettingError(
            f"{model!r} is no subclass of SearchRecommender, which a search-aware model has to be, or of a recommender "
            "of RecBole's"
        )
    name, module = model.__name__, model.__module__
    is_plain = not issubclass(model, SearchRecommender)
    by_lower = {known.lower(): known for known in known_models()}
    if registered_module(name) != module and name.lower() in by_lower:
        raise SettingError(f"{module}.{name}: there is a model '{by_lower[name.lower()]}' already. Choose another name")
    source = getattr(sys.modules[module], "__file__", None)
    if settings is None:
        if source is None:
            raise SettingError(f"{module}.{name} is not from a file: say which one has its settings")
        settings = Path(source).with_name(f"{name}.yaml")
    add_model_file(name, Path(settings), is_plain=is_plain)
    (RECOMMENDATION_MODELS if is_plain else MODELS)[name] = module
    (_add_plain if is_plain else _add_search_aware)(name, model)
    return model


def forget_model(name: str) -> None:
    """Undo :func:`register_model`: for models that are wanted for a while, such as while they are checked."""
    import recbole.data.dataset
    import recbole.trainer

    from recbole_gserec.settings import forget_model_file

    forget_model_file(name)
    MODELS.pop(name, None)
    RECOMMENDATION_MODELS.pop(name, None)
    sys.modules.pop(f"recbole.model.general_recommender.{name.lower()}", None)
    vars(recbole.data.dataset).pop(f"{name}Dataset", None)
    vars(recbole.trainer).pop(f"{name}Trainer", None)


def registered_module(model: str) -> str | None:
    """Name of the module of a model of this package, or of a registered one; None for others."""
    return MODELS.get(model) or RECOMMENDATION_MODELS.get(model)


def _add_models_of_others() -> None:
    """Register the models that installed packages name as entry points; one that fails stops nothing else."""
    for entry in entry_points(group=MODELS_OF_OTHERS):
        try:
            register_model(entry.load())
        except Exception as error:
            package = entry.dist.name if entry.dist else "?"
            getLogger(__name__).warning("model '%s' of package '%s' cannot be used: %s", entry.name, package, error)


def _restore_numpy_names() -> None:
    """NumPy 2 removed names that RecBole reads, some of them before it builds the Config that would define them."""
    names = {
        "float_": np.float64,
        "complex_": np.complex128,
        "unicode_": np.str_,
        "bool8": np.bool_,
        "float": np.float64,
        "int": np.int_,
        "object": np.object_,
        "str": np.str_,
        "complex": np.complex128,
        "unicode": np.str_,
    }
    for name, value in names.items():
        if name not in np.__dict__:
            setattr(np, name, value)


def _restore_scipy_method() -> None:
    """SciPy 1.13 removed ``dok_matrix._update``, with which LightGCN, NGCF, NCL, ... build their graphs."""
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        return

    def _update(self: Any, data: Any) -> None:
        self._dict.update(data)

    dok_matrix._update = _update


def _silence_pandas() -> None:
    """RecBole's chained assignments work in the pandas versions this package allows; their warnings help no user."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="recbole")


def _keep_anomaly_detection_off() -> None:
    """RecBole's SINE turns on autograd's anomaly detection when it is imported, and with it all sequential models are.

    It makes every training step of every model slower; imported now, it can be undone once for all.
    """
    enabled = torch.is_anomaly_enabled()
    importlib.import_module("recbole.model.sequential_recommender.sine")
    torch.autograd.set_detect_anomaly(enabled)


def _clean_worker_arguments() -> None:
    """Config reads ``sys.argv``; in a Ray worker it holds Ray's own arguments, which would outrank the user's."""
    if Path(sys.argv[0]).name == "default_worker.py":
        sys.argv = sys.argv[:1]


def _evaluate_nothing() -> None:
    """Settings are data, wherever they come from: RecBole hands texts of theirs to ``eval``.

    It does so with every text on the command line and in a dictionary, with values in a file of ``HyperTuning``, and
    with the name of KD_DAGFM's teacher; and LDiffRec reads vectors that may be pickled.
    """
    import recbole.model.context_aware_recommender.kd_dagfm as kd_dagfm
    import recbole.model.general_recommender.ldiffrec as ldiffrec
    import recbole.trainer.hyper_tuning as hyper_tuning
    from recbole.config import Config

    from recbole_gserec.files import Loader, read_value
    from recbole_gserec.settings import check_choice, read_config_files

    def _convert_config_dict(self: Any, given: Any) -> dict[str, Any]:
        return {name: read_value(name, value) if isinstance(value, str) else value for name, value in given.items()}

    def choices(text: str) -> Any:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise SettingError(f"'{text[:80]}' is no list of values such as [0.01, 0.001]") from error

    networks = {name: getattr(kd_dagfm, name) for name in ("CIN", "CrossNet", "DAGFM")}

    def teacher(name: str) -> Any:
        check_choice("teacher", name, tuple(networks))
        return networks[name]

    def load(path: str, **_: Any) -> Any:
        try:
            return np.load(path, allow_pickle=False)
        except ValueError as error:
            remedy = "Save the items' vectors as an array of numbers, with numpy.save."
            raise DataError(path, "not an array of numbers", remedy) from error

    Config._convert_config_dict = _convert_config_dict
    Config._load_config_files = lambda self, files: read_config_files(files or [])
    Config._build_yaml_loader = lambda self: Loader
    # A name of the module comes before the builtin function.
    hyper_tuning.eval, kd_dagfm.eval = choices, teacher
    ldiffrec.np = SimpleNamespace(**{**vars(np), "load": load})


def _add_settings() -> None:
    """Our YAML files under RecBole's rules of precedence, and a check for settings that nothing reads.

    Config has no place for defaults from outside, and applies ``quick_start_config`` after the model's YAML.
    """
    from recbole.config import Config
    from recbole.utils import InputType, ModelType
    from recbole.utils.argument_list import dataset_arguments

    from recbole_gserec.plugin.checkpoint import check_pretrained
    from recbole_gserec.settings import gpu_ids, without_login

    pass
    from recbole_gserec.evaluation import check_evaluation
    from recbole_gserec.settings import check_names, check_values, plugin_defaults, warn_of_unread

    # A dataset cached under other values of these would otherwise be taken for the right one.
    dataset_arguments.extend(name for name in DATASET_SETTINGS if name not in dataset_arguments)
    load_stock = Config._load_internal_config_dict

    def _load_internal_config_dict(self: Any, model: str, model_class: Any, dataset: str) -> None:
        load_stock(self, model, model_class, dataset)
        given, internal = self.external_config_dict, self.internal_config_dict
        if "gpu_id" in given:
            # RecBole joins a tuple alone.
            given["gpu_id"] = gpu_ids(given["gpu_id"])
        # The command line may be that of a user's own program, with flags of its own: those are only warned of.
        check_names(given, model, lenient=self.cmd_config_dict)
        warn_of_unread(given, model)
        check_values(given, model)
        check_pretrained(given)
        if given.get("use_gpu") is False and "local_rank" not in given:
            # RecBole asks for the number of a GPU alone, and would use the first.
            given["gpu_id"] = ""
        data_path = given.get("data_path", internal["data_path"])
        is_sequential = model_class.type == ModelType.SEQUENTIAL
        defaults = plugin_defaults(model, dataset, data_path, is_sequential)
        internal.update(defaults)
        follows_protocol = "eval_args" in defaults
        if follows_protocol and isinstance(given.get("eval_args"), dict):
            # Changing one part of the protocol, such as the mode, leaves the others as they are.
            given["eval_args"] = {**defaults["eval_args"], **given["eval_args"]}
        loss_type = None if hasattr(model_class, "input_type") else {**internal, **given}.get("loss_type")
        if is_sequential and loss_type == "CE":
            # RecBole refuses to run with its own default here: cross entropy takes no sampled negatives.
            internal["train_neg_sample_args"] = None
        if is_sequential and loss_type not in (None, "CE", "BPR"):
            # RecBole knows what these two take. A model without another loss says so itself.
            internal["MODEL_INPUT_TYPE"] = InputType.PAIRWISE
        if follows_protocol and model_class.type == ModelType.CONTEXT and not given.get("threshold"):
            # RecBole's default is to read labels; a search-extended dataset has none.
            internal["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
        if follows_protocol:
            check_evaluation({**internal, **given}, is_ours=model in MODELS)

    Config._load_internal_config_dict = _load_internal_config_dict
    show_stock = Config.__str__

    def show(self: Any) -> str:
        # RecBole logs all settings.
        shown = copy.copy(self)
        shown.final_config_dict = without_login(self.final_config_dict)
        return show_stock(shown)

    Config.__str__ = show


def _add_models() -> None:
    """RecBole finds models as modules of its own package, and datasets and trainers as attributes by model name."""
    for name, module in RECOMMENDATION_MODELS.items():
        sys.modules[f"recbole.model.general_recommender.{name.lower()}"] = importlib.import_module(module)
    for name, module in MODELS.items():
        _add_search_aware(name, getattr(importlib.import_module(module), name))


def _add_search_aware(name: str, model: type) -> None:
    """Put a search-aware model, its dataset and its trainer where RecBole looks for them."""
    import recbole.data.dataset
    import recbole.trainer

    from recbole_gserec.plugin.trainer import SearchTrainer
    from recbole_gserec.preprocess import CodedSearchDataset, VectoredSearchDataset
    from recbole_gserec.settings import reads_text_vectors

    _add_module(name, model)
    dataset = VectoredSearchDataset if reads_text_vectors(name) else CodedSearchDataset
    setattr(recbole.data.dataset, f"{name}Dataset", dataset)
    setattr(recbole.trainer, f"{name}Trainer", SearchTrainer)


def _add_plain(name: str, model: type) -> None:
    """Put a recommender of RecBole's kind where RecBole looks for it, with what it goes by the name of a base for."""
    import recbole.data.dataset
    import recbole.trainer

    _add_module(name, model)
    for place, what in ((recbole.data.dataset, "Dataset"), (recbole.trainer, "Trainer")):
        of_bases = (getattr(place, f"{base.__name__}{what}", None) for base in model.__mro__[1:])
        found = next((one for one in of_bases if one is not None), None)
        if found is not None:
            setattr(place, f"{name}{what}", found)


def _add_module(name: str, model: type) -> None:
    # A module of its own: RecBole asks for the spec, and a script or notebook that is run has none.
    path = f"recbole.model.general_recommender.{name.lower()}"
    module: Any = ModuleType(path)
    module.__spec__ = ModuleSpec(path, None)
    setattr(module, name, model)
    sys.modules[path] = module


def _find_models_in_files() -> None:
    """RecBole knows models by their names; ours may be named by the file they are in, where a user names a model."""
    from recbole.config import Config

    find_stock = Config._get_model_and_dataset

    def _get_model_and_dataset(self: Any, model: Any, dataset: Any) -> Any:
        if model is None:
            # Not where a file of settings names it: reading settings runs no code.
            model = self.cmd_config_dict.get("model", self.variable_config_dict.get("model"))
        return find_stock(self, named_model(model) if is_model_file(model) else model, dataset)

    Config._get_model_and_dataset = _get_model_and_dataset


def _name_missing_models() -> None:
    """A model that there is none of is told with the name that it is a slip of.

    RecBole looks for it among the models of LightGBM and XGBoost last, and fails for want of these libraries.
    """
    import recbole.config.configurator
    import recbole.quick_start.quick_start
    import recbole.utils.utils

    from recbole_gserec.errors import missing_library
    from recbole_gserec.settings import check_model

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


def _add_dataset_downloads() -> None:
    """RecBole downloads a known dataset whose folder is missing; the default dataset is made at that moment."""
    from recbole.data.dataset import Dataset

    from recbole_gserec.settings import no_such_dataset

    pass

    download_stock = Dataset._download

    def _download(self: Any) -> None:
        if make_default_dataset(self.dataset_name, self.dataset_path, self.config):
            return
        try:
            download_stock(self)
        except ValueError as error:
            raise no_such_dataset(Path(self.dataset_path).absolute()) from error

    Dataset._download = _download


def _check_search_data() -> None:
    """Search-extended data is read, refused, sorted and split alike for every model, whatever files it loads.

    RecBole's reader takes missing and unordered times, empty ids and users too few to split in silence, reads quoted
    text and missing values where there are none, and drops interactions whose user, item or entity has no row in a file
    that only some models load. Our models' dataset makes the same checks while it reads.
    """
    from recbole.data.dataset import Dataset, KnowledgeBasedDataset

    from recbole_gserec.data import (
        SearchDataset,
        align_features,
        check_files,
        check_interactions,
        check_policies,
        load_feature_file,
        remove_repeated,
        sort_interactions,
        split_off_short_users,
    )
    from recbole_gserec.settings import has_searches

    stock = SimpleNamespace(
        load_data=Dataset._load_data,
        load_feat=Dataset._load_feat,
        load_inter=Dataset._load_inter_feat,
        remove_duplication=Dataset._remove_duplication,
        filter_by_number=Dataset._filter_by_inter_num,
        illegal_ids=Dataset._get_illegal_ids_by_inter_num,
        filter_link=KnowledgeBasedDataset._filter_link,
        split=Dataset._split_index_by_leave_one_out,
    )

    def is_extended(dataset: Any) -> bool:
        # Settings of a time when the dataset had no searches do not say what to refuse.
        return "short_users" in dataset.config and has_searches(dataset.dataset_path, dataset.dataset_name)

    def is_checked_here(dataset: Any) -> bool:
        return not isinstance(dataset, SearchDataset) and is_extended(dataset)

    def _load_data(self: Any, token: str, dataset_path: str) -> None:
        stock.load_data(self, token, dataset_path)
        if is_extended(self):
            align_features(self)

    def _load_feat(self: Any, filepath: str, source: Any) -> Any:
        return (load_feature_file if is_checked_here(self) else stock.load_feat)(self, filepath, source)

    def _load_inter_feat(self: Any, token: str, dataset_path: str) -> None:
        if not is_checked_here(self):
            stock.load_inter(self, token, dataset_path)
            return
        check_policies(self.config)
        stock.load_inter(self, token, dataset_path)
        check_files(self)
        sort_interactions(self)

    def _remove_duplication(self: Any) -> None:
        (remove_repeated if is_extended(self) else stock.remove_duplication)(self)

    def _get_illegal_ids_by_inter_num(
        self: Any, field: str, feat: Any, inter_num: Any, inter_interval: Any = None
    ) -> set[Any]:
        # With a file of users or items, RecBole holds only the first of several intervals against them.
        return stock.illegal_ids(self, field, None if is_extended(self) else feat, inter_num, inter_interval)

    def _filter_by_inter_num(self: Any) -> None:
        stock.filter_by_number(self)
        if is_checked_here(self):
            check_interactions(self)
        if is_extended(self):
            # The last of the filters; items and users may have lost all their interactions.
            align_features(self)

    def _filter_link(self: Any) -> None:
        kept = self.inter_feat.copy() if is_extended(self) else None
        stock.filter_link(self)
        if kept is not None:
            # An item without an entity is one that the graph says nothing of.
            self.inter_feat = kept

    def _split_index_by_leave_one_out(self: Any, grouped_index: Any, leave_one_num: int) -> Any:
        trained_on: list[Any] = []
        groups = grouped_index
        if is_checked_here(self) and leave_one_num == 2:
            trained_on, groups = split_off_short_users(self, groups)
        parts = stock.split(self, groups, leave_one_num)
        parts[0].extend(trained_on)
        return parts

    KnowledgeBasedDataset._filter_link = _filter_link
    for hook in (
        _load_data,
        _load_feat,
        _load_inter_feat,
        _remove_duplication,
        _get_illegal_ids_by_inter_num,
        _filter_by_inter_num,
        _split_index_by_leave_one_out,
    ):
        setattr(Dataset, hook.__name__, hook)


def _unpickle_only_when_asked() -> None:
    """RecBole unpickles datasets and dataloaders that lie beside checkpoints, whoever made them; they can run code."""
    import recbole.data
    import recbole.data.dataset.dataset
    import recbole.data.utils
    import recbole.quick_start.quick_start

    from recbole_gserec.plugin.own_files import dump, load, only_when_asked

    sealed = SimpleNamespace(dump=dump, load=load)
    recbole.data.utils.pickle = recbole.data.dataset.dataset.pickle = sealed
    modules = (recbole.data.utils, recbole.data, recbole.quick_start.quick_start)
    for name, setting in (("create_dataset", "dataset"), ("load_split_dataloaders", "dataloaders")):
        stock = getattr(recbole.data.utils, name)
        safe = only_when_asked(stock, f"save_{setting}", f"{setting}_save_path")
        for module in modules:
            if hasattr(module, name):
                setattr(module, name, safe)


def _keep_runs_apart() -> None:
    """RecBole names checkpoints and logs by the second, and opens files where another process may be reading them.

    Two trainings of one model that start together would test each other's weights.
    """
    import recbole.data.dataset.dataset
    import recbole.data.utils
    from recbole.trainer import Trainer
    from recbole.utils import ensure_dir, get_local_time, get_tensorboard, init_logger

    from recbole_gserec.plugin.own_files import (
        ensure_folder,
        of_first_process,
        open_whole,
        tensorboard_writer,
        with_own_digits,
        with_own_log,
    )

    local_time = with_own_digits(get_local_time)
    replaced = {
        get_local_time: local_time,
        ensure_dir: ensure_folder,
        get_tensorboard: tensorboard_writer(local_time),
        init_logger: with_own_log(init_logger),
    }
    # Many modules have bound these names.
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "recbole"]
    for stock, ours in replaced.items():
        name = stock.__name__
        for module in modules:
            if getattr(module, name, None) is stock:
                setattr(module, name, ours)
    # Saved datasets and dataloaders. The modules have no `open` of their own.
    for module in (recbole.data.dataset.dataset, recbole.data.utils):
        module.open = open_whole
    make_stock = Trainer.__init__

    def __init__(self: Any, config: Any, model: Any) -> None:
        make_stock(self, config, model)
        self.saved_model_file = of_first_process(config, self.saved_model_file)

    Trainer.__init__ = __init__


def _replace_evaluation() -> None:
    """Sampled evaluation on candidates drawn once, one scoring pass per target, ties against the target.

    RecBole's draws new candidates at every pass, some of them the user's own items, encodes a history once per
    candidate, and counts ties at random.
    """
    import recbole.data.utils
    import recbole.trainer.trainer
    from recbole.trainer import Trainer

    pass
    from recbole_gserec.evaluation import CandidateBatch, PlainEvaluator, TieAwareCollector, score_batch

    get_stock = recbole.data.utils.get_dataloader

    def get_dataloader(config: Any, phase: str) -> type:
        return choose_dataloader(config, phase, get_stock, is_ours=config["model"] in MODELS)

    # `data_preparation` looks the name up in its module; `recbole.data` holds a second reference to it.
    recbole.data.utils.get_dataloader = get_dataloader
    recbole.data.get_dataloader = get_dataloader
    recbole.trainer.trainer.Collector = TieAwareCollector
    # Not the ranks but their record: NumPy 2 shows its numbers by the name of their type.
    recbole.trainer.trainer.Evaluator = PlainEvaluator
    evaluate_stock = Trainer._neg_sample_batch_eval

    def _neg_sample_batch_eval(self: Any, batched_data: Any) -> Any:
        if isinstance(batched_data, CandidateBatch):
            return score_batch(self.model, batched_data, self.device, self.test_batch_size)
        return evaluate_stock(self, batched_data)

    Trainer._neg_sample_batch_eval = _neg_sample_batch_eval


def _replace_checkpoints() -> None:
    """Checkpoints that ``torch.load`` reads with ``weights_only=True``, complete or absent.

    RecBole pickles its Config with a protocol that the safe unpickler refuses, over the last good checkpoint.
    """
    from recbole.trainer import PretrainTrainer, Trainer

    from recbole_gserec.plugin import entry_points
    from recbole_gserec.plugin.checkpoint import allow_config_in_checkpoints, check_checkpoint, save_checkpoint
    from recbole_gserec.plugin.own_files import wait_for_all

    allow_config_in_checkpoints()
    resume_stock, evaluate_stock = Trainer.resume_checkpoint, Trainer.evaluate

    def resume_checkpoint(self: Any, resume_file: str) -> None:
        check_checkpoint(resume_file)
        resume_stock(self, resume_file)

    def evaluate(
        self: Any,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        if eval_data and load_best_model:
            wait_for_all(self.config)
            check_checkpoint(model_file or self.saved_model_file)
        if load_best_model:
            evaluated = entry_points.evaluated
            evaluated.checkpoint, evaluated.model = model_file or self.saved_model_file, self.config["model"]
        return evaluate_stock(self, eval_data, load_best_model, model_file, show_progress)

    def save_pretrained_model(self: Any, epoch: int, saved_model_file: str) -> None:
        # This name tells the epoch alone, for who trains on from it; the run tests what no other run can replace.
        save_checkpoint(self, epoch, verbose=False, saved_model_file=saved_model_file)
        save_checkpoint(self, epoch, verbose=False)

    Trainer._save_checkpoint = save_checkpoint
    PretrainTrainer.save_pretrained_model = save_pretrained_model
    Trainer.resume_checkpoint = resume_checkpoint
    Trainer.evaluate = evaluate


def _tell_why_training_fails() -> None:
    """A diverging loss, and a user without negatives, are told with what to do; RecBole does not say who or when."""
    from recbole.sampler import Sampler
    from recbole.trainer import Trainer

    from recbole_gserec.settings import check_negatives_left

    draw_stock = Sampler.get_used_ids

    def _check_nan(self: Any, loss: Any) -> None:
        if torch.isnan(loss):
            raise SettingError(
                f"the training loss became NaN: {self.config['model']} diverges. Lower learning_rate, which is "
                f"{self.config['learning_rate']}, or set clip_grad_norm, for instance to {{'max_norm': 5}}"
            )

    def get_used_ids(self: Any) -> Any:
        check_negatives_left(self.datasets)
        return draw_stock(self)

    Trainer._check_nan = _check_nan
    Sampler.get_used_ids = get_used_ids


def _replace_entry_points() -> None:
    """RecBole's entry points by way of functions of ours.

    They are what spawned processes and Ray workers unpickle first; being ours, they bring this package, and with it
    the registration, into the new process.
    """
    import recbole.quick_start
    import recbole.quick_start.quick_start as stock

    from recbole_gserec.plugin import entry_points
    from recbole_gserec.settings import begin_run

    # What is wrong is told before two hundred lines of settings.
    stock.init_logger = begin_run
    for name in entry_points.__all__:
        entry_points.STOCK[name] = getattr(stock, name)
        for module in (stock, recbole.quick_start):
            if hasattr(module, name):
                setattr(module, name, getattr(entry_points, name))


def _let_exhaustive_search_draw() -> None:
    """HyperTuning's exhaustive search hands hyperopt a ``RandomState``, which it takes no more since it is 0.2.6."""
    import recbole.trainer.hyper_tuning as hyper_tuning

    stock = hyper_tuning.exhaustive_search
    numpy = SimpleNamespace(random=SimpleNamespace(RandomState=np.random.default_rng))
    hyper_tuning.exhaustive_search = FunctionType(
        stock.__code__, {**vars(hyper_tuning), "np": numpy}, stock.__name__, stock.__defaults__
    )


def choose_dataloader(config: Config, phase: str, stock: Callable, is_ours: bool) -> type:
    """Return the dataloader class for a phase.

    Args:
        config: RecBole's settings.
        phase: ``train``, ``valid`` or ``test``.
        stock: RecBole's own choice, ``get_dataloader``.
        is_ours: Whether the model belongs to this package.
    """
    if phase == "train":
        if not is_ours:
            return stock(config, phase)
        return JointTrainDataLoader if config.model_class.reads_search_rows(config) else SearchTrainDataLoader
    mode = config["eval_args"]["mode"]["valid" if phase == "valid" else "test"]
    ranks = config["eval_type"] == EvaluatorType.RANKING and config["MODEL_TYPE"] != ModelType.DECISIONTREE
    # On a dataset without searches, keep RecBole's evaluation, which ranks several targets of a user together.
    shares_lists = "eval_candidate_seed" in config or "LS" in (config["eval_args"]["split"] or {})
    if ranks and shares_lists and mode[:3] in ("uni", "pop"):
        return SearchCandidateEvalDataLoader if is_ours else CandidateEvalDataLoader
    if is_ours and mode == "full":
        return BoundedFullSortEvalDataLoader
    return stock(config, phase)


def make_default_dataset(name: str, path: str, config: Mapping[str, Any]) -> bool:
    """Create the default dataset if it is requested.

    Args:
        name: Name of the requested dataset, which has no folder.
        path: The folder that it should have.
        config: RecBole's settings.

    Returns:
        Whether the dataset exists now.

    Raises:
        DataError: In distributed training, because each process would create it.
    """
    if name != DEFAULT_DATASET:
        return False
    if not config["single_spec"]:
        raise DataError(path, "no such dataset", f"Make it first: gserec convert ml-100k --output {Path(path).parent}")
    from dataset_converters import convert_ml_100k

    getLogger(__name__).info(f"Making the default dataset {name} in {path} from the MovieLens-100k inside RecBole.")
    convert_ml_100k(Path(path).parent, name)
    return True


DATASET_SETTINGS = (
    "MAX_SEARCH_LIST_LENGTH",
    "MAX_CLICK_LIST_LENGTH",
    "unordered_timestamps",
    "short_users",
    "eval_candidate_seed",
    "resample_negatives",
    "code_path",
)

"""Models that RecBole does not know by itself: those of this package, of other packages, and in the user's files.

Only code in files that the user names is run. A checkpoint or a settings file may mention the file of its model, but
the user must name that file again. Child processes receive the names in an environment variable.
"""

import hashlib
import importlib.util
import json
import os
import shlex
import sys
import traceback
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from logging import getLogger
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, overload

import recbole.data.dataset
import recbole.trainer
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_gserec.errors import DataError, GSERecError, SettingError, nearest, one_line
from recbole_gserec.files import sha256_of_file
from recbole_gserec.models import SearchRecommender
from recbole_gserec.plugin.trainer import SearchTrainer
from recbole_gserec.preprocess import CodedSearchDataset, VectoredSearchDataset
from recbole_gserec.settings import (
    MODEL_FILE_FORM,
    MODEL_FILES_VARIABLE,
    MODELS,
    RECOMMENDATION_MODELS,
    add_model_file,
    failures,
    forget_model_file,
    is_model_file,
    known_models,
    model_file,
    properties_folder,
    reads_text_vectors,
    recbole_model_file,
)

Model = TypeVar("Model", bound=type[AbstractRecommender])

MODELS_OF_OTHERS = "recbole_gserec.models"
"""Group of entry points by which other packages name their search-aware models."""


@overload
def register_model(model: Model, settings: str | Path | None = None) -> Model: ...


@overload
def register_model(model: str, settings: str | Path | None = None) -> type[AbstractRecommender]: ...


def register_model(model: Any, settings: str | Path | None = None) -> Any:
    """Register a model of another package, a script or a file by the name of its class.

    In this process, it can then be used like the models of this package. A package may also list its models as entry
    points in the group ``recbole_gserec.models``. They are registered wherever the package is installed, also for the
    command line, child processes and Ray workers.

    Args:
        model: A subclass of :class:`SearchRecommender` or of one of RecBole's recommenders; or the file and class of
            one, ``"my_model.py:MyModel"``, which is also registered in processes started from this one.
        settings: YAML file with all its settings and their defaults; ``<name of the class>.yaml`` beside its module by
            default. A recommender of RecBole's kind may do without.

    Returns:
        The model, so that this can be used as a decorator.

    Raises:
        SettingError: If it is no such class, another model has its name, or the file is missing.
        DataError: If the file is malformed.
    """
    if is_model_file(model):
        return load_model_file(model, settings)
    if not (isinstance(model, type) and issubclass(model, AbstractRecommender)):
        raise SettingError(
            f"{model!r} must be a subclass of SearchRecommender, for a search-aware model, or of one of RecBole's "
            "recommenders"
        )
    name, module = model.__name__, model.__module__
    is_plain = not issubclass(model, SearchRecommender)
    if registered_module(name) != module and (other := _model_named(name)):
        raise SettingError(f"{module}.{name}: there is already a model '{other}'. Choose another name")
    source = getattr(sys.modules[module], "__file__", None)
    if settings is None:
        if source is None:
            raise SettingError(f"{module}.{name} is not defined in a file: name the file of its settings")
        settings = Path(source).with_name(f"{name}.yaml")
    add_model_file(name, Path(settings), is_plain=is_plain)
    (RECOMMENDATION_MODELS if is_plain else MODELS)[name] = module
    (_add_plain if is_plain else _add_search_aware)(name, model)
    return model


def forget_model(name: str) -> None:
    """Undo :func:`register_model`, for models that are only used for a while, such as during checks."""
    forget_model_file(name)
    MODELS.pop(name, None)
    RECOMMENDATION_MODELS.pop(name, None)
    sys.modules.pop(f"recbole.model.general_recommender.{name.lower()}", None)
    vars(recbole.data.dataset).pop(f"{name}Dataset", None)
    vars(recbole.trainer).pop(f"{name}Trainer", None)


def registered_module(model: str) -> str | None:
    """Return the module of a model of this package or of a registered model; None for others."""
    return MODELS.get(model) or RECOMMENDATION_MODELS.get(model)


def _model_named(name: str) -> str | None:
    """Return the known model with this name, ignoring case; None if there is none."""
    return next((known for known in known_models() if known.lower() == name.lower()), None)


def add_models_of_others() -> None:
    """Register the models that installed packages list as entry points. A failing one does not affect the others."""
    for entry in entry_points(group=MODELS_OF_OTHERS):
        try:
            register_model(entry.load())
        except Exception as error:
            package = entry.dist.name if entry.dist else "?"
            getLogger(__name__).warning("model '%s' of package '%s' cannot be used: %s", entry.name, package, error)


def add_models() -> None:
    """Add models, datasets and trainers where RecBole looks for them: in its own modules, by the model's name."""
    for name, module in RECOMMENDATION_MODELS.items():
        sys.modules[f"recbole.model.general_recommender.{name.lower()}"] = importlib.import_module(module)
    for name, module in MODELS.items():
        _add_search_aware(name, getattr(importlib.import_module(module), name))


def _add_search_aware(name: str, model: type) -> None:
    """Add a search-aware model, its dataset and its trainer where RecBole looks for them."""
    _add_module(name, model)
    dataset = VectoredSearchDataset if reads_text_vectors(name) else CodedSearchDataset
    setattr(recbole.data.dataset, f"{name}Dataset", dataset)
    setattr(recbole.trainer, f"{name}Trainer", SearchTrainer)


def _add_plain(name: str, model: type) -> None:
    """Add a recommender of RecBole's kind where RecBole looks for it, with the dataset and trainer of its base."""
    _add_module(name, model)
    for module, what in ((recbole.data.dataset, "Dataset"), (recbole.trainer, "Trainer")):
        of_bases = (getattr(module, f"{base.__name__}{what}", None) for base in model.__mro__[1:])
        found = next((one for one in of_bases if one is not None), None)
        if found is not None:
            setattr(module, f"{name}{what}", found)


def _add_module(name: str, model: type) -> None:
    # A module of its own: RecBole asks for the spec, and a script or notebook that is run has none.
    path = f"recbole.model.general_recommender.{name.lower()}"
    module: Any = ModuleType(path)
    module.__spec__ = ModuleSpec(path, None)
    setattr(module, name, model)
    sys.modules[path] = module


# ---- models in files -------------------------------------------------------------------------------------------------

_ADVICE = "Correct it: Python must be able to import it"

_named: dict[str, str] = {}
"""Name of a model -> its file and class as in ``--model``, with the full path."""
_modules: dict[Path, tuple[str, ModuleType]] = {}
"""What was loaded, with the digest that the file had."""


def file_of_model(model: str) -> str | None:
    """Return the file and class that a model was loaded from, as in ``--model``; None for other models."""
    return _named.get(model)


def how_to_name(model: str, file: object) -> str:
    """Return advice on a checkpoint with an unknown model.

    Args:
        model: Name of the model.
        file: File of the model at the time of the training, from the checkpoint; None if it has none.
    """
    if not isinstance(file, str):
        return f"If it is in a file of yours, name it: --model FILE.py:{model}"
    return f"Its code only runs if you name it: --model {shlex.quote(file)}"


def named_model(text: str) -> str:
    """Return the name of a model. A model in a file is loaded first.

    Raises:
        GSERecError: If a model in a file cannot be loaded.
    """
    return load_model_file(text).__name__ if is_model_file(text) else text


def load_model_file(text: str, settings: str | Path | None = None) -> type:
    """Load a model from a file and register it, in this process and in those started later.

    A file is only loaded again if its content has changed.

    Args:
        text: File and class, ``my_model.py:MyModel``.
        settings: YAML file with its settings. The default is ``MyModel.yaml`` beside the file, or else the file of the
            nearest base class.

    Returns:
        The class.

    Raises:
        SettingError: If the file or the class is missing, the class is not a recommender, or its name is taken.
        DataError: If the file fails to load, or its settings are malformed.
    """
    path, name = _parts(text)
    known = registered_module(name)
    if known is None or _source(known) != path:
        _check_free(path, name)
        model = _class_in(_load(path), path, name)
    elif known in {module.__name__ for _, module in _modules.values()}:
        model = _class_in(_load(path), path, name)
    else:  # A module that the user's own program has imported.
        model = getattr(sys.modules[known], name)
    # A decorator in the file may have registered it.
    if registered_module(name) != model.__module__ or settings is not None:
        register_model(model, settings or settings_file_of(model, path))
    _named[name] = f"{path}:{name}"
    _pass_to_children(_named[name], settings)
    return model


def load_named_files() -> None:
    """Load the models that the user named in the parent process. A failing one does not affect the others."""
    for text, settings in _passed_models():
        try:
            load_model_file(text, settings)
        except Exception as error:
            failures[text.rpartition(":")[2]] = one_line(error)
            getLogger(__name__).warning(one_line(error))


def _parts(text: str) -> tuple[Path, str]:
    found = MODEL_FILE_FORM.fullmatch(text)
    if found is None or not (found[2] or "").isidentifier():
        file = found[1] if found else text
        raise SettingError(f"'{text}' does not name the model's class. Write {file}:MyModel")
    path = Path(os.path.abspath(found[1]))
    if not path.is_file():
        raise SettingError(f"{path}: no such file. Name a model in a file as path/to/file.py:{found[2]}")
    return path.resolve(), found[2]


def _check_free(path: Path, name: str) -> None:
    """Raise an error for a name that another model has, before any code is run."""
    if other := _model_named(name):
        raise SettingError(f"{path}: there is already a model '{other}'. Choose another name than '{name}'")


def _source(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).resolve() if file else None


def _load(path: Path) -> ModuleType:
    digest = sha256_of_file(path)
    if path in _modules and _modules[path][0] == digest:
        return _modules[path][1]
    # A name that no other module has, and that is the same in all processes. Without a dot: it is in no package.
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        if isinstance(error, (GSERecError, KeyboardInterrupt)):
            raise
        problem = f"it cannot be loaded: {type(error).__name__}: {one_line(error)}"
        raise DataError(path, problem, f"{_ADVICE}.", _line_in(path, error)) from error
    _modules[path] = digest, module
    return module


def _line_in(path: Path, error: BaseException) -> int | None:
    """Return the line of a file that caused an error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


def _class_in(module: ModuleType, path: Path, name: str) -> type:
    def is_model(value: object) -> bool:
        return isinstance(value, type) and issubclass(value, AbstractRecommender)

    model = getattr(module, name, None)
    if model is None:
        own = [key for key, value in vars(module).items() if is_model(value) and value.__module__ == module.__name__]
        near = nearest(name, own)
        hint = f"Did you mean '{near}'?" if near else f"Models in it: {', '.join(own) or 'none'}"
        raise SettingError(f"{path}: it has no class '{name}'. {hint}")
    if not is_model(model):
        raise SettingError(
            f"{path}: '{name}' is not a recommender. It must be a subclass of SearchRecommender or of a RecBole model"
        )
    if model.__module__ != module.__name__:
        raise SettingError(f"{path}: '{name}' is only imported there. Name the file that defines it, or a subclass")
    return model


def settings_file_of(model: type, path: Path | None) -> Path | None:
    """Return the file with the settings of a model.

    Args:
        model: The class.
        path: The file that defines it.

    Returns:
        The file beside it, or that of the nearest base class; None if both are missing.
    """
    if path is not None and (beside := path.with_name(f"{model.__name__}.yaml")).is_file():
        return beside
    for base in model.__mro__[1:]:
        ours = properties_folder() / "model" / f"{base.__name__}.yaml"
        for file in (model_file(base.__name__), ours, recbole_model_file(base.__name__)):
            if file is not None and file.is_file():
                return file
    return None


def _passed_models() -> list[list[Any]]:
    try:
        return [[str(text), settings] for text, settings in json.loads(os.environ.get(MODEL_FILES_VARIABLE) or "[]")]
    except (ValueError, TypeError):
        getLogger(__name__).warning(f"{MODEL_FILES_VARIABLE} is malformed and is ignored")
        return []


def _pass_to_children(text: str, settings: str | Path | None) -> None:
    whole = None if settings is None else str(Path(settings).absolute())
    others = [entry for entry in _passed_models() if entry[0] != text]
    os.environ[MODEL_FILES_VARIABLE] = json.dumps([*others, [text, whole]])

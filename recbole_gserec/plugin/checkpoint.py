"""Checkpoints as plain data: loading one never runs code from it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.config import Config
from recbole.utils import EvaluatorType, InputType, ModelType, get_model, set_color
from torch import nn

from recbole_gserec.data import file_record
from recbole_gserec.errors import CheckpointError, DataError, GSERecError, SettingError
from recbole_gserec.files import is_plain_name, load_tensors, save_tensors
from recbole_gserec.plugin.model_registry import file_of_model, how_to_name
from recbole_gserec.plugin.own_files import NO_FILE
from recbole_gserec.settings import without_login

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import AbstractRecommender

_FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")


class PortableArray:
    """A NumPy array (or matrix) that is pickled as a tensor."""

    def __init__(self, array: np.ndarray):
        self._array = array

    def __reduce__(self) -> tuple[Any, ...]:
        return restore_array, (torch.from_numpy(np.array(self._array)), isinstance(self._array, np.matrix))


class PortableMatrix:
    """A SciPy sparse matrix that is pickled as tensors."""

    def __init__(self, matrix: Any):
        self._matrix = matrix

    def __reduce__(self) -> tuple[Any, ...]:
        triplets = self._matrix.tocoo()
        parts = (torch.from_numpy(np.array(part)) for part in (triplets.data, triplets.row, triplets.col))
        return restore_matrix, (self._matrix.format, tuple(self._matrix.shape), *parts)


def restore_array(values: torch.Tensor, is_matrix: bool) -> np.ndarray:
    """Return the array that a :class:`PortableArray` was made from."""
    array = values.numpy()
    return np.asmatrix(array) if is_matrix else array


def restore_matrix(
    kind: str, shape: tuple[int, int], values: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> Any:
    """Return the matrix that a :class:`PortableMatrix` was made from."""
    if kind not in _FORMATS:
        raise ValueError(f"unknown kind of sparse matrix: {kind}")
    return sp.coo_matrix((values.numpy(), (rows.numpy(), columns.numpy())), shape=shape).asformat(kind)


def portable_other_parameter(model: AbstractRecommender) -> dict[str, Any]:
    """Return ``model.other_parameter()`` without the parts in ``state_dict``, with portable arrays and matrices."""
    children = dict(model.named_children())
    values = {}
    for name, value in model.other_parameter().items():
        if isinstance(value, nn.Module) and children.get(name) is value:
            continue
        if isinstance(value, np.ndarray):
            value = PortableArray(value)
        elif sp.issparse(value):
            value = PortableMatrix(value)
        elif isinstance(value, dict):
            # The default of RippleNet's values would be refused when loading.
            value = dict(value)
        values[name] = value
    return values


def load_other_parameter(model: AbstractRecommender, values: Mapping[str, Any] | None, device: torch.device) -> None:
    """Call ``model.load_other_parameter()`` with tensors moved to the model's device."""
    values = values or {}
    model.load_other_parameter(
        {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in values.items()}
    )


READING = 2
"""Version of how dataset files are read. The first left out items and users missing in ``.item`` or ``.user``."""

_ENUMS = {kind.__name__: kind for kind in (EvaluatorType, InputType, ModelType)}
_SHOWN = 5
_ADVICE = "Train again, or restore a copy"
_PRETRAINED = ("pre_model_path", "pretrain_path", "mf_pretrain_path", "mlp_pretrain_path", "warm_up")
"""Settings of RecBole's models that name checkpoints."""
_PARTS = (
    "final_config_dict",
    "external_config_dict",
    "internal_config_dict",
    "file_config_dict",
    "variable_config_dict",
    "cmd_config_dict",
)


class CheckpointConfig:
    """Replaces a RecBole Config in a checkpoint: pickled as plain data, loaded as a Config.

    The loaded Config has three more attributes: ``dataset_files``, see :func:`file_record`; ``reading``, the version
    of how the dataset's files were read; and ``model_file``, the user's file with the model, if there is one. That path
    is reported and never loaded.
    """

    def __init__(self, config: Config):
        self._config = config

    def __reduce__(self) -> tuple[Any, ...]:
        config = self._config
        plain = {part: _encode(without_login(getattr(config, part))) for part in _PARTS}
        names = {"model": config.model, "dataset": config.dataset}
        origin = {"dataset_files": file_record(config), "reading": READING, "model_file": file_of_model(config.model)}
        return restore_config, ({**plain, **names, **origin},)


def restore_config(plain: Mapping[str, Any]) -> Config:
    """Build a Config from the plain data of a checkpoint.

    Raises:
        CheckpointError: If the data was not written by :class:`CheckpointConfig`.
    """
    try:
        config = Config.__new__(Config)
        config.compatibility_settings()
        config._init_parameters_category()
        config.yaml_loader = config._build_yaml_loader()
        for part in _PARTS:
            setattr(config, part, _decode(plain[part]))
        config.model, config.dataset = plain["model"], plain["dataset"]
        # Checkpoints of earlier versions do not contain this.
        config.dataset_files, config.reading = plain.get("dataset_files"), plain.get("reading", 1)
        config.model_file = plain.get("model_file")
        _check_model(config)
        # RecBole would unpickle the files in these settings.
        config.final_config_dict.update(dataset_save_path=NO_FILE, dataloaders_save_path=NO_FILE)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the settings in the checkpoint are damaged: {error!r}") from error
    try:
        config.model_class = get_model(config.model)
    except (ValueError, ImportError, AttributeError, GSERecError):
        config.model_class = None  # The user's own class, which only the user can provide again.
    return config


def _check_model(config: Config) -> None:
    """Raise ValueError for invalid model or dataset names, because RecBole imports modules and writes files by them."""
    settings = config.final_config_dict
    if not (isinstance(config.model, str) and config.model.isidentifier() and settings["model"] == config.model):
        raise ValueError(f"the model is {config.model!r}")
    # Log files contain its name.
    if not isinstance(config.dataset, str) or not is_plain_name(config.dataset):
        raise ValueError(f"the dataset is {config.dataset!r}")
    # KD_DAGFM imports a network with this name.
    if config.model == "KD_DAGFM" and not str(settings.get("teacher")).isidentifier():
        raise ValueError(f"teacher is {settings.get('teacher')!r}")


def allow_config_in_checkpoints() -> None:
    """Let ``torch.load(..., weights_only=True)`` call our functions that restore plain data."""
    functions = (restore_config, restore_array, restore_matrix)
    # The module had another name in checkpoints of earlier versions.
    earlier = [(function, f"recbole_gserec.checkpoint.{function.__name__}") for function in functions]
    torch.serialization.add_safe_globals([*functions, *earlier])


def save_checkpoint(trainer: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
    """Replace ``Trainer._save_checkpoint``: the same content, but atomic and readable with ``weights_only=True``."""
    if not trainer.config["single_spec"] and trainer.config["local_rank"] != 0:
        return
    path = kwargs.pop("saved_model_file", trainer.saved_model_file)
    state = {
        "config": CheckpointConfig(trainer.config),
        "epoch": epoch,
        "cur_step": trainer.cur_step,
        "best_valid_score": float(trainer.best_valid_score),
        "state_dict": trainer.model.state_dict(),
        "other_parameter": portable_other_parameter(trainer.model),
        "optimizer": trainer.optimizer.state_dict(),
    }
    save_tensors(state, path)
    if verbose:
        trainer.logger.info(set_color("Saving current", "blue") + f": {path}")


def check_model_of(config: Config, path: str | Path) -> None:
    """Raise SettingError if this process does not know the model of a checkpoint."""
    if config.model_class is None:
        raise SettingError(
            f"{path} is a checkpoint of '{config['model']}', which neither RecBole nor this package includes. "
            f"{how_to_name(config['model'], config.model_file)}"
        )


def check_checkpoint(path: str | Path) -> None:
    """Raise CheckpointError unless :func:`read_checkpoint` would read the file."""
    read_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint; its tensors are on the CPU, and are read on access.

    Raises:
        CheckpointError: If the file is not a checkpoint, is damaged, could run code, or has NaN or infinite weights.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such checkpoint{_others_there(Path(path))}")
    checkpoint = _read_weights(path)
    if not {"config", "state_dict"} <= set(checkpoint):
        raise CheckpointError(f"{path}: not a RecBole checkpoint: it has no 'config' and 'state_dict'")
    _check_reading(path, checkpoint["config"])
    return checkpoint


def _check_reading(path: str | Path, config: Any) -> None:
    """Raise CheckpointError if the ids of the training could now belong to other items or users."""
    columns = config["load_col"] if isinstance(config, Config) else None
    described = [suffix for suffix in ("item", "user", "kg") if suffix in (columns or ())]
    if described and config.reading != READING:
        raise CheckpointError(
            f"{path}: saved by an earlier version that read .{described[0]} differently, so its ids may now mean "
            "other items or users. Train again"
        )


def check_pretrained(settings: Mapping[str, Any]) -> None:
    """Check the pretrained weights named in settings of RecBole's models, which would read them unchecked.

    Raises:
        CheckpointError: As in :func:`read_checkpoint`, but the files may contain only weights.
    """
    for name in _PRETRAINED:
        path = settings.get(name)
        # The model itself reports a missing file, if it needs one.
        if isinstance(path, (str, Path)) and Path(path).is_file():
            _read_weights(path)


def _read_weights(path: str | Path) -> dict[str, Any]:
    try:
        # Memory-mapped, so that the optimiser's state, twice as large as the weights, is not loaded.
        checkpoint = load_tensors(path, _ADVICE, mmap=True)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: not loaded, because it contains more than weights and settings and could run code. "
            "Only checkpoints saved with recbole-gserec imported can be loaded"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # Damaged bytes can raise almost any error in torch.
        raise CheckpointError(f"{path}: truncated or not a checkpoint. {_ADVICE}") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path}: not a RecBole checkpoint: it has no 'config' and 'state_dict'")
    for part in ("state_dict", "other_parameter"):
        named = checkpoint.get(part)
        for name, values in named.items() if isinstance(named, Mapping) else ():
            if n_bad := _n_not_finite(values):
                raise CheckpointError(
                    f"{path}: '{name}' has NaN or infinite values ({n_bad:,}): the training diverged. Train again with "
                    "a smaller learning_rate, or use the checkpoint of another training"
                )
    return checkpoint


def _n_not_finite(values: Any) -> int:
    """Return how many numbers in a tensor, an array or a matrix are NaN or infinite; 0 for anything else."""
    if sp.issparse(values):
        values = values.tocoo().data
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        values = torch.from_numpy(values)
    if not isinstance(values, torch.Tensor) or not values.is_floating_point() or not values.numel():
        return 0
    if values.layout is not torch.strided:
        values = values.coalesce().values() if values.layout is torch.sparse_coo else values.values()
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    # Minimum and maximum are NaN if any number is; counting needs memory.
    least, most = values.aminmax()
    # A mask to be added to scores contains 0 and minus infinity.
    if (least.isfinite() and most.isfinite()) or (most == 0 and ((values == 0) | values.isneginf()).all()):
        return 0
    return int((~values.isfinite()).sum())


def _others_there(path: Path) -> str:
    """Name the checkpoints in a folder, or next to a path, newest first: RecBole names them by time."""
    folder = path if path.is_dir() else path.parent
    files = [file for file in folder.glob("*.pth") if file.is_file()]
    files.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    names = ", ".join(file.name for file in files[:_SHOWN])
    return f". In {folder} there is {names}{', …' if len(files) > _SHOWN else ''}" if files else ""


def _encode(value: Any) -> Any:
    if isinstance(value, Enum):
        return {"__enum__": [type(value).__name__, value.name]}
    if isinstance(value, torch.device):
        return {"__device__": str(value)}
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_encode(item) for item in value)
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__enum__"}:
            kind, name = value["__enum__"]
            return _ENUMS[kind][name]
        if set(value) == {"__device__"}:
            device = torch.device(value["__device__"])
            return device if device.type == "cpu" or torch.cuda.is_available() else torch.device("cpu")
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_decode(item) for item in value)
    return value

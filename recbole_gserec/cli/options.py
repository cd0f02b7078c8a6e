"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recbole_gserec.errors import SettingError, nearest

if TYPE_CHECKING:
    from recbole_gserec.runs import Pool

# Like RecBole's own command, these commands accept any setting besides their options.
CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}

DataPath = Annotated[Path, typer.Option("--data-path", "--data_path", file_okay=False, help="Folder of all datasets.")]

DataPathOfTraining = Annotated[
    Path | None,
    typer.Option(
        "--data-path",
        "--data_path",
        file_okay=False,
        help="Folder of all datasets.",
        show_default="the folder used in training",
    ),
]

ModelOfCheckpoint = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="File and class of the checkpoint's model, my_model.py:MyModel.",
        show_default="models that are installed are known",
    ),
]

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--config-file",
        "--config-files",
        "--config_files",
        exists=True,
        dir_okay=False,
        help="YAML file with settings; repeat the option for several.",
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of runs at once; more than one requires Ray.",
        show_default="1, or as many as fit on the Ray cluster",
    ),
]
Address = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster that shares the folders of the datasets and the runs.")
]
CpusPerRun = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processors per run.",
        show_default="all, or an even share, up to OMP_NUM_THREADS; 1 on a cluster",
    ),
]
GpusPerRun = Annotated[
    float | None,
    typer.Option(min=0, help="GPUs per run; on Ray also a fraction.", show_default="1 if there are any"),
]


def pool_maker(
    workers: int | None, address: str | None, cpus: int | None, gpus: float | None, settings: Mapping[str, Any]
) -> Callable[[], Pool]:
    """Return a function that makes the pool the options describe. Ray starts only when the function is called.

    Raises:
        SettingError: If the settings choose a GPU although Ray assigns GPUs.
    """
    on_ray = address is not None or (workers or 1) > 1
    if on_ray and "gpu_id" in settings:
        raise SettingError("gpu_id: Ray assigns the GPUs. Use --gpus-per-run instead")

    def make_pool() -> Pool:
        if not on_ray:
            from recbole_gserec.runs import LocalPool

            return LocalPool(cpus, visible_gpus="" if gpus == 0 else None)
        from recbole_gserec.runs import RayPool

        return RayPool(workers, address, cpus, gpus)

    return make_pool


_ONE_DASH = re.compile(r"-([A-Za-z_][\w-]+)(=.*)?", re.DOTALL)
_MODEL_FILE = re.compile(r"(?:(?!\.py:).)+\.py:\w+")
"""One file and class, and not several with spaces between."""
_NAMES = "model dataset config_files config-files checkpoint user users seeds output data_path data-path".split()
"""Names that users often write with one dash. Typer would read ``-model`` as the short option ``-m`` and ``odel``."""


def check_dashes(arguments: Iterable[str]) -> None:
    """Reject long option names that follow a single dash.

    Raises:
        SettingError: For such a name, with the correct form.
    """
    for argument in arguments:
        found = _ONE_DASH.fullmatch(argument)
        if found and (found[2] or found[1] in _NAMES):
            raise SettingError(f"argument '{argument}': long names need two dashes. Did you mean '-{argument}'?")


def parse_settings(arguments: Iterable[str]) -> dict[str, Any]:
    """Read arguments of the form ``--name=value``; see :func:`read_value`.

    Raises:
        SettingError: If an argument has another form, or its value is too large or refers to itself.
    """
    # Help and mistyped names do without YAML.
    from recbole_gserec.files import read_value

    settings = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not (argument.startswith("--") and name and equals):
            near = nearest(name, _NAMES) if argument.startswith("--") else None
            hint = f" Did you mean '--{near}'?" if near and near != name else ""
            raise SettingError(f"'{argument}' is not understood. Give settings as --name=value.{hint}")
        settings[name] = read_value(name, value)
    return settings


def names_in(values: list[str] | None) -> list[str]:
    """Distinct names from repeated options, each with one or several names separated by commas or spaces.

    The path of a model's file may contain spaces.
    """
    parts = [part.strip() for text in values or [] for part in text.split(",")]
    names = ([part] if _MODEL_FILE.fullmatch(part) else part.split() for part in parts)
    return list(dict.fromkeys(name for several in names for name in several))


def seeds_in(text: str) -> list[int]:
    """Read seeds separated by commas.

    Raises:
        SettingError: If one is not a whole number.
    """
    try:
        return [int(seed) for seed in text.replace(",", " ").split()]
    except ValueError as error:
        raise SettingError(
            f"--seeds '{text}' is not a list of whole numbers. Separate them by commas: 2020,2021"
        ) from error

"""Options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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

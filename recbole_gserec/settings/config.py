"""RecBole's Config, built from our own commands."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config

from recbole_gserec.files import scratch_folder, written_aside

MACHINE = ("gpu_id", "use_gpu", "show_progress", "state", "log_wandb", "wandb_project", "all_items_users")
"""Settings that say where to run and what else to measure: they change no number, and are no part of a run."""


@contextmanager
def without_arguments() -> Iterator[None]:
    """Hide the command line from RecBole's Config, which would take it for settings."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def gpu_ids(value: Any) -> Any:
    """The setting ``gpu_id`` as ``CUDA_VISIBLE_DEVICES`` has it, ``0,1``; no value is no GPU."""
    if isinstance(value, str):
        return value.strip("()[] ")
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def without_login(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as others may see them: the address of a language model's server can hold a login."""
    address = settings.get("llm_base_url")
    if not isinstance(address, str):
        return dict(settings)
    return {**settings, "llm_base_url": re.sub(r"(?<=://)[^/\\s]*@", "\u2026@", address)}


def split_machine(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings that are part of a run, and those that only say where and how to run."""
    requested = {name: value for name, value in settings.items() if name not in MACHINE}
    return requested, {name: value for name, value in settings.items() if name in MACHINE}


def make_config(
    model: str, dataset: str, requested: Mapping[str, Any], machine: Mapping[str, Any], file: Path | None = None
) -> Config:
    """RecBole's settings.

    Args:
        model: Name of the model.
        dataset: Name of the dataset.
        requested: Settings of the run. They are passed in a file, because texts in a dictionary would be parsed.
        machine: Settings that say where and how to run. RecBole sets ``CUDA_VISIBLE_DEVICES`` to ``gpu_id``, which by
            default is that of this process and not RecBole's 0.
        file: Where to write the file; None for one that is not kept.
    """
    if file is None:
        with scratch_folder() as folder:
            return make_config(model, dataset, requested, machine, folder / "settings.yaml")
    with written_aside(file) as temporary:
        temporary.write_text(yaml.safe_dump(dict(requested), allow_unicode=True), encoding="utf-8")
    gpus = {"gpu_id": os.environ["CUDA_VISIBLE_DEVICES"]} if "CUDA_VISIBLE_DEVICES" in os.environ else {}
    with without_arguments():
        config = Config(model, dataset, [str(file)], {"show_progress": False, **gpus, **machine})
    if "gpu_id" not in {**requested, **machine}:
        # It was not requested, so a missing GPU needs no warning.
        config.external_config_dict.pop("gpu_id", None)
    return config

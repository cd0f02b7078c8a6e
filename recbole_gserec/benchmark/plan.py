"""What a benchmark trains: models x datasets x seeds, all under one protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from recbole_gserec.benchmark.given import SettingsOf, canonical, check_requested_settings, no_settings
from recbole_gserec.config import split_machine
from recbole_gserec.errors import SettingError
from recbole_gserec.properties_files import dataset_settings, preset_file
from recbole_gserec.settings import check_dataset_name, check_model, read_settings
from recbole_gserec.yaml_values import read_yaml

PROTOCOL = "table2"
"""The preset whose settings are the base of every benchmark, for all models."""


class Preset(NamedTuple):
    """Models to compare, and the settings that all of them share."""

    models: list[str]
    settings: dict[str, Any]


def read_preset(name: str) -> Preset:
    """Read a preset of the benchmark.

    Raises:
        SettingError: If there is no preset with this name.
    """
    content = read_yaml(preset_file(name, "benchmark").read_text(encoding="utf-8"))
    return Preset(list(content["models"]), dict(content["settings"]))


@dataclass(frozen=True)
class Request:
    """The comparison to make.

    Attributes:
        datasets: Names of datasets.
        models: Names of models.
        seeds: RecBole's ``seed`` of each repetition.
        data_path: Parent folder of all datasets.
        settings: Settings for all models that read them.
        settings_of: Settings of one model on one dataset; they override ``settings``.
        protocol: The preset that all other settings override.
    """

    datasets: Sequence[str]
    models: Sequence[str]
    seeds: Sequence[int]
    data_path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_of: SettingsOf = no_settings
    protocol: str = PROTOCOL


class Entry(NamedTuple):
    """A model on a dataset, with the settings of its runs; see :func:`recbole_gserec.config.split_machine`."""

    dataset: str
    model: str
    given: dict[str, Any]
    machine: dict[str, Any]


def plan_entries(request: Request) -> list[Entry]:
    """List every model on every dataset with its settings.

    If a dataset has settings of its own, such as the length of histories, they override the protocol's.

    Raises:
        SettingError: For unknown models, seeds or settings.
    """
    _check(request)
    protocol = canonical(read_preset(request.protocol).settings)
    common = canonical(request.settings)
    check_requested_settings(common, request.models)
    entries = []
    for dataset in _distinct(request.datasets):
        usual = {name: value for name, value in protocol.items() if name not in dataset_settings(dataset)}
        for model in _distinct(request.models):
            own = canonical(request.settings_of(model, dataset))
            check_requested_settings(own, [model])
            # A setting of one model does not repeat the runs of other models.
            known = read_settings(model)
            read = {name: value for name, value in {**common, **own}.items() if name in known}
            entries.append(Entry(dataset, model, *split_machine({**usual, **read})))
    return entries


def _check(request: Request) -> None:
    for what in ("datasets", "models", "seeds"):
        if not getattr(request, what):
            raise SettingError(f"no {what} given: give --{what if what == 'seeds' else what[:-1]}")
    for model in request.models:
        check_model(model)
    for dataset in request.datasets:
        check_dataset_name(dataset)
    for seed in request.seeds:
        if not 0 <= seed < 2**32:
            raise SettingError(f"a seed is {seed}; it must be a whole number from 0 to 4294967295")


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))

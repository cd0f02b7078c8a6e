"""Tunes each model on each dataset in its own sweep, with the same number of trials for all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole_gserec.benchmark.plan import Request, plan_entries
from recbole_gserec.properties_files import tune_file
from recbole_gserec.tune.place import ComputeResources
from recbole_gserec.tune.request import TuneRequest
from recbole_gserec.tune.search import search
from recbole_gserec.tune.space import default_space

logger = logging.getLogger(__name__)


def tune_models(request: Request, output: Path, n_trials: int, resources: ComputeResources) -> Request:
    """Tune every model on every dataset by its validation part; return the request with the settings found.

    Requested settings are not tried. A model keeps its settings if it has no search space, or if all settings of the
    space are requested.

    Args:
        request: The comparison to make. The first seed is used for all trials.
        output: Folder of the benchmark; sweeps are stored in its folder ``tune``.
        n_trials: Number of trials for a model on a dataset, or all combinations if there are fewer.
        resources: Resources of the trials.

    Raises:
        GSERecError: If a sweep cannot be made, or none of its trials succeeds.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in plan_entries(request):
        if tune_file(entry.model) is None:
            logger.warning(f"{entry.model} has no search space and is not tuned: its settings are the defaults")
            continue
        if default_space(entry.model).keys() <= entry.given.keys():
            logger.info(
                f"{entry.model} on {entry.dataset} is not tuned: all settings of its search space already have values"
            )
            continue
        result = search(
            TuneRequest(
                entry.model,
                entry.dataset,
                request.data_path,
                output / "tune",
                settings={**entry.given, **entry.machine},
                seed=request.seeds[0],
                n_samples=n_trials,
            ),
            resources,
        )
        found[entry.model, entry.dataset] = result.found
        settings = ", ".join(f"{name}={value}" for name, value in result.found.items())
        logger.info(f"{entry.model} on {entry.dataset}: {settings}")

    def settings_of(model: str, dataset: str) -> Mapping[str, Any]:
        return {**found.get((model, dataset), {}), **request.settings_of(model, dataset)}

    return replace(request, settings_of=settings_of)

"""The settings of the models in a report, and the versions that made their runs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recbole_gserec.results.load import ModelRuns, StoredRun, requested_settings
from recbole_gserec.settings import (
    MODELS,
    lists_loss_type,
    loss_without_choice,
    objective_settings,
    printed_name,
    registered_models,
)

_OF_THE_NUMBERS = ("recbole-gserec", "recbole", "torch")
"""Packages whose versions are reported if they differ between results."""
_OF_TRAINING = (
    "epochs stopping_step train_rows train_batch_size learner learning_rate weight_decay reg_weight clip_grad_norm "
    "loss_type train_neg_sample_args resample_negatives MAX_ITEM_LIST_LENGTH MAX_SEARCH_LIST_LENGTH embedding_size "
    "hidden_size"
).split()
"""Settings shared by many models; reported if their values differ between models."""


def settings_markdown(dataset: str, cells: Sequence[ModelRuns]) -> str:
    """Describe the settings that all models on a dataset share, those of some models only, and unequal defaults."""
    requested = {}
    for cell in cells:
        for run in cell.runs:
            if run.record:
                requested[printed_name(cell.model)] = {
                    name: json.dumps(value, sort_keys=True, ensure_ascii=False)
                    for name, value in requested_settings(run.record).items()
                }
    if not requested:
        return f"`{dataset}`: no runs with recorded settings."
    first = next(iter(requested.values()))
    common = {item for item in first.items() if all(item in own.items() for own in requested.values())}
    lines = [f"`{dataset}`, all models: {_listed(dict(common)) or 'RecBole defaults'}"]
    for model, own in requested.items():
        if different := dict(own.items() - common):
            lines.append(f"- `{model}`: {_listed(different)}")
    if defaults := _unequal_defaults(cells):
        lines += ["", "Where the models' defaults differ:", "", *defaults]
    return "\n".join(lines)


def _unequal_defaults(cells: Sequence[ModelRuns]) -> list[str]:
    """Write a line for each setting that was not requested and whose default differs between models."""
    records = [run.record for cell in cells for run in cell.finished.values()]
    lines = []
    for name in _OF_TRAINING:
        own_defaults = [record for record in records if name in record["settings"] and name not in record["given"]]
        taken = [(printed_name(record["model"]), record["settings"][name]) for record in own_defaults]
        models: dict[str, list[str]] = {}
        for model, value in _without_equal_parts(taken):
            text = json.dumps(float(value) if type(value) is int else value, sort_keys=True).removesuffix(".0")
            own = models.setdefault(text, [])
            if model not in own:
                own.append(model)
        if len(models) > 1:
            lines.append(f"- `{name}`: " + "; ".join(f"`{value}` {', '.join(own)}" for value, own in models.items()))
    return lines


def _without_equal_parts(taken: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the values of each model; of dicts, only the parts that differ between models."""
    values = [value for _, value in taken]
    if not values or not all(isinstance(value, dict) for value in values):
        return taken
    same = {name for name in values[0] if all(value.get(name) == values[0][name] for value in values)}
    return [(model, {name: part for name, part in value.items() if name not in same}) for model, value in taken]


def _listed(settings: Mapping[str, str]) -> str:
    return ", ".join(f"`{name}: {value}`" for name, value in sorted(settings.items()))


OWN_LOSS = "own"


def loss_of(record: Mapping[str, Any]) -> str:
    """Name the loss that a finished run's model was trained by: its ``loss_type``, or that of a model without choice.

    Returns:
        For example ``BCE``; ``own`` if it is not known.
    """
    model, chosen = record["model"], None
    # A setting may have been given to all models; those that do not list it do not read it. The files of a registered
    # model may not be known here.
    if lists_loss_type(model) or (record.get("model_code") and "loss_type" in record["given"]):
        chosen = record["settings"].get("loss_type")
    if chosen in (None, "CE") and (known := loss_without_choice(model)):
        return known
    if chosen is None and model in MODELS.keys() - registered_models():
        # A run made before its model had the setting.
        chosen = objective_settings()["loss_type"]
    return str(chosen or OWN_LOSS)


def describe_mixed_code(dataset: str, cells: Iterable[ModelRuns]) -> str | None:
    """Say which code made which results of a dataset, if it is not the same for all.

    Uncommitted changes are identified by a digest. Without a digest, it is unknown whether they are the same.

    Returns:
        One sentence; None if the same code made all results.
    """
    models: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        for run in cell.finished.values():
            names = models.setdefault(_code_of(run.record), [])
            if (name := printed_name(cell.model)) not in names:
                names.append(name)
    if len(models) < 2:
        return None
    # Packages with the same version everywhere are not mentioned.
    shown = [index for index, values in enumerate(zip(*models, strict=True)) if len(set(values)) > 1]
    listed = (f"{', '.join(code[index] for index in shown)}: {', '.join(names)}" for code, names in models.items())
    return f"{dataset}: not all results were made with the same code ({'; '.join(listed)})."


def _code_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    versions = record.get("versions") or {}
    packages = [f"{name} {versions.get(name, '?')}" for name in _OF_THE_NUMBERS]
    commit = _commit(record)
    return (*packages, f"commit {commit}" if commit else "no commit")


def _commit(record: Mapping[str, Any]) -> str | None:
    git = record.get("git") or {}
    if not git.get("commit"):
        return None
    changes = f" with changes {git.get('changes') or ''}".rstrip() if git.get("dirty") else ""
    return f"{git['commit'][:12]}{changes}"


def versions_markdown(runs: Sequence[StoredRun]) -> str:
    """List the versions of libraries, Python and the code that made the runs; all versions if there are several."""
    found: dict[str, set[str]] = {}
    for run in runs:
        versions: dict[str, Any] = {**(run.record.get("versions") or {}), "python": run.record.get("python")}
        versions["commit"] = _commit(run.record)
        for name, version in versions.items():
            if version:
                found.setdefault(name, set()).add(str(version))
    listed = (f"{name} {' and '.join(sorted(versions))}" for name, versions in sorted(found.items()))
    return f"Runs were made with {', '.join(listed)}." if found else ""

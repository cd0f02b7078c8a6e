"""The settings that models were given, and the versions that made their runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_gserec.benchmark.model_names import printed_name
from recbole_gserec.benchmark.model_runs import ModelRuns, given_settings
from recbole_gserec.benchmark.results import StoredRun


def settings_markdown(dataset: str, cells: Sequence[ModelRuns]) -> str:
    """The settings that all models on a dataset were given alike, and then those that only some were."""
    given = {}
    for cell in cells:
        for run in cell.runs:
            if run.record:
                given[printed_name(cell.model)] = {
                    name: json.dumps(value, sort_keys=True, ensure_ascii=False)
                    for name, value in given_settings(run.record).items()
                }
    if not given:
        return f"`{dataset}`: no runs that tell their settings."
    first = next(iter(given.values()))
    common = {item for item in first.items() if all(item in own.items() for own in given.values())}
    lines = [f"`{dataset}`, all models: {_listed(dict(common)) or 'RecBole defaults'}"]
    for model, own in given.items():
        if different := dict(own.items() - common):
            lines.append(f"- `{model}`: {_listed(different)}")
    return "\n".join(lines)


def _listed(settings: Mapping[str, str]) -> str:
    return ", ".join(f"`{name}: {value}`" for name, value in sorted(settings.items()))


def versions_markdown(runs: Sequence[StoredRun]) -> str:
    """Versions of libraries, Python and the code that made the runs, all where several did."""
    found: dict[str, set[str]] = {}
    for run in runs:
        versions: dict[str, Any] = {**(run.record.get("versions") or {}), "python": run.record.get("python")}
        git = run.record.get("git") or {}
        if git.get("commit"):
            versions["commit"] = git["commit"][:12] + (" with changes" if git.get("dirty") else "")
        for name, version in versions.items():
            if version:
                found.setdefault(name, set()).add(str(version))
    listed = (f"{name} {' and '.join(sorted(versions))}" for name, versions in sorted(found.items()))
    return f"Runs were made with {', '.join(listed)}." if found else ""

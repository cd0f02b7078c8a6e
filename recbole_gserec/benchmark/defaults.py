"""Defaults that changed since a run was made. A run's key covers only explicitly given settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_gserec.json_files import plain
from recbole_gserec.properties_files import model_settings, preprocess_settings, protocol_settings
from recbole_gserec.settings import dataset_defaults

# These settings change what is measured but not the model, and RecBole stores some of them in another form. The
# candidates themselves show whether two results used the same evaluation.
_OF_THE_EVALUATION = ("eval_args", "metrics", "topk")


def changed_defaults(record: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return this package's defaults that differ between the run and today.

    RecBole's own defaults are not compared, because they belong to its version.

    Args:
        record: Record of a finished run.

    Returns:
        Setting -> its value in the run (None if it did not exist), and its default today.
    """
    took = record["settings"]
    now = model_settings(record["model"])
    if "short_users" in took:
        # The dataset has searches, so its settings and those of the protocol are part of the defaults.
        now = {**protocol_settings(), **now, **dataset_defaults(record["model"], record["dataset"])}
    # The output of the offline stage is already part of a run's key, whatever its settings were.
    names = now.keys() - record["given"].keys() - set(_OF_THE_EVALUATION) - preprocess_settings().keys()
    pairs = {name: (took.get(name), plain(now[name])) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

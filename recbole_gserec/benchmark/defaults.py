"""Settings whose defaults are no longer those that a run took: a run's key tells of the settings it was given alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_gserec.json_files import plain
from recbole_gserec.properties_files import model_settings, preprocess_settings, protocol_settings
from recbole_gserec.settings import dataset_defaults

# They change what is measured and not the model, and RecBole keeps some in another form. Whether results are of the
# same evaluation is told by the candidates themselves.
_OF_THE_EVALUATION = ("eval_args", "metrics", "topk")


def changed_defaults(record: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Defaults of this package that differ between when a run was made and now.

    RecBole's own are not compared: they belong to its version.

    Args:
        record: Of a finished run.

    Returns:
        Setting -> what the run took (None if there was no such setting), and what it would take now.
    """
    took = record["settings"]
    now = model_settings(record["model"])
    if "short_users" in took:
        # The dataset has searches: its settings and those of the protocol are among the defaults.
        now = {**protocol_settings(), **now, **dataset_defaults(record["model"], record["dataset"])}
    # What the offline stage makes is part of a run's key as it is, however it was made.
    names = now.keys() - record["given"].keys() - set(_OF_THE_EVALUATION) - preprocess_settings().keys()
    pairs = {name: (took.get(name), plain(now[name])) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

"""Whether two models' results are of the same interactions and candidates, so that each user's may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_gserec.benchmark.model_runs import ModelRuns


def why_not_comparable(one: ModelRuns, other: ModelRuns) -> str | None:
    """Say what keeps the results of two models from being compared, each user's with the same user's.

    Full ranking has no lists to compare: there, the same data and targets are all that is asked.

    Args:
        one: A model on a dataset.
        other: Another on the same dataset.

    Returns:
        The reason; None if nothing does.
    """
    if not (one.finished and other.finished):
        return "no finished run"
    seeds = common_seeds(one, other)
    if not seeds:
        return "no finished run of a common seed"
    first = one.finished[seeds[0]]
    for seed in seeds:
        a, b = one.finished[seed], other.finished[seed]
        if a.record["dataset_digest"] != b.record["dataset_digest"]:
            return "the dataset's files differ"
        if recorded_mode(a.record) != recorded_mode(b.record):
            return f"{recorded_mode(a.record)} and {recorded_mode(b.record)} are different evaluations"
        # Runs of earlier versions do not tell which interactions they were given.
        told = [run.record["interactions"] for run in (a, b, first) if run.record.get("interactions")]
        if len(set(told)) > 1:
            return f"the interactions of seed {seed} differ: settings that filter them are not the same"
        if a.record["candidates"].get("test") != b.record["candidates"].get("test"):
            return f"the candidate lists of seed {seed} differ"
        if not (a.test_ranks.same_targets(b.test_ranks) and a.test_ranks.same_targets(first.test_ranks)):
            return f"the users or targets of seed {seed} differ"
    return None


def common_seeds(one: ModelRuns, other: ModelRuns) -> tuple[int, ...]:
    """Seeds that both models have finished, ascending."""
    return tuple(sorted(one.finished.keys() & other.finished.keys()))


def recorded_mode(record: Mapping[str, Any]) -> str:
    """How a finished run's targets were ranked, such as ``uni99``."""
    return str(record["candidates"].get("mode"))

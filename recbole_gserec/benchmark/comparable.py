"""Whether two models' results use the same interactions and candidates, so that they can be compared for each user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_gserec.benchmark.model_runs import ModelRuns


def why_not_comparable(one: ModelRuns, other: ModelRuns) -> str | None:
    """Explain why the results of two models cannot be compared for each user.

    Full ranking has no candidate lists, so only data and targets must be equal.

    Args:
        one: A model on a dataset.
        other: Another model on the same dataset.

    Returns:
        The reason; None if the results can be compared.
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
        # Runs of earlier versions do not record their interactions.
        recorded = [run.record["interactions"] for run in (a, b, first) if run.record.get("interactions")]
        if len(set(recorded)) > 1:
            return f"the interactions of seed {seed} differ: settings that filter them differ"
        if a.record["candidates"].get("test") != b.record["candidates"].get("test"):
            return f"the candidate lists of seed {seed} differ"
        if not (a.test_ranks.same_targets(b.test_ranks) and a.test_ranks.same_targets(first.test_ranks)):
            return f"the users or targets of seed {seed} differ"
    return None


def common_seeds(one: ModelRuns, other: ModelRuns) -> tuple[int, ...]:
    """Return the seeds that both models have finished, ascending."""
    return tuple(sorted(one.finished.keys() & other.finished.keys()))


def recorded_mode(record: Mapping[str, Any]) -> str:
    """Return how a finished run ranked its targets, such as ``uni99``."""
    return str(record["candidates"].get("mode"))

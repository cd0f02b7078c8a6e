"""The content of ``run.json`` before the result of the run is known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from recbole_gserec.benchmark.model_code import code_digest
from recbole_gserec.benchmark.provenance import provenance
from recbole_gserec.benchmark.runs import FAILED, FORMAT, Run

_RESULTS = (
    "epochs test_seconds samples_per_epoch parameters flops peak_memory_bytes peak_gpu_memory_bytes device threads "
    "valid test candidates"
).split()


def new_record(run: Run, started: datetime) -> dict[str, Any]:
    """Make a record with what is known when a run starts; all measured values are None.

    Args:
        run: The run.
        started: When the run started.
    """
    identity = {name: getattr(run, name) for name in ("dataset", "dataset_digest", "model", "seed")}
    return {
        "format": FORMAT,
        **identity,
        "given": dict(run.given),
        "derived": dict(run.derived),
        "settings": {},
        "model_code": code_digest(run.model),
        "status": FAILED,
        "error": None,
        "traceback": None,
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": (datetime.now(UTC) - started).total_seconds(),
        **dict.fromkeys(_RESULTS),
        **provenance(),
    }


def failed_record(run: Run, started: datetime, error: str, traceback: str | None = None) -> dict[str, Any]:
    """Make the record of a run that failed.

    Args:
        run: The run.
        started: When the run started.
        error: Why it failed; stored as one line.
        traceback: Where in the code it happened.
    """
    return {**new_record(run, started), "error": " ".join(error.split())[:500], "traceback": traceback}

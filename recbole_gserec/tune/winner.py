"""The best settings: a file that ``run_recbole --config_files`` takes as it is, and what they score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from recbole_gserec.errors import GSERecError
from recbole_gserec.files import written_aside
from recbole_gserec.json_files import write_json
from recbole_gserec.tune.sweep import Sweep
from recbole_gserec.tune.trial_record import TrialRecord, read_trials

BEST_FILE, WINNER_FILE = "best.yaml", "winner.json"
_FIELDS = {"trial": str, "settings": dict, "score": float, "valid": dict, "test": dict, "metric": str}


def choose_winner(folder: Path) -> TrialRecord:
    """The trial with the best validation score.

    Raises:
        GSERecError: If no trial has one.
    """
    trials = read_trials(folder)
    if not trials:
        raise GSERecError(f"no trial of the sweep in {folder} began; see its folder 'ray'")
    if trials[0].best_score is None:
        reason = next((record.error for record in trials if record.error), "they were stopped before their first epoch")
        raise GSERecError(f"no trial of the sweep in {folder} has a score: {reason}")
    return trials[0]


def read_winner(folder: Path, trial: str) -> dict[str, Any] | None:
    """What is known of the winner already; None where that was another trial, or the file is damaged."""
    try:
        winner = json.loads((folder / WINNER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(winner, dict) and all(isinstance(winner.get(name), kind) for name, kind in _FIELDS.items())
    return winner if is_whole and winner["trial"] == trial else None


def write_winner(folder: Path, winner: dict[str, Any]) -> None:
    """Write ``winner.json``."""
    write_json(folder / WINNER_FILE, winner)


def write_best(folder: Path, sweep: Sweep, given: dict[str, Any], winner: dict[str, Any]) -> Path:
    """Write the winner's settings; returns the file.

    Args:
        folder: Of the sweep.
        sweep: The sweep.
        given: All that RecBole was given for the winner's trial.
        winner: Its ``valid`` metrics, ``trial`` and ``score``.
    """
    lines = [
        f"# Best of {len(read_trials(folder))} trials of {sweep.model} on {sweep.dataset} by validation: trial",
        f"# {winner['trial']}, score {winner['score']}.",
    ]
    if sweep.scheduler == "pbt":
        lines.append("# A population changes settings while it trains: these are the last, and alone may do worse.")
    content = yaml.safe_dump({"model": sweep.model, "dataset": sweep.dataset, **given}, allow_unicode=True)
    with written_aside(folder / BEST_FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n" + content, encoding="utf-8")
    return folder / BEST_FILE

"""The best settings with their scores, and a file of them for ``run_recbole --config_files``."""

import logging
from pathlib import Path
from typing import Any

import yaml

from recbole_gserec.errors import DataError, GSERecError
from recbole_gserec.files import read_json, write_json, written_aside
from recbole_gserec.tune.sweep import RECORD_FILE, Sweep, TrialRecord, read_trials, trial_folder

logger = logging.getLogger(__name__)

BEST_FILE, WINNER_FILE = "best.yaml", "winner.json"
_FIELDS = {"trial": str, "settings": dict, "score": float, "valid": dict, "test": dict, "metric": str}


def choose_winner(folder: Path, sweep: Sweep) -> TrialRecord:
    """Return the trial with the best validation score.

    Raises:
        GSERecError: If no trial has a score, or the trial's settings are not part of the sweep.
    """
    trials = read_trials(folder)
    if not trials:
        raise GSERecError(f"no trial of the sweep in {folder} started; see its folder 'ray'")
    if trials[0].best_score is None:
        reason = next((record.error for record in trials if record.error), "they were stopped before their first epoch")
        raise GSERecError(f"no trial of the sweep in {folder} has a score: {reason}")
    if trials[0].settings.keys() != sweep.space.keys():
        trial_path = trial_folder(folder, trials[0].trial)
        raise DataError(trial_path / RECORD_FILE, "its settings do not belong to the sweep", f"Delete {trial_path}")
    return trials[0]


def read_winner(folder: Path, record: TrialRecord) -> dict[str, Any] | None:
    """Read the stored winner; None if it was another trial or the file is damaged."""
    try:
        winner = read_json(folder / WINNER_FILE, "The winner is tested again")
    except FileNotFoundError:
        return None
    except DataError as error:
        logger.warning(str(error))
        return None
    is_whole = all(isinstance(winner.get(name), kind) for name, kind in _FIELDS.items())
    is_same = is_whole and (winner["trial"], winner["settings"]) == (record.trial, record.settings)
    return winner if is_same else None


def write_winner(folder: Path, winner: dict[str, Any]) -> None:
    """Write ``winner.json``."""
    write_json(folder / WINNER_FILE, winner)


def write_best(folder: Path, sweep: Sweep, settings: dict[str, Any], winner: dict[str, Any]) -> Path:
    """Write the winner's settings; return the file.

    Args:
        folder: Folder of the sweep.
        sweep: The sweep.
        settings: All settings of the winner's trial.
        winner: Its ``valid`` metrics, ``trial`` and ``score``.
    """
    lines = [
        f"# Best of {len(read_trials(folder))} trials of {sweep.model} on {sweep.dataset} by validation: trial",
        f"# {winner['trial']}, score {winner['score']}.",
    ]
    if sweep.scheduler == "pbt":
        lines.append(
            "# A population changes settings while it trains: these are the final ones, and may be worse on their own."
        )
    content = yaml.safe_dump({"model": sweep.model, "dataset": sweep.dataset, **settings}, allow_unicode=True)
    with written_aside(folder / BEST_FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n" + content, encoding="utf-8")
    return folder / BEST_FILE

"""What a sweep tries, and the file that identifies the same sweep later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recbole_gserec.errors import SettingError
from recbole_gserec.json_files import read_json, write_json
from recbole_gserec.tune.space import Choice, Range, grid, grid_size, random_points

SWEEP_FILE = "sweep.json"
SCHEDULERS = ("asha", "fifo", "pbt")
GRID, RANDOM = "grid", "random"
MOST_TRIALS_OF_A_GRID = 10_000

_NAMES_IN_MESSAGES = {
    "dataset_digest": "content of the dataset",
    "derived": "codes or text vectors",
    "model_code": "code of the model",
    "given": "settings",
    "n_samples": "number of trials",
    "search": "--search",
    "scheduler": "--scheduler",
    "grace_period": "grace period",
}
"""Names of attributes in messages, if they differ from the attributes' own."""


@dataclass(frozen=True)
class Sweep:
    """A search for good settings of one model on one dataset.

    Attributes:
        model: Name of the model.
        dataset: Name of the dataset.
        dataset_digest: Digest of the dataset's files; see :mod:`recbole_gserec.benchmark.dataset_files`.
        space: Setting -> its values.
        given: Requested settings of all trials, as JSON values.
        seed: RecBole's ``seed`` of all trials, and the seed of the search.
        search: ``grid``, ``random``, or a search algorithm of Ray Tune such as ``optuna``.
        scheduler: One of :data:`SCHEDULERS`.
        n_samples: Number of trials; for a grid, the number of combinations.
        grace_period: Epochs before a trial may be stopped, or between two exchanges of a population.
        derived: Name -> SHA-256 of the files that the offline stage made and the model reads.
        model_code: For a model of another package; see :func:`recbole_gserec.benchmark.model_code.code_digest`.
    """

    model: str
    dataset: str
    dataset_digest: str
    space: Mapping[str, Choice | Range]
    given: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 2020
    search: str = RANDOM
    scheduler: str = "asha"
    n_samples: int = 20
    grace_period: int = 5
    derived: Mapping[str, str] = field(default_factory=dict)
    model_code: str | None = None

    def points(self) -> list[dict[str, Any]] | None:
        """Return the settings of all trials; None if the search chooses them during the sweep.

        Raises:
            SettingError: For a grid with a range, or with too many combinations.
        """
        if self.search == GRID:
            size = grid_size(self.space)
            if size is not None and size > MOST_TRIALS_OF_A_GRID:
                raise SettingError(f"the grid has {size:,} combinations: use --search random, or a smaller --space")
            return list(grid(self.space))
        if self.search == RANDOM:
            return random_points(self.space, self.n_samples, self.seed)
        return None

    def recall(self, folder: Path) -> bool:
        """Return whether the folder already has this sweep; store the sweep if the folder has none.

        Raises:
            SettingError: If the folder has another sweep.
            DataError: If the file that identifies the sweep is damaged.
        """
        path, content = folder / SWEEP_FILE, json.loads(json.dumps(asdict(self)))
        try:
            known = read_json(path, "Name another folder with --output, or delete this one.")
        except FileNotFoundError:
            write_json(path, content)
            return False
        if other := sorted(name for name in content if known.get(name) != content[name]):
            differences = " and ".join(_NAMES_IN_MESSAGES.get(name, name) for name in other)
            raise SettingError(
                f"{folder} has a sweep with other {differences}: name another folder with --output, or delete this one"
            )
        return True

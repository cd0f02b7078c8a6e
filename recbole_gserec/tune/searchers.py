"""Ray Tune's search algorithms and schedulers, by name."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining
from ray.tune.search import SEARCH_ALG_IMPORT

from recbole_gserec.errors import MissingDependencyError, SettingError
from recbole_gserec.tune.space import Choice, Range
from recbole_gserec.tune.sweep import GRID, RANDOM, Sweep
from recbole_gserec.tune.trial import EPOCH, SCORE

_EXTRAS = {"optuna": "optuna"}


def check_search(name: str) -> None:
    """Refuse a search algorithm that Ray Tune does not have or whose library is not installed.

    Raises:
        SettingError: With the known names.
        MissingDependencyError: With what to install.
    """
    if name not in (GRID, RANDOM):
        make_searcher(name, None, "max", 0)


def make_searcher(name: str, space: Any, mode: str, seed: int) -> Any:
    """Create a search algorithm that chooses the next settings by earlier results."""
    if name not in SEARCH_ALG_IMPORT or name in ("variant_generator", RANDOM):
        known = ", ".join(sorted({GRID, RANDOM, *SEARCH_ALG_IMPORT} - {"variant_generator"}))
        raise SettingError(f"--search is '{name}'; choose from: {known}")
    kind = SEARCH_ALG_IMPORT[name]()
    # The algorithms name their random seed differently.
    seeds = {"optuna": "seed", "hyperopt": "random_state_seed", "bayesopt": "random_state", "bohb": "seed"}
    options = {seeds[name]: seed} if name in seeds else {}
    try:
        return kind(metric=SCORE, mode=mode, **options)
    except (ImportError, AssertionError) as error:
        what = f"pip install 'recbole-gserec[{_EXTRAS[name]}]'" if name in _EXTRAS else " ".join(str(error).split())
        raise MissingDependencyError(f"--search {name} needs a library that is not installed: {what}") from error


def make_scheduler(sweep: Sweep, mode: str, n_epochs: int) -> Any:
    """Create the scheduler, which stops weak trials or continues them with the weights of good ones."""
    if sweep.scheduler == "asha":
        return ASHAScheduler(
            time_attr=EPOCH,
            metric=SCORE,
            mode=mode,
            # A trial that has trained all its epochs ends by itself.
            max_t=max(n_epochs, sweep.grace_period) + 1,
            grace_period=sweep.grace_period,
            reduction_factor=3,
        )
    if sweep.scheduler == "pbt":
        return PopulationBasedTraining(
            time_attr=EPOCH,
            metric=SCORE,
            mode=mode,
            perturbation_interval=sweep.grace_period,
            hyperparam_mutations=_mutations(sweep.space),
            custom_explore_fn=partial(_within, dict(sweep.space)),
            # A trial may start before all others have reported.
            synch=False,
        )
    return FIFOScheduler()


def _within(space: Mapping[str, Choice | Range], settings: dict[str, Any]) -> dict[str, Any]:
    """Move settings that were multiplied by a factor back into their ranges."""
    for name, values in space.items():
        if isinstance(values, Range):
            lowest, highest, *_ = values.numbers
            # The upper bound of Ray's integer ranges is exclusive.
            highest -= values.kind.endswith("randint")
            settings[name] = min(max(settings[name], lowest), highest)
    return settings


def _mutations(space: Mapping[str, Choice | Range]) -> dict[str, Any]:
    return {
        name: list(values.values) if isinstance(values, Choice) else values.domain() for name, values in space.items()
    }

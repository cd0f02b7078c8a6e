"""Search spaces: which values of which settings are tried.

A space is a YAML file, with ``learning_rate: [0.001, 0.0001]`` for values to choose from and ``learning_rate:
{loguniform: [0.0001, 0.01]}`` for a range. It may also be a text file in the form of RecBole's ``hyper.test``.
"""

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.settings import read_config_files, tune_file

RANGES = {"uniform": 2, "loguniform": 2, "quniform": 3, "qloguniform": 3, "randint": 2, "lograndint": 2}
"""Kind of range -> how many numbers it takes: lowest, highest, and a step."""

_YAML_ADVICE = "Write 'name: [value, value]', or 'name: {loguniform: [lowest, highest]}', one setting per line."
_TEXT_ADVICE = "Write 'name choice [value, value]' or 'name uniform lowest,highest', one setting per line."


@dataclass(frozen=True)
class Choice:
    """A list of values to choose from."""

    values: tuple[Any, ...]

    def domain(self) -> Any:
        """The values as a Ray Tune domain."""
        from ray import tune

        return tune.choice(list(self.values))


@dataclass(frozen=True)
class Range:
    """A range of numbers; ``kind`` is one of :data:`RANGES`."""

    kind: str
    numbers: tuple[float, ...]

    def domain(self) -> Any:
        """The range as a Ray Tune domain."""
        from ray import tune

        return getattr(tune, self.kind)(*self.numbers)


Space = Mapping[str, Choice | Range]


def read_space(path: Path) -> dict[str, Choice | Range]:
    """Read a search space.

    Raises:
        DataError: With the file and, in a file of RecBole's form, the line.
    """
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path)
    return _from_hyper_test(path)


def default_space(model: str) -> dict[str, Choice | Range]:
    """Return this package's search space for a model.

    Raises:
        SettingError: If there is none.
    """
    path = tune_file(model)
    if path is None:
        raise SettingError(f"there is no search space for {model}: give one with --space")
    return _from_yaml(path)


def grid_size(space: Space) -> int | None:
    """Return the number of combinations; None if a range has infinitely many."""
    choices = [values for values in space.values() if isinstance(values, Choice)]
    return math.prod(len(choice.values) for choice in choices) if len(choices) == len(space) else None


def grid(space: Space) -> Iterator[dict[str, Any]]:
    """Return all combinations; the last setting changes fastest.

    Raises:
        SettingError: If a setting has a range.
    """
    for values in product(*_choices(space).values()):
        yield dict(zip(space, values, strict=True))


def random_points(space: Space, n_points: int, seed: int) -> list[dict[str, Any]]:
    """Return distinct random combinations, or all of them if there are fewer."""
    rng = np.random.default_rng(seed)
    size = grid_size(space)
    if size is not None:
        indices = rng.permutation(size)[:n_points] if size < 10**6 else _distinct(rng, size, n_points)
        return [_combination(space, int(index)) for index in indices]
    domains = {name: values.domain() for name, values in space.items()}
    # Ray's domains use NumPy's legacy random generator.
    state = np.random.RandomState(rng.integers(2**32))
    return [
        {name: _plain(domain.sample(random_state=state)) for name, domain in domains.items()} for _ in range(n_points)
    ]


def _distinct(rng: np.random.Generator, size: int, n_points: int) -> list[int]:
    indices: dict[int, None] = {}
    while len(indices) < n_points:
        indices[int(rng.integers(size))] = None
    return list(indices)


def _combination(space: Space, number: int) -> dict[str, Any]:
    """Return one of the combinations of :func:`grid`."""
    chosen = {}
    for name, values in reversed(_choices(space).items()):
        number, index = divmod(number, len(values))
        chosen[name] = values[index]
    return {name: chosen[name] for name in space}


def _choices(space: Space) -> dict[str, tuple[Any, ...]]:
    for name, values in space.items():
        if not isinstance(values, Choice):
            raise SettingError(f"--search grid needs lists of values, but {name} has a range: use random")
    return {name: values.values for name, values in space.items() if isinstance(values, Choice)}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _from_yaml(path: Path) -> dict[str, Choice | Range]:
    space: dict[str, Choice | Range] = {}
    for name, values in read_config_files([path]).items():
        if isinstance(values, list) and values:
            space[name] = Choice(tuple(values))
        elif isinstance(values, dict) and len(values) == 1 and isinstance(next(iter(values.values())), list):
            kind, numbers = next(iter(values.items()))
            space[name] = _range(path, name, kind, numbers, _YAML_ADVICE)
        else:
            raise DataError(path, f"{name} has neither values nor a range", _YAML_ADVICE)
    return space


def _range(
    path: Path, name: str, kind: str, numbers: Sequence[Any], advice: str, line: int | None = None
) -> Choice | Range:
    if kind == "choice" and numbers:
        return Choice(tuple(numbers))
    fits = kind in RANGES and len(numbers) == RANGES[kind]
    values = [value for value in map(_number, numbers) if value is not None]
    if not fits or len(values) < len(numbers) or not values[0] < values[1]:
        kinds = ", ".join(["choice", *RANGES])
        raise DataError(
            path, f"{name} needs a range such as {{uniform: [0, 1]}}; the kinds are {kinds}", advice, line=line
        )
    if kind.lstrip("q").startswith("log") and values[0] <= 0:
        raise DataError(path, f"{name}: {kind} begins at {values[0]}; its numbers must be above 0", advice, line=line)
    if kind.endswith("randint"):
        if not all(value.is_integer() for value in values):
            raise DataError(path, f"{name}: {kind} needs whole numbers", advice, line=line)
        values = [int(value) for value in values]
    if len(values) == 3 and values[2] <= 0:
        raise DataError(path, f"{name}: the step of {kind} is {values[2]}; it must be above 0", advice, line=line)
    return Range(kind, tuple(values))


def _number(value: Any) -> float | None:
    # YAML reads 1e-4, which has no decimal point, as text.
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None


def _from_hyper_test(path: Path) -> dict[str, Choice | Range]:
    """Read RecBole's text file; its bounds of ``loguniform`` are natural logarithms."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", _TEXT_ADVICE) from error
    except UnicodeDecodeError as error:
        raise DataError(path, "not UTF-8 text", _TEXT_ADVICE) from error
    space = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 3:
            raise DataError(path, "not a setting, a kind and values", _TEXT_ADVICE, line=number)
        name, kind, text = words[0], words[1], " ".join(words[2:])
        try:
            values = ast.literal_eval(text if kind == "choice" else f"[{text}]")
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise DataError(path, f"the values of {name} cannot be read", _TEXT_ADVICE, line=number) from error
        if not isinstance(values, (list, tuple)):
            raise DataError(path, f"{name} has a single value instead of a list", _TEXT_ADVICE, line=number)
        if kind == "loguniform" and all(_number(value) is not None for value in values):
            values = [math.exp(value) for value in values]
        space[name] = _range(path, name, kind, values, _TEXT_ADVICE, line=number)
    if not space:
        raise DataError(path, "no setting in it", _TEXT_ADVICE)
    return space

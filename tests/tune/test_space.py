"""Search spaces: files, grids and random points."""

import math
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import recbole as recbole_package
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.runs.plan import read_preset
from recbole_gserec.settings.defaults import for_train_rows, model_settings, properties_folder
from recbole_gserec.settings.names import known_settings
from recbole_gserec.settings.values import check_values
from recbole_gserec.tune.space import Choice, Range, default_space, grid, grid_size, random_points, read_space


def write(tmp_path, text, name="space.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml(tmp_path):
    space = read_space(
        write(
            tmp_path, "a: [1, 2.5, x]\nb: {loguniform: [1e-4, 0.1]}\nc: {randint: [1, 5]}\nd: {choice: [[1, 2], [3]]}\n"
        )
    )
    assert space == {
        "a": Choice((1, 2.5, "x")),
        "b": Range("loguniform", (1e-4, 0.1)),
        "c": Range("randint", (1, 5)),
        "d": Choice(([1, 2], [3])),
    }


def test_recboles_text(tmp_path):
    lines = [
        "# comment",
        "learning_rate loguniform -8,0",
        "n_layers choice [1, 2]",
        "sizes choice ['[64]','[64, 64]']",
        "q quniform 0,1,0.5",
    ]
    text = "\n".join(lines)
    space = read_space(write(tmp_path, text, "hyper.test"))
    assert space["learning_rate"].kind == "loguniform"
    # RecBole's are hyperopt's: bounds of the logarithm.
    assert space["learning_rate"].numbers == pytest.approx((math.exp(-8), 1.0))
    assert space["n_layers"] == Choice((1, 2))
    assert space["sizes"] == Choice(("[64]", "[64, 64]"))
    assert space["q"] == Range("quniform", (0, 1, 0.5))


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a choice", 1, "not a setting, a kind and values"),
        ("\na choice 1", 2, "a has a single value instead of a list"),
        ("a uniform 1", 1, "a needs a range"),
        ("a uniform 2,1", 1, "a needs a range"),
        ("a normal 0,1", 1, "a needs a range"),
        ("a choice [__import__('os').system('touch opened')]", 1, "the values of a cannot be read"),
        ("", None, "no setting in it"),
    ],
)
def test_text_that_is_wrong(tmp_path, monkeypatch, text, line, problem):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, text, "hyper.test")
    with pytest.raises(DataError, match=problem) as caught:
        read_space(path)
    assert (f"{path}, line {line}: " if line else f"{path}: ") in str(caught.value)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("text", ["a: 1", "a: []", "a: {}", "a: {uniform: 1}"])
def test_neither_values_nor_a_range(tmp_path, text):
    with pytest.raises(DataError, match="a has neither values nor a range"):
        read_space(write(tmp_path, text))


@pytest.mark.parametrize("text", ["{uniform: [0, .inf]}", "{uniform: [true, 2]}", "{box: [0, 1]}", "{uniform: [2, 1]}"])
def test_no_range(tmp_path, text):
    with pytest.raises(DataError, match="a needs a range such as"):
        read_space(write(tmp_path, f"a: {text}"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{quniform: [0, 1, 0]}", "the step of quniform is 0"), ("{randint: [0.2, 0.9]}", "randint needs whole numbers")],
)
def test_numbers_of_a_range_that_ray_would_stumble_over(tmp_path, text, problem):
    with pytest.raises(DataError, match=problem):
        read_space(write(tmp_path, f"a: {text}"))


def test_loguniform_needs_numbers_above_0(tmp_path):
    with pytest.raises(DataError, match="loguniform begins at 0"):
        read_space(write(tmp_path, "a: {loguniform: [0, 1]}"))


SPACE = {"a": Choice((1, 2, 3)), "b": Choice(("x", "y")), "c": Choice((True, False))}


def test_grid_has_every_combination_once():
    points = list(grid(SPACE))
    assert grid_size(SPACE) == len(points) == 12
    assert [tuple(point.values()) for point in points] == list(product((1, 2, 3), "xy", (True, False)))


def test_grid_takes_no_range():
    with pytest.raises(SettingError, match="a has a range"):
        list(grid({"a": Range("uniform", (0, 1))}))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 40), st.integers(0, 3))
def test_random_points_differ_and_are_repeatable(sizes, n_points, seed):
    space = {f"s{position}": Choice(tuple(range(size))) for position, size in enumerate(sizes)}
    points = random_points(space, n_points, seed)
    assert points == random_points(space, n_points, seed)
    assert len(points) == min(n_points, math.prod(sizes))
    assert len({tuple(point.items()) for point in points}) == len(points)
    all_points = list(grid(space))
    assert all(point in all_points for point in points)


def test_every_combination_is_as_likely():
    counts = np.zeros(12)
    points = list(grid(SPACE))
    for seed in range(600):
        counts[points.index(random_points(SPACE, 1, seed)[0])] += 1
    assert counts.min() > 25


def test_random_points_of_a_large_grid_and_of_ranges():
    large = {f"s{position}": Choice(tuple(range(100))) for position in range(5)}
    assert len({tuple(point.values()) for point in random_points(large, 50, 0)}) == 50
    space = {"a": Range("loguniform", (1e-4, 1e-1)), "b": Choice((1, 2)), "c": Range("randint", (1, 4))}
    points = random_points(space, 200, 1)
    assert points == random_points(space, 200, 1) != random_points(space, 200, 2)
    values = np.array([point["a"] for point in points])
    assert ((values >= 1e-4) & (values <= 1e-1)).all()
    # Half of a log-uniform range lies below its geometric mean.
    assert 60 < (values < 10**-2.5).sum() < 140
    assert {point["c"] for point in points} == {1, 2, 3} and {type(point["a"]) for point in points} == {float}


SHIPPED = sorted((properties_folder() / "tune").glob("*.yaml"))
RATES, PENALTIES, DROPOUTS = (0.003, 0.001, 0.0003), (0.0, 1e-6, 1e-5, 1e-4), (0.1, 0.2, 0.3, 0.5)
WITHOUT_DROPOUT = {"LightGCN", "SGL", "SimGCL"}
"""Models of graphs, which regularise by a penalty of their own."""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_spaces_that_ship(path):
    """Every setting is one that the model reads, and every value one that it takes."""
    model, space = path.stem.partition("-")[0], read_space(path)
    assert set(space) <= known_settings(model)
    for name, values in space.items():
        assert len(set(values.values)) == len(values.values) > 1
        for value in values.values:
            check_values({name: value}, model)
    assert yaml.safe_load(path.read_text()).keys() == space.keys()


def defaults_of(model):
    """What a model is trained with where nothing is given: RecBole's defaults below those of this package."""
    recbole = Path(recbole_package.__file__).parent / "properties"
    files = (recbole / "overall.yaml", recbole / "model" / f"{model}.yaml")
    # RecBole takes 1e-5, without a point, for a number; plain YAML does not.
    of_recbole = {
        name: float(value) if isinstance(value, str) and re.fullmatch(r"\d+e-\d+", value) else value
        for file in files
        if file.is_file()
        for name, value in yaml.safe_load(file.read_text(encoding="utf-8")).items()
    }
    return for_train_rows({**of_recbole, **model_settings(model)}, {})


@pytest.mark.parametrize("model", read_preset("table2").models)
def test_spaces_reach_equally_far(model):
    """The same learning rates, penalties and dropouts for all, and at most two settings of a model's own."""
    space = {name: values.values for name, values in default_space(model).items()}
    penalty = "reg_weight" if model in WITHOUT_DROPOUT else "weight_decay"
    dropout = "dropout_prob" if model == "GRU4Rec" else "hidden_dropout_prob"
    shared = {"learning_rate": RATES, penalty: PENALTIES, dropout: DROPOUTS}
    defaults = defaults_of(model)
    assert (dropout in defaults) == (model not in WITHOUT_DROPOUT)
    assert ("reg_weight" in defaults) == (model in WITHOUT_DROPOUT)
    for name, values in shared.items():
        assert name not in defaults or space.pop(name) == values
    assert len(space) <= 2
    assert all(len(values) <= 3 for values in space.values())
    for name, values in {name: values.values for name, values in default_space(model).items()}.items():
        assert defaults[name] in values, name


def test_only_models_of_table_2_and_other_forms_of_gserec_ship():
    assert {path.stem for path in SHIPPED} == {*read_preset("table2").models, "GSERec-paper", "GSERec-best"}
    assert grid_size(read_space(properties_folder() / "tune" / "GSERec-paper.yaml")) == 5**3 * 3**2
    with pytest.raises(SettingError, match="no search space for BPR: give one with --space"):
        default_space("BPR")

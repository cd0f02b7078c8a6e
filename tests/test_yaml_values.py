"""YAML is read as RecBole reads it, and runs nothing."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from recbole.config import Config

from recbole_gserec.yaml_values import read_yaml


@pytest.mark.parametrize(
    "text",
    [
        "1e-5",
        "1E5",
        "+1e+5",
        "-2_0e3",
        "1.0e5",
        "1.e-2",
        "0.001",
        ".5",
        "1.0e-5",
        "12",
        "e5",
        "1e",
        "1e5x",
        "[1e-3, a]",
        ".5e5",
        "-.5e3",
        ".5e-5",
    ],
)
def test_numbers_are_those_of_recbole(text):
    stock = Config._build_yaml_loader(object.__new__(Config))
    expected, value = yaml.load(text, stock), read_yaml(text)
    assert value == expected
    assert type(value) is type(expected)


def test_an_exponent_makes_a_number():
    assert read_yaml("a: 1e-5\nb: '1e-5'") == {"a": 1e-5, "b": "1e-5"}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_prints_is_read_back(number):
    assert read_yaml(repr(number)) == number


def test_tags_make_no_objects():
    with pytest.raises(yaml.YAMLError):
        read_yaml("!!python/object/apply:os.getcwd []")
    with pytest.raises(yaml.YAMLError):
        read_yaml("!!python/name:os.getcwd")

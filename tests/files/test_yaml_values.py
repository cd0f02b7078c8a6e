"""YAML is read as RecBole reads it, and runs nothing."""

import ast
import contextlib
import inspect
import json
import re
import time

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from recbole.config import configurator

from recbole_gserec.errors import SettingError
from recbole_gserec.files.yaml_values import YAMLLimitError, read_value, read_yaml
from recbole_gserec.settings.config import gpu_ids


@pytest.fixture(scope="module")
def stock():
    """The loader of RecBole's own files, with the pattern that stands in its source."""

    class Stock(yaml.FullLoader):
        pass

    tree = ast.parse(inspect.getsource(configurator))
    (pattern,) = (
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "compile" and node.args
    )
    Stock.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(pattern, re.X), list("-+0123456789."))
    return Stock


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
def test_numbers_are_those_of_recbole(text, stock):
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


@pytest.mark.parametrize("text", ["010", "-017", "1:30", "1:30.5", "2024-03-01", "2024-03-01 10:00:00", "0o17", "1_0x"])
def test_what_old_yaml_takes_for_numbers_and_dates_is_text(text):
    assert read_yaml(f"a: {text}") == {"a": text}
    assert read_value("a", text) == text


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0x1F", 31), ("0b11", 3), ("1_000", 1000), ("+7", 7)])
def test_whole_numbers(text, number):
    assert read_yaml(text) == read_value("a", text) == number


def test_nothing_as_python_writes_it():
    assert read_yaml("a: None\nb: [None, 'None', none]\nc:\nd: ~") == {
        "a": None,
        "b": [None, "None", "none"],
        "c": None,
        "d": None,
    }


# ---- values given as texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("-3", -3),
        (".5", 0.5),
        ("[1,5,10]", [1, 5, 10]),
        ("[1, None, True, 'CE', BPR]", [1, None, True, "CE", "BPR"]),
        ("{'split': {'LS': 'valid_and_test'}, 'order': 'TO'}", {"split": {"LS": "valid_and_test"}, "order": "TO"}),
        ('{"mode":"full"}', {"mode": "full"}),
        ("{'inter':[user_id,item_id,timestamp]}", {"inter": ["user_id", "item_id", "timestamp"]}),
        ("{mode: uni99}", {"mode": "uni99"}),
        ("{}", {}),
        ("[]", []),
        ("None", None),
        ("null", None),
        ("~", None),
        ("", None),
        ("True", True),
        ("true", True),
        ("False", False),
        ("'CE'", "CE"),
        ('"1"', "1"),
        ("'it''s'", "it's"),
        ("5  # five", "5  # five"),
    ],
)
def test_a_text_is_the_value_that_a_file_would_have(text, value):
    read = read_value("name", text)
    assert read == value and type(read) is type(value)
    if "#" not in text:
        assert read_yaml(f"a: {text}") == {"a": value}


@pytest.mark.parametrize(
    "text",
    [
        "CE",
        "[3,inf)",
        "(3,10]",
        "[3,inf);(1,2]",
        "0,1",
        "GSERec: a first try",
        "runs #3",
        "# 3",
        "- a",
        "&a b",
        "*a",
        "!!str 5",
        "!!python/object/apply:os.getcwd []",
        "!!binary aGk=",
        "@here",
        "%d",
        "|",
        ">",
        "a\nb",
        " ",
        " padded ",
        "[1, 2",
        "{'a': 1, 'a': 2}",
        "{[1]: 2}",
        "0x_",
        "__import__('os').system('true')",
        "open('/etc/passwd').read()",
        "lambda: 3",
        "2**10",
        "exit()",
        "(CE)",
        "{1,2}",
        "{'a', 'b'}",
        "{a, b}",
        "{a: 1, b}",
        "[1, {2, 3}]",
        "{(1, 2): 3}",
        "{'a': (1, x)}",
        "{timestamp: (1,inf)}",
        "{timestamp: (1,inf]}",
        "[(a,b),(c,d)]",
        "['a' 'b']",
        "'a' 'b'",
        "[1][0]",
        "'a'[0]",
        "(open)(1)",
        "('a')('b')",
        "\x00",
        "\ud83d",
    ],
)
def test_all_else_is_the_text_itself(text):
    assert read_value("name", text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"'\t'", "\t"),
        (r'"\t"', "\t"),
        (r"{'sep': '\x01'}", {"sep": "\x01"}),
        (r"'\d'", r"\d"),
        (r"'it\'s'", "it's"),
        ("{'split':{'RS':(8,1,1)}}", {"split": {"RS": [8, 1, 1]}}),
        ("[(1,2),(3,4)]", [[1, 2], [3, 4]]),
        ("{'a': (1,2)}", {"a": [1, 2]}),
        ("(64,32)", [64, 32]),
        ("('a',)", ["a"]),
        ("()", []),
        ("('a', -1.5, None, (True, {2: ()}))", ["a", -1.5, None, [True, {2: []}]]),
        ("['a', 'b',]", ["a", "b"]),
        (" [1, 2] ", [1, 2]),
        ("{'a': 1,\n 'b': 2}", {"a": 1, "b": 2}),
        ("('it')", "it"),
    ],
)
def test_literals_of_python_are_read_with_lists_for_tuples(text, value):
    assert read_value("name", text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[Hit, NDCG]", ["Hit", "NDCG"]),
        ("{mode: full}", {"mode": "full"}),
        ('{"a": true, "b": [false, null]}', {"a": True, "b": [False, None]}),
        ("[true, None, ~]", [True, None, None]),
        ("[f(x), 'it''s', b'c']", ["f(x)", "it's", "b'c'"]),
        ("{a: , b: ~}", {"a": None, "b": None}),
        ("{rating: '[3,inf)'}", {"rating": "[3,inf)"}),
        ("{'rating': '(3,10)'}", {"rating": "(3,10)"}),
        ("[010, 1:30]", ["010", "1:30"]),
    ],
)
def test_what_is_no_literal_of_python_is_yaml(text, value):
    assert read_value("name", text) == value


@pytest.mark.parametrize("name", ["user_inter_num_interval", "item_inter_num_interval", "entity_kg_num_interval"])
def test_intervals_stay_texts(name):
    for text in ("[3,inf]", "[0,10]", "(3,10)", "[3,inf)", "[3,4];[6,inf)", "[0,5);[7,9]"):
        assert read_value(name, text) == read_value(name, f"'{text}'") == text
    assert read_value(name, "None") is read_value(name, "") is None


@pytest.mark.parametrize("text", ["0", "0,1", "'0,1'", "(0,1)", "[0,1]", "['0', '1']", "'0'", ""])
def test_gpus_are_those_that_are_named(text):
    assert gpu_ids(read_value("gpu_id", text)) == ",".join(re.findall(r"\d", text))


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b c", "None", "1"]), inner),
    max_leaves=8,
)


@given(plain)
def test_what_python_and_json_print_is_read_back(value):
    assert read_value("name", repr(value)) == value
    assert read_value("name", json.dumps(value)) == value


@given(st.text())
def test_any_text_is_a_value_or_itself(text):
    value = read_value("name", text)
    assert value == text or not isinstance(value, str) or text.strip()[0] in "('\""


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], max_codepoint=0xFFFF), min_size=1))
def test_a_quoted_text_is_that_text(text):
    assume("\ufeff" not in text and "\\" not in text)
    doubled = text.replace("'", "''")
    assert read_value("name", f"'{doubled}'") == text


# ---- texts made to do harm ---------------------------------------------------------------------------------------


def nested_aliases(depth: int) -> str:
    lists = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for index in range(1, depth + 1):
        lists.append(f"a{index}: &a{index} [{', '.join([f'*a{index - 1}'] * 9)}]")
    return "\n".join(lists)


HARMFUL = {
    "aliases": nested_aliases(9),
    "merged aliases": "a: &a {x: 1}\n" + "\n".join(f"b{n}: {{<<: [{', '.join(['*a'] * 99)}]}}" for n in range(500)),
    "itself in a list": "a: &a [1, *a]",
    "itself in a dict": "a: &a {b: [*a]}",
    "itself as a name": "? &a [*a]\n: 1",
    "many names": "".join(f"name{n}: 1\n" for n in range(300_000)),
    "many values": "a: [" + "1, " * 30_000 + "1]",
    "deep brackets": "a: " + "[" * 100_000,
    "deep braces": "{a: " * 50_000,
    "deep dashes": "- " * 100_000,
    "deep lines": "".join(" " * n + "a:\n" for n in range(600)),
    "deep and closed": "a: " + "[" * 60 + "]" * 60,
    "many digits": "a: " + "9" * 5_000,
    "more digits": "a: " + "0x" + "f" * 200_000,
    "more than 64 bits": "a: 9223372036854775808",
    "less than 64 bits": "a: [-9223372036854775809]",
    "a long text": "a: " + "b" * 400_000,
}


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
def test_harmful_texts_are_refused_at_once(text):
    start = time.process_time()
    with pytest.raises(YAMLLimitError) as error:
        read_yaml(text)
    assert time.process_time() - start < 5
    assert len(error.value.problem) < 200


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "nested more than 50 deep"),
        ("[" + "1, " * 30_000 + "1]", "more than 10,000 values"),
        ("&a [*a]", "'*a' contains itself"),
        ("9" * 5_000, "a number of more than 64 bits"),
        ("[1, 9223372036854775808]", "a number of more than 64 bits"),
        ("x" * 400_000, "more than 300,000 characters"),
        ("'" + "x" * 400_000 + "'", "more than 300,000 characters"),
        ("(" + "(" * 60 + "1," + ")," * 60 + ")", "nested more than 50 deep"),
        ("('a'," + "1, " * 30_000 + "1)", "more than 10,000 values"),
        ("(1, 9223372036854775808)", "a number of more than 64 bits"),
        ("{'a': -9223372036854775809}", "a number of more than 64 bits"),
        ("[0x" + "f" * 200_000 + "]", "a number of more than 64 bits"),
        ("[" + "9" * 5_000 + "]", "a number of more than 64 bits"),
    ],
)
def test_harmful_values_are_refused_with_their_name(text, problem):
    with pytest.raises(SettingError) as error:
        read_value("topk", text)
    assert str(error.value).startswith("topk is '") and str(error.value).endswith(problem)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        "(" * 290_000,
        "[" + "-" * 290_000 + "1]",
        "[1" + "+1" * 140_000 + "]",
        "'" * 290_000,
        "'a'," * 70_000 + "x",
        "[" + "1" * 290_000 + "x]",
        "[" + "1_" * 140_000 + "x]",
        "'a'" + " " * 290_000 + "x",
        "'" + "\\" * 290_000,
        "{" + "(1," * 90_000,
        "(" + "1," * 140_000,
        "None" * 70_000,
        "(" + "{}," * 90_000 + ")x",
    ],
    ids=str.__len__,
)
def test_harmful_literals_take_little_time(text):
    start = time.process_time()
    with contextlib.suppress(SettingError):
        read_value("topk", text)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("text", ["a: 1\na: 1", "{a: {b: 1, b: 2}}", "a: 1\n'a': 2", "- {a: 1, a: 1}"])
def test_a_name_that_stands_twice_is_refused(text):
    with pytest.raises(yaml.YAMLError, match="occurs twice here"):
        read_yaml(text)


@pytest.mark.parametrize(
    "text", ["!!int x", "!!float x", "0x_", "!!int ''", "!!bool perhaps", "!!set {a}", "!!binary a"]
)
def test_values_in_the_wrong_form_are_refused(text):
    with pytest.raises(yaml.YAMLError):
        read_yaml(f"a: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "x: {y: {base: &base {a: 1}, mid: &mid {<<: *base, a: 2}}}\ntop: {<<: *mid}",
        "x: {base: &base {a: 1, b: 3}, mid: &mid {<<: *base, a: 2}, more: *mid}\ntop: {<<: [*mid, *base], b: 4}",
        "x:\n  mid: &mid\n    <<: {a: 1}\n    a: 2\ntop:\n  <<: *mid\n  a: 3\nagain:\n  <<: *mid",
    ],
)
def test_what_is_merged_may_have_names_that_stand_there_too(text):
    assert read_yaml(text) == yaml.safe_load(text)


def test_a_name_that_stands_twice_beside_what_is_merged_is_refused():
    with pytest.raises(yaml.YAMLError, match="'a' occurs twice here"):
        read_yaml("base: &base {a: 1}\nx: {<<: *base, a: 2, a: 3}")


def test_honest_anchors_are_read():
    text = "base: &base {mode: full, k: [1, 2]}\nmine: {<<: *base, k: 3}\nagain: *base"
    assert read_yaml(text) == {
        "base": {"mode": "full", "k": [1, 2]},
        "mine": {"mode": "full", "k": 3},
        "again": {"mode": "full", "k": [1, 2]},
    }
    assert len(read_yaml("".join(f"name{n}: {n}\n" for n in range(2_000)))) == 2_000
    assert read_yaml("a: 9223372036854775807\nb: -9223372036854775808") == {"a": 2**63 - 1, "b": -(2**63)}

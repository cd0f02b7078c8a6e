"""The one way to read settings: as YAML, in files and on the command line, and never as code.

Numbers are those that RecBole reads (``1e-5``), and ``None``, as written in Python, is null. Dates stay texts, and so
do the octal and base-60 numbers of old YAML, ``010`` and ``1:30``, which nobody intends. A value given as a text may
also be a Python literal, ``{'split': {'RS': (8, 1, 1)}}``.
"""

import ast
import re
import warnings
from typing import Any, TextIO

import yaml

from recbole_gserec.errors import SettingError

_MOST_CHARACTERS = 300_000
_MOST_VALUES = 10_000
_DEEPEST = 50
_LARGEST, _MOST_DIGITS = 2**63, 100
_NOTHING = ("", "~", "null", "Null", "NULL", "None")
_INTERVAL = r"[\[(][^\[\](){};]*[\])]"
_INTERVALS = re.compile(rf"{_INTERVAL}(?:\s*;\s*{_INTERVAL})+")
_NAME_OF_INTERVALS = "_num_interval"
# Python literals that settings may use. Two adjacent strings are not a literal: 'it\'\'s' is YAML.
_LITERAL = re.compile(
    r"""(?:[\s\[\](){},:]"""
    r"""|(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?!\s*['"])"""
    r"""|[-+]?(?:0[xXoObB]\w+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][-+]?\d+)?)(?![\w.'"+-])"""
    r"""|(?:None|True|False)(?![\w'"]))+""",
    re.DOTALL | re.ASCII,
)
_FIRSTS = tuple("[({'\"")
_SHOWN = 60
_OWN_RULES = ("int", "float", "null", "timestamp")
_NO_SETTINGS = ("binary", "omap", "pairs", "set", "timestamp")


class YAMLLimitError(yaml.MarkedYAMLError):
    """A text is valid YAML but not valid for settings: endless, huge, or nested too deep."""


class Loader(yaml.SafeLoader):
    """Reads only plain values, and stops early at texts made to fill the memory or to run forever.

    Names and values of an alias count each time it is used: nine nested lists of nine aliases each would be 400
    million.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if tag.rpartition(":")[2] not in _OWN_RULES]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] not in _NO_SETTINGS
    }

    def __init__(self, stream: str | TextIO):
        # One more character shows that there are too many; a device or a pipe has no end.
        text = stream if isinstance(stream, str) else stream.read(_MOST_CHARACTERS + 1)
        if len(text) > _MOST_CHARACTERS:
            raise YAMLLimitError(problem=f"more than {_MOST_CHARACTERS:,} characters")
        super().__init__(text)
        self._depth = self._n_values = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        is_alias = isinstance(event, yaml.AliasEvent)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise YAMLLimitError(problem=f"nested more than {_DEEPEST} deep", problem_mark=event.start_mark)
        before = self._n_values
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise YAMLLimitError(problem=f"'*{event.anchor}' contains itself", problem_mark=event.start_mark)
        self._n_values += self._sizes[id(node)] if is_alias else 1
        if self._n_values > _MOST_VALUES:
            raise YAMLLimitError(problem=f"more than {_MOST_VALUES:,} values", problem_mark=event.start_mark)
        if not is_alias:
            self._sizes[id(node)] = self._n_values - before
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Return a dict; a duplicate name is an error, because the first value would be lost.

        Duplicates are searched in the text itself, because merged dicts may repeat names.
        """
        node = super().compose_mapping_node(anchor)
        names: set[tuple[str, str]] = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode) and name.tag != "tag:yaml.org,2002:merge":
                if (name.tag, name.value) in names:
                    shown = name.value[:_SHOWN]
                    raise yaml.composer.ComposerError(None, None, f"'{shown}' occurs twice here", name.start_mark)
                names.add((name.tag, name.value))
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        is_number = isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int"
        try:
            # Reading the digits of a number takes quadratic time.
            is_huge = is_number and len(node.value) > _MOST_DIGITS
            value = None if is_huge else super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # Such as '!!int x' or '0x_': PyYAML only checks the form.
            problem = f"'{str(node.value)[:_SHOWN]}' is not a value"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
        if is_huge or (isinstance(value, int) and not -_LARGEST <= value < _LARGEST):
            raise YAMLLimitError(problem="a number of more than 64 bits", problem_mark=node.start_mark)
        return value


for _kind, _pattern, _firsts in (
    ("int", r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)", "-+0123456789"),
    (
        "float",
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", "|".join(map(re.escape, _NOTHING)), ["~", "n", "N", ""]),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_firsts))


def read_yaml(text: str | TextIO) -> Any:
    """Return the value of a YAML text; nothing is executed.

    Raises:
        yaml.YAMLError: If it is none, or one of a kind that no settings are of.
    """
    return yaml.load(text, Loader)


def read_value(name: str, text: str) -> Any:
    r"""Return the value of a setting that is given as text: on a command line, or in a dictionary.

    A text that begins with a bracket, a brace or a quotation mark is a Python literal if possible: ``'\t'`` is a tab,
    and a tuple becomes a list. Otherwise it is read as in a file, except that lists and dicts need brackets and braces.
    Nothing is ever evaluated: anything else is the text itself, such as ``{1, 2}``, or RecBole's intervals
    ``[3,inf);[9,9]``. A setting whose name ends in ``_num_interval`` is always such a text.

    Args:
        name: Name of the setting.
        text: Its value.

    Raises:
        SettingError: For a value that is huge, endless or nested too deep.
    """
    if name.endswith(_NAME_OF_INTERVALS) and text.lstrip().startswith(("[", "(")):
        return text
    try:
        try:
            return _python_value(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return _yaml_value(text)
    except YAMLLimitError as error:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}\u2026"
        raise SettingError(f"{name} is '{shown}': {error.problem}") from error
    except yaml.YAMLError:
        return text


def _python_value(text: str) -> Any:
    """Return the value of a Python literal that a setting may have.

    Raises:
        ValueError, SyntaxError, MemoryError, RecursionError: If the text is none.
        YAMLLimitError: If it is one beyond the limits of all settings.
    """
    text = text.strip()
    if not text.startswith(_FIRSTS) or len(text) > _MOST_CHARACTERS or not _LITERAL.fullmatch(text):
        raise ValueError
    with warnings.catch_warnings():
        # Python warns about a backslash before an unknown letter, and keeps it.
        warnings.simplefilter("ignore")
        body = ast.parse(text, mode="eval").body
    if sum(isinstance(node, (ast.Constant, ast.List, ast.Tuple, ast.Dict)) for node in ast.walk(body)) > _MOST_VALUES:
        raise YAMLLimitError(problem=f"more than {_MOST_VALUES:,} values")
    return _plain(body)


def _plain(node: ast.expr, depth: int = 1) -> Any:
    """Return a literal's value, made only of plain values, lists and dicts."""
    if depth > _DEEPEST:
        raise YAMLLimitError(problem=f"nested more than {_DEEPEST} deep")
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_plain(element, depth + 1) for element in node.elts]
    if isinstance(node, ast.Dict):
        names = [_plain(name, depth + 1) for name in node.keys if isinstance(name, (ast.Constant, ast.UnaryOp))]
        values = dict(zip(names, (_plain(value, depth + 1) for value in node.values), strict=False))
        if len(values) < len(node.keys):
            raise ValueError("a repeated name, or a list as a name")
        return values
    if not isinstance(node, (ast.Constant, ast.UnaryOp)):
        raise ValueError("no such value")
    value = ast.literal_eval(node)
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise YAMLLimitError(problem="a number of more than 64 bits")
    return value


def _yaml_value(text: str) -> Any:
    """Return the value of a text as in a file, or the text itself.

    Raises:
        yaml.YAMLError: If it is no YAML, or beyond the limits of all settings.
    """
    loader = None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if isinstance(node, yaml.ScalarNode):
            # The whole text is the value, or quoted: no part of it is a comment, an anchor or a tag.
            is_text = node.tag == "tag:yaml.org,2002:str"
            is_value = node.value == text.strip() and not is_text if node.style is None else node.style in "'\""
        else:
            is_list = isinstance(node, yaml.CollectionNode) and bool(node.flow_style) and not _is_split(node)
            is_value = is_list and not _INTERVALS.fullmatch(text)
        if is_value or not text:
            return loader.construct_document(node) if node is not None else None
    finally:
        if loader is not None:
            loader.dispose()
    return text


def _is_split(node: yaml.Node) -> bool:
    """Return whether YAML splits what belongs together: at a comma within ``(1,x)``, or in a set such as ``{1, 2}``."""
    if isinstance(node, yaml.ScalarNode):
        return node.style is None and node.value.count("(") != node.value.count(")")
    if isinstance(node, yaml.MappingNode):
        # A name without a colon has no value in the text.
        return any(
            value.start_mark.index == name.end_mark.index or _is_split(name) or _is_split(value)
            for name, value in node.value
        )
    return any(map(_is_split, node.value))

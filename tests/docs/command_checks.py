"""Whether a command that no test runs would be understood: its program, options, settings, presets and files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from typer.main import get_command

from recbole_gserec.cli.main import USAGE_ERROR, app
from recbole_gserec.cli.preprocess import parse_settings
from recbole_gserec.cli.run_recbole import _parse
from recbole_gserec.settings.defaults import preset_file
from recbole_gserec.settings.names import check_model, known_settings
from tests.docs.pages import ROOT

PRESETS = {"preprocess": "preset", "benchmark": "benchmark"}
FROM_OTHERS = {"vllm": ["serve"]}
"""Programs of other packages, and what of them may be shown: they are not there to ask."""


def check_command(words: list[str]) -> None:
    """Fail where the program would not take the command. ``...`` stands for options that are left out.

    Files that an option wants to be there are made, empty, in the working directory.
    """
    program, *arguments = words
    is_part = "..." in arguments
    arguments = [argument for argument in arguments if argument != "..."]
    if program == "gserec":
        _check_gserec(arguments, is_part)
    elif program == "run_recbole":
        _check_run_recbole(arguments)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(arguments) <= set(targets), f"no such target: {arguments}"
    elif program == "pip":
        _check_pip(arguments)
    elif program == "pytest":
        assert (ROOT / arguments[0]).is_file()
    else:
        assert arguments[0] in FROM_OTHERS[program]


def _check_gserec(arguments: list[str], is_part: bool) -> None:
    command, path = get_command(app), []
    while hasattr(command, "commands"):
        name, *arguments = arguments
        path.append(name)
        command = command.get_command(None, name)
        assert command is not None, f"there is no command {' '.join(path)}"
    context = _context(command, " ".join(path), arguments, is_part)
    if context is None:
        return
    requested = {name: value for name, value in context.params.items() if value is not None}
    if requested.get("preset"):
        preset_file(requested["preset"], PRESETS[path[0]])
    # The offline stage has no model; GSERec reads all of its settings.
    models = [_class_of(model) for model in _models(requested)] or ["GSERec"]
    for model in models:
        check_model(model)
    unknown = parse_settings(context.args).keys() - set().union(*(known_settings(model) for model in models))
    assert not unknown, f"settings that nothing reads: {unknown}"


def _context(command, name: str, arguments: list[str], is_part: bool):
    """The command's values; None where a part of a command leaves out what it needs."""
    try:
        return command.make_context(name, list(arguments))
    except USAGE_ERROR as error:
        missing = re.search(r"(?i)\bfile '(.+)' does not exist", error.format_message())
        if missing:
            path = Path(missing[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            return _context(command, name, arguments, is_part)
        assert is_part and type(error).__name__ == "MissingParameter", error.format_message()
        return None


def _class_of(model: str) -> str:
    """The name of a model that may be named by its file and class."""
    return model.rpartition(":")[2]


def _models(requested: dict) -> list[str]:
    model = requested.get("model") or []
    names = [model] if isinstance(model, str) else [name for text in model for name in text.split(",")]
    if requested.get("preset") and "seeds" in requested:
        names += yaml.safe_load(preset_file(requested["preset"], "benchmark").read_text())["models"]
    return names


def _check_run_recbole(arguments: list[str]) -> None:
    args = _parse(arguments)
    model = _class_of(args.model or "GSERec")
    check_model(model)
    unknown = set(args.settings) - known_settings(model)
    assert not unknown, f"settings that nothing reads: {unknown}"


def _check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    rest = iter(arguments[1:])
    for word in rest:
        if word in ("-c", "-r"):
            assert (ROOT / next(rest)).is_file()
        elif word.startswith("-"):
            assert word in ("-e", "--no-deps"), f"unknown option of pip: {word}"
        elif own := re.fullmatch(r"(?:\.|recbole-gserec)(?:\[([\w,-]+)\])?", word):
            extras = set((own[1] or "").split(",")) - {""}
            assert extras <= project["optional-dependencies"].keys(), f"no such extra: {extras}"
        elif word.startswith("torch=="):
            assert word in pins, f"{word} is not the version of constraints.txt"


def check_files(text: str) -> None:
    """Fail where a text names a file of the repository that is not there."""
    for name in re.findall(r"\b(?:properties|recbole_gserec|dataset_converters|benchmarks|docs)/[\w./-]+\.\w+", text):
        assert (ROOT / name).is_file(), f"no such file: {name}"

"""The command that makes a dataset's codes, with all settings that affect them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config

from recbole_gserec.data.dataset_paths import DEFAULT_DATA_PATH
from recbole_gserec.data.fingerprint import SETTINGS, SPLIT_PARTS
from recbole_gserec.properties_files import preprocess_settings, protocol_settings
from recbole_gserec.yaml_values import read_value, read_yaml


def advice_to_make_again(config: Config) -> str:
    """Return the advice for codes that do not match."""
    return f"Make the codes again: {preprocess_command(config)}"


def preprocess_command(config: Config) -> str:
    """Return the ``gserec preprocess`` command for a configured dataset.

    It contains the requested settings that the codes depend on: the data folder, how files are read, what the training
    part is, and the settings of the offline stage. Without them, the advice would make other codes.

    Args:
        config: The settings; its ``external_config_dict`` shows which ones were requested.
    """
    given = config.external_config_dict
    words = ["gserec", "preprocess", "--dataset", config["dataset"]]
    # RecBole has appended the dataset's own name.
    data_path = Path(config["data_path"]).parent
    if data_path.resolve() != Path(DEFAULT_DATA_PATH).resolve():
        words += ["--data-path", str(data_path)]
    # An address may contain a login, which must not appear in an error.
    names = [*SETTINGS, *(name for name in preprocess_settings() if name != "llm_base_url")]
    words += [f"--{name}={_as_argument(name, given[name])}" for name in names if name in given]
    if isinstance(given.get("eval_args"), dict):
        usual = protocol_settings()["eval_args"]
        parts = {part: given["eval_args"].get(part, usual[part]) for part in SPLIT_PARTS}
        parts = {part: value for part, value in parts.items() if value != usual[part]}
        if parts:
            words.append(f"--eval_args={_as_argument('eval_args', parts)}")
    return shlex.join(words)


def _as_argument(name: str, value: Any) -> str:
    """Write a value as the command line reads it: unquoted if the text means the same everywhere."""
    if isinstance(value, str):
        try:
            is_plain = read_yaml(value) == value
        except yaml.YAMLError:
            is_plain = value.isprintable()
        if is_plain and read_value(name, value) == value:
            return value
    return json.dumps(value, default=str)

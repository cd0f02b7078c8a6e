"""Checks that refuse input which RecBole would accept silently, and advice on how to make missing codes."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from recbole.config import Config

from recbole_gserec.data.fingerprint import SETTINGS, SPLIT_PARTS, evaluates_searches
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.files import line_of_row, read_value, read_yaml
from recbole_gserec.settings import DEFAULT_DATA_PATH, check_choice, preprocess_settings, protocol_settings

UNORDERED_TIMESTAMPS = ("error", "sort")
SHORT_USERS = ("error", "keep")
EVAL_TASKS = ("recommendation", "search")
MIN_INTERACTIONS = 3


def check_policies(config: Mapping[str, Any]) -> None:
    """Refuse unknown values of ``unordered_timestamps``, ``short_users`` and ``eval_task``."""
    check_choice("unordered_timestamps", config["unordered_timestamps"], UNORDERED_TIMESTAMPS)
    check_choice("short_users", config["short_users"], SHORT_USERS)
    # Checkpoints of earlier versions do not have this.
    check_choice("eval_task", config["eval_task"] or "recommendation", EVAL_TASKS)
    if evaluates_searches(config) and config["eval_args"]["split"] != {"LS": "valid_and_test"}:
        raise SettingError(
            f"eval_args has the split {config['eval_args']['split']}; with eval_task 'search' it must be "
            "{'LS': 'valid_and_test'}"
        )


def check_time_order(path: str | Path, users: pd.Series, times: np.ndarray, encoding: str) -> None:
    """Refuse a file in which a user's times are not ascending.

    Equal times keep the order of the file, and RecBole stores times as 32-bit floats, which round times in seconds to
    about a minute. Therefore only a file in chronological order gives every model the same targets.

    Args:
        path: The file.
        users: User of each row, categorical, in file order.
        times: Time of each row.
        encoding: Of the file.

    Raises:
        DataError: With the first line whose time is earlier than that of the same user's row above.
    """
    codes = users.cat.codes.to_numpy()
    order = np.argsort(codes, kind="stable")
    backwards = (np.diff(times[order]) < 0) & (np.diff(codes[order]) == 0)
    rows = order[1:][backwards]
    if len(rows) == 0:
        return
    row = int(rows.min())
    raise DataError(
        path,
        f"the time of user '{users.iloc[row]}' runs backwards ({len(rows):,} rows in all)",
        "Sort each user's rows by time, or let them be sorted: --unordered_timestamps=sort",
        line=line_of_row(path, row, encoding),
    )


def check_filtered(path: str | Path, users: pd.Series, short_users: str) -> None:
    """Refuse interactions that cannot be split, after all filters.

    Args:
        path: The ``.inter`` file.
        users: User of each remaining interaction.
        short_users: The setting of this name.

    Raises:
        DataError: If no interactions remain, or users have too few interactions and the setting does not allow it.
    """
    if len(users) == 0:
        advice = "Check the file, and settings such as user_inter_num_interval and val_interval."
        raise DataError(path, "no interaction in it passes the filters", advice)
    if short_users == "error":
        check_short_users(path, users)


def check_known_queries(path: str | Path, searched: pd.Series, known: pd.Series, encoding: str) -> None:
    """Refuse searches whose query has no row in ``.query``.

    Args:
        path: The ``.search`` file.
        searched: Query of each search, in file order.
        known: The queries of ``.query``.
        encoding: Of the file.

    Raises:
        DataError: With the first such query.
    """
    unknown = np.flatnonzero(~searched.isin(known))
    if len(unknown):
        raise DataError(
            path,
            f"{len(unknown):,} searches have a query that is not in .query (first: '{searched.iloc[unknown[0]]}')",
            "Add the queries to .query.",
            line=line_of_row(path, int(unknown[0]), encoding),
        )


def check_short_users(path: str | Path, users: pd.Series) -> None:
    """Refuse users with too few interactions for a training, a validation and a test target.

    Args:
        path: The ``.inter`` file.
        users: User of each interaction that remains after filtering.

    Raises:
        DataError: With the number of such users, and one of them.
    """
    counts = users.value_counts()
    counts = counts[counts > 0]
    short = counts[counts < MIN_INTERACTIONS]
    if len(short):
        raise DataError(
            path,
            f"{len(short):,} users have fewer than {MIN_INTERACTIONS} interactions (one of them: '{short.index[0]}')",
            f'Drop them with --user_inter_num_interval="[{MIN_INTERACTIONS},inf)", '
            "or train on them without evaluating them: --short_users=keep",
        )


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
    requested = config.external_config_dict
    words = ["gserec", "preprocess", "--dataset", config["dataset"]]
    # RecBole has appended the dataset's own name.
    data_path = Path(config["data_path"]).parent
    if data_path.resolve() != Path(DEFAULT_DATA_PATH).resolve():
        words += ["--data-path", str(data_path)]
    # An address may contain a login, which must not appear in an error.
    names = [*SETTINGS, *(name for name in preprocess_settings() if name != "llm_base_url")]
    words += [f"--{name}={_as_argument(name, requested[name])}" for name in names if name in requested]
    if isinstance(requested.get("eval_args"), dict):
        usual = protocol_settings()["eval_args"]
        parts = {part: requested["eval_args"].get(part, usual[part]) for part in SPLIT_PARTS}
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

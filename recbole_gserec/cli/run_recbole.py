"""``run_recbole``: RecBole's own launcher, for its models and ours."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import Any

import yaml

from recbole_gserec.errors import DataError, GSERecError, SettingError
from recbole_gserec.properties_files import model_settings
from recbole_gserec.settings import DEFAULT_DATASET, check_model, check_names

RECBOLE_MODEL, RECBOLE_DATASET = "BPR", "ml-100k"


def main() -> None:
    """Entry point of the console script."""
    try:
        run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not _is_the_users(error):
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)


def run(arguments: list[str]) -> dict[str, Any] | None:
    """Train and evaluate one model, then print its metrics."""
    args = _parse(arguments)
    files = args.config_files.split() if args.config_files else None
    in_files = _settings_in(files or [])
    model = args.model or in_files.get("model") or RECBOLE_MODEL
    check_model(model)
    check_names(args.settings, model)
    default = DEFAULT_DATASET if model_settings(model) else RECBOLE_DATASET
    dataset = args.dataset or in_files.get("dataset") or default

    from recbole.quick_start import run as run_recbole

    result = run_recbole(
        model,
        dataset,
        config_file_list=files,
        nproc=args.nproc,
        world_size=args.world_size,
        ip=args.ip,
        port=args.port,
        group_offset=args.group_offset,
    )
    if result:
        _print_metrics(model, dataset, result)
    return result


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run_recbole",
        description="Train and evaluate a model of RecBole or of recbole-gserec.",
        epilog="Every other setting is given as --name=value, for instance --learning_rate=0.001.",
        allow_abbrev=False,  # Config reads the arguments too, and would take a shortened one for a setting.
    )
    parser.add_argument("--model", "-m", help=f"name of the model (default: {RECBOLE_MODEL})")
    parser.add_argument(
        "--dataset",
        "-d",
        help=f"name of the dataset (default: {DEFAULT_DATASET} for search-aware models, {RECBOLE_DATASET} for others)",
    )
    parser.add_argument("--config_files", help="config files, separated by spaces")
    parser.add_argument("--nproc", type=int, default=1, help="number of processes in this group")
    parser.add_argument("--ip", default="localhost", help="address of the master node")
    parser.add_argument("--port", default="5678", help="port of the master node")
    parser.add_argument("--world_size", type=int, default=-1, help="total number of processes")
    parser.add_argument("--group_offset", type=int, default=0, help="global rank of this group's first process")
    args, settings = parser.parse_known_args(arguments)
    args.settings = []
    for setting in settings:
        name, equals, value = setting.removeprefix("--").partition("=")
        if not (setting.startswith("--") and name and equals):
            raise SettingError(f"argument '{setting}': settings are written --name=value")
        if "=" in value:
            raise SettingError(f"argument '{setting}': RecBole reads no value with '=' in it; use --config_files")
        args.settings.append(name)
    return args


def _settings_in(files: list[str]) -> dict[str, Any]:
    settings = {}
    for file in files:
        try:
            with open(file, encoding="utf-8") as opened:
                content = yaml.safe_load(opened)
        except UnicodeDecodeError as error:
            raise DataError(file, "not a text in UTF-8", "Give a YAML file with settings.") from error
        if not isinstance(content, dict):
            raise DataError(file, "no settings in it", "Write them as 'name: value', one a line.")
        settings.update(content)
    return settings


def _is_the_users(error: BaseException) -> bool:
    """Whether the error is about what the user gave: ours say so; RecBole raises such while reading it."""
    if isinstance(error, (GSERecError, OSError, yaml.YAMLError)):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    readers = ("recbole.config", "recbole.data", "recbole.utils")
    kinds = (ValueError, KeyError, TypeError, NotImplementedError, RuntimeError, SyntaxError)
    return isinstance(error, kinds) and frame.f_globals.get("__name__", "").startswith(readers)


def _one_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split())


def _print_metrics(model: str, dataset: str, result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "validation", "test", title=f"{model} on {dataset}")
    # Either is None where the split has no such part.
    valid, test = result["best_valid_result"] or {}, result["test_result"] or {}
    for metric in {**valid, **test}:
        table.add_row(metric, *(f"{part[metric]:.4f}" if metric in part else "" for part in (valid, test)))
    Console().print(table)

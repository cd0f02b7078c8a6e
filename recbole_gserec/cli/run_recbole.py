"""``run_recbole``: a launcher like RecBole's own, for RecBole's models and ours."""

import argparse
import sys
from collections.abc import Container
from typing import Any, NoReturn

from dataset_converters import ML_100K
from recbole_gserec.cli.options import check_dashes
from recbole_gserec.cli.user_errors import line_of
from recbole_gserec.compute import heeded, while_importing
from recbole_gserec.errors import SettingError, nearest

RECBOLE_MODEL, RECBOLE_DATASET = "BPR", "ml-100k"
FLAGS = ("model", "dataset", "config_files", "nproc", "ip", "port", "world_size", "group_offset")


def main() -> None:
    """Entry point of the console script."""
    with heeded(lambda: "training did not finish. Repeat the command to start again; finished codes are kept"):
        try:
            run(sys.argv[1:])
        except Exception as error:
            line = line_of(error)
            if line is None:
                raise
            print(line, file=sys.stderr)
            sys.exit(2)


def run(arguments: list[str]) -> dict[str, Any] | None:
    """Train and evaluate one model, then print its metrics."""
    args = _parse(arguments)

    with while_importing():
        from recbole.quick_start import run as run_recbole

        from recbole_gserec.compute import keep_freed_memory, warn_if_busy
        from recbole_gserec.plugin import named_model
        from recbole_gserec.settings import (
            check_model,
            check_names,
            is_search_aware,
            known_settings,
            model_settings,
            read_config_files,
        )

    files = args.config_files.split() if args.config_files else None
    in_files = read_config_files(files or [])
    model = named_model(args.model) if args.model else in_files.get("model") or RECBOLE_MODEL
    check_model(model)
    _check_flags(args.settings, known_settings(model))
    if model_settings(model):
        # RecBole's Config also reads the arguments, but only warns about unknown names.
        check_names(args.settings, model)
    default = ML_100K if is_search_aware(model) else RECBOLE_DATASET
    dataset = args.dataset or in_files.get("dataset") or default

    warn_if_busy()
    keep_freed_memory()
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


class _Parser(argparse.ArgumentParser):
    """Raises a SettingError for a wrong argument, so that it prints one line like all other errors."""

    def error(self, message: str) -> NoReturn:
        raise SettingError(message)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="run_recbole",
        description="Train and evaluate a model of RecBole or of recbole-gserec.",
        epilog="Add any setting as --name=value, for example --learning_rate=0.001.",
        allow_abbrev=False,  # RecBole's Config also reads the arguments, and takes an abbreviation for a setting.
    )
    parser.add_argument(
        "--model", "-m", help=f"name of the model, or file and class, my_model.py:MyModel (default: {RECBOLE_MODEL})"
    )
    parser.add_argument(
        "--dataset",
        "-d",
        help=f"name of the dataset (default: {ML_100K} for search-aware models, {RECBOLE_DATASET} for others)",
    )
    parser.add_argument("--config_files", help="config files, separated by spaces")
    parser.add_argument("--nproc", type=int, default=1, help="number of processes in this group")
    parser.add_argument("--ip", default="localhost", help="address of the master node")
    parser.add_argument("--port", default="5678", help="port of the master node")
    parser.add_argument("--world_size", type=int, default=-1, help="total number of processes")
    parser.add_argument("--group_offset", type=int, default=0, help="global rank of this group's first process")
    check_dashes(arguments)
    args, settings = parser.parse_known_args(arguments)
    for flag in FLAGS:
        if getattr(args, flag) == "":
            raise SettingError(f"argument --{flag}: no value given")
    # With an invalid number, RecBole silently starts no process.
    for flag, fits, wanted in (
        ("nproc", args.nproc >= 1, "a whole number of at least 1"),
        ("world_size", args.world_size >= 1 or args.world_size == -1, "a whole number of at least 1, or -1 for nproc"),
        ("group_offset", args.group_offset >= 0, "a whole number of at least 0"),
    ):
        if not fits:
            raise SettingError(f"argument --{flag}: the value must be {wanted}")
    args.settings = []
    for setting in settings:
        name, equals, value = setting.removeprefix("--").partition("=")
        if not (setting.startswith("--") and name and equals):
            near = nearest(name, FLAGS) if setting.startswith("--") else None
            hint = f". Did you mean '--{near}'?" if near else ""
            raise SettingError(f"argument '{setting}': write settings as --name=value{hint}")
        if "=" in value:
            raise SettingError(
                f"argument '{setting}': RecBole cannot read a value that contains '='. Use --config_files"
            )
        args.settings.append(name)
    return args


def _check_flags(names: list[str], known: Container[str]) -> None:
    """Reject a mistyped flag. It would pass as a setting, and the default model would be trained."""
    unknown = [name for name in names if name not in known]
    for name in unknown:
        if nearest(name, FLAGS):
            raise SettingError.unknown(name, FLAGS)


def _print_metrics(model: str, dataset: str, result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "validation", "test", title=f"{model} on {dataset}")
    # A result is None if the split does not have that part.
    valid, test = result["best_valid_result"] or {}, result["test_result"] or {}
    for metric in {**valid, **test}:
        table.add_row(metric, *(f"{part[metric]:.4f}" if metric in part else "" for part in (valid, test)))
    Console().print(table)


if __name__ == "__main__":
    main()

"""What runs share, made once before they start: the check of their settings, the dataset, codes and text vectors.

It happens in a process of its own, ``python -m recbole_gserec.benchmark.prepare REQUEST ANSWER``: that of the benchmark
would keep the memory, and the GPU, for as long as the runs take.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recbole_gserec.benchmark.dataset_files import dataset_digest, derived_digests, missing_derived
from recbole_gserec.benchmark.plan import Entry
from recbole_gserec.child_process import run_module
from recbole_gserec.errors import GSERecError, SettingError, one_line
from recbole_gserec.files import scratch_folder
from recbole_gserec.interruptions import heeded


class Prepared(NamedTuple):
    """What the runs of an entry read; see :class:`runs.Run`."""

    dataset_digest: str
    derived: dict[str, str]


def prepare_all(entries: Sequence[Entry], data_path: Path) -> list[Prepared]:
    """Check the settings of all entries, then make what their runs share.

    Args:
        entries: Models on datasets.
        data_path: Folder of all datasets.

    Returns:
        One for each entry.

    Raises:
        GSERecError: For wrong settings, a missing dataset, and what the offline stage refuses.
    """
    with scratch_folder() as folder:
        request, answer = folder / "request.json", folder / "answer.json"
        content = {"entries": [entry._asdict() for entry in entries], "data_path": str(data_path)}
        request.write_text(json.dumps(content), encoding="utf-8")
        # Progress and warnings come on the error output.
        module = "recbole_gserec.benchmark.prepare"
        status = run_module(module, str(request), str(answer), stdout=subprocess.DEVNULL)
        if not answer.is_file():
            raise GSERecError(f"the datasets could not be prepared (exit status {status}): the reason stands above")
        told = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in told:
        raise GSERecError(told["error"])
    return [Prepared(**prepared) for prepared in told["prepared"]]


def main() -> None:
    """Entry point of the process."""
    with heeded():
        _answer_request()


def _answer_request() -> None:
    request, answer = map(Path, sys.argv[1:3])
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("recbole_gserec").setLevel(logging.INFO)
    content = json.loads(request.read_text(encoding="utf-8"))
    entries = [Entry(**entry) for entry in content["entries"]]
    try:
        prepared = _prepare(entries, Path(content["data_path"]), answer.with_name("settings.yaml"))
        told: dict[str, Any] = {"prepared": [entry._asdict() for entry in prepared]}
    except (GSERecError, OSError) as error:
        told = {"error": one_line(error)}
    answer.write_text(json.dumps(told), encoding="utf-8")


def _prepare(entries: Iterable[Entry], data_path: Path, file: Path) -> list[Prepared]:
    # All settings are checked before anything is made.
    configs = {(entry.dataset, entry.model): _config(entry, data_path, file) for entry in entries}
    for dataset in dict.fromkeys(dataset for dataset, _ in configs):
        prepare(dataset, {model: config for (name, model), config in configs.items() if name == dataset})
    digests: dict[str, str] = {}
    for (dataset, _), config in configs.items():
        digests[dataset] = digests.get(dataset) or dataset_digest(config)
    return [Prepared(digests[dataset], derived_digests(config)) for (dataset, _), config in configs.items()]


def prepare(dataset: str, models: Mapping[str, Any]) -> None:
    """Make what is missing of the files that models read: the dataset itself, codes, text vectors.

    Args:
        dataset: Its name.
        models: Name of a model -> RecBole's settings of its runs.

    Raises:
        GSERecError: If that is not possible, or not wanted by the settings.
    """
    from recbole.data import create_dataset

    for config in models.values():
        if not os.path.exists(config["data_path"]) or missing_derived(config):
            # As a run would: what is missing is made, downloaded, or refused with a remedy.
            create_dataset(config)


def _config(entry: Entry, data_path: Path, file: Path) -> Any:
    from recbole_gserec.config import make_config

    here = {**entry.machine, "data_path": str(data_path)}
    try:
        return make_config(entry.model, entry.dataset, entry.given, here, file)
    except Exception as error:
        # Config does nothing but read settings.
        raise SettingError(f"{entry.model} on {entry.dataset}: {error}") from error


if __name__ == "__main__":
    main()

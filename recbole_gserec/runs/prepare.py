"""What runs share, made once before they start: checked settings, the dataset, its codes and text vectors.

This happens in a process of its own, ``python -m recbole_gserec.runs.prepare REQUEST ANSWER``, so that the benchmark's
own process stays small.

"""

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recbole.data import create_dataset

from recbole_gserec.compute import heeded, run_module
from recbole_gserec.errors import DataError, GSERecError, SettingError, one_line
from recbole_gserec.files import scratch_folder, sha256_of_file
from recbole_gserec.runs.plan import Entry
from recbole_gserec.settings import dataset_files, dataset_path, make_config, vectors_read


def dataset_digest(config: Mapping[str, Any]) -> str:
    """Compute the SHA-256 over the sizes and checksums of a dataset's files. It is the same for all models.

    Codes and vectors are excluded. Otherwise, new codes for one model would make the runs of all other models obsolete.

    Args:
        config: RecBole's settings of a run on the dataset.

    Raises:
        DataError: If the interactions are missing.
    """
    content = {suffix: [path.stat().st_size, sha256_of_file(path)] for suffix, path in dataset_files(config)}
    if not any(suffix.endswith("inter") for suffix in content):
        raise DataError(
            dataset_path(config, "inter"), "file not found", "Put the dataset there, or make it with gserec convert."
        )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def derived_suffixes(config: Mapping[str, Any]) -> list[str]:
    """Return the suffixes of the files that the offline stage makes and the model reads."""
    codes = ["code"] if "code" in (config["additional_feat_suffix"] or ()) else []
    return [*codes, *vectors_read(config)]


def derived_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Map the name of each existing file that the offline stage made and the model reads to its SHA-256."""
    paths = [dataset_path(config, suffix) for suffix in derived_suffixes(config)]
    return {path.name: sha256_of_file(path) for path in paths if path.is_file()}


def missing_derived(config: Mapping[str, Any]) -> list[str]:
    """Return the suffixes of the files that the model reads and the offline stage has not made yet."""
    return [suffix for suffix in derived_suffixes(config) if not dataset_path(config, suffix).is_file()]


class Prepared(NamedTuple):
    """What the runs of an entry read; see :class:`runs.Run`."""

    dataset_digest: str
    derived: dict[str, str]


def prepare_all(entries: Sequence[Entry], data_path: Path) -> list[Prepared]:
    """Check the settings of all entries, then make what their runs share.

    Args:
        entries: Models on datasets.
        data_path: Parent folder of all datasets.

    Returns:
        One result for each entry.

    Raises:
        GSERecError: For wrong settings, a missing dataset, or an error of the offline stage.
    """
    with scratch_folder() as folder:
        request, answer = folder / "request.json", folder / "answer.json"
        content = {"entries": [entry._asdict() for entry in entries], "data_path": str(data_path)}
        request.write_text(json.dumps(content), encoding="utf-8")
        # Progress and warnings appear on stderr.
        module = "recbole_gserec.runs.prepare"
        status = run_module(module, str(request), str(answer), stdout=subprocess.DEVNULL)
        if not answer.is_file():
            raise GSERecError(f"the datasets could not be prepared (exit status {status}): see the messages above")
        answered = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in answered:
        raise GSERecError(answered["error"])
    return [Prepared(**prepared) for prepared in answered["prepared"]]


def main() -> None:
    """Run the process."""
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
        answered: dict[str, Any] = {"prepared": [entry._asdict() for entry in prepared]}
    except (GSERecError, OSError) as error:
        answered = {"error": one_line(error)}
    answer.write_text(json.dumps(answered), encoding="utf-8")


def _prepare(entries: Iterable[Entry], data_path: Path, file: Path) -> list[Prepared]:
    # Check all settings before making anything.
    configs = {(entry.dataset, entry.model): _config(entry, data_path, file) for entry in entries}
    for dataset in dict.fromkeys(dataset for dataset, _ in configs):
        prepare(dataset, {model: config for (name, model), config in configs.items() if name == dataset})
    digests: dict[str, str] = {}
    for (dataset, _), config in configs.items():
        digests[dataset] = digests.get(dataset) or dataset_digest(config)
    return [Prepared(digests[dataset], derived_digests(config)) for (dataset, _), config in configs.items()]


def prepare(dataset: str, models: Mapping[str, Any]) -> None:
    """Make the missing files that models read: the dataset itself, codes and text vectors.

    Args:
        dataset: Name of the dataset.
        models: Name of a model -> RecBole's settings of its runs.

    Raises:
        GSERecError: If this is impossible or the settings do not allow it.
    """
    for config in models.values():
        if not os.path.exists(config["data_path"]) or missing_derived(config):
            # As in a run: missing files are made or downloaded, or an error says what to do.
            create_dataset(config)


def _config(entry: Entry, data_path: Path, file: Path) -> Any:
    machine = {**entry.machine, "data_path": str(data_path)}
    try:
        return make_config(entry.model, entry.dataset, entry.requested, machine, file)
    except Exception as error:
        # Config only reads settings.
        raise SettingError(f"{entry.model} on {entry.dataset}: {error}") from error


if __name__ == "__main__":
    main()

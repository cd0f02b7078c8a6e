"""What ``run.json`` records: versions, code, machine, memory, settings, and the rank of every target."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

import recbole_gserec
from recbole_gserec.data import evaluates_searches
from recbole_gserec.errors import not_none
from recbole_gserec.evaluation import collect_interactions, order_of_tokens
from recbole_gserec.files import PARQUET_METADATA, sha256_of_file, written_with_checksum
from recbole_gserec.plugin import registered_module
from recbole_gserec.provenance import installed_versions
from recbole_gserec.runs.run_store import ALL_ITEMS, FAILED, FORMAT, Run
from recbole_gserec.settings import registered_models

if TYPE_CHECKING:
    from recbole.data.dataset import Dataset

PACKAGES = ("recbole", "torch", "numpy", "pandas", "scipy", "scikit-learn", "pyarrow", "ray")


def provenance() -> dict[str, Any]:
    """Return ``versions``, ``python``, ``git`` and ``machine`` for a run's record."""
    return {
        "versions": {"recbole-gserec": recbole_gserec.__version__, **installed_versions(PACKAGES)},
        "python": platform.python_version(),
        "git": git_state(Path(recbole_gserec.__file__)),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
        },
    }


def git_state(file: Path) -> dict[str, Any]:
    """Return the commit of a file, whether tracked files differ from it, and a digest of the differences.

    All are None without git, and for a file that git does not track, such as an installed one.
    """
    # An environment may lie inside a repository that is unrelated to the installed packages.
    if _git(file, "ls-files", "--error-unmatch", file.name) is None:
        return {"commit": None, "dirty": None, "changes": None}
    changes = _git(file, "diff", "--no-ext-diff", "HEAD")
    digest = hashlib.sha256(changes.encode()).hexdigest()[:12] if changes else None
    return {
        "commit": _git(file, "rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "changes": digest,
    }


def peak_memory_bytes() -> int:
    """Return the peak physical memory of this process."""
    try:
        # Not getrusage: it includes the memory that the process held before it executed another program.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    if found := re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE):
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:
        return psutil.Process().memory_info().peak_wset  # type: ignore[attr-defined]  # on Windows alone
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _git(file: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(file.parent), "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def _cpu() -> str:
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def code_digest(model: str) -> str | None:
    """A digest of the code of a registered model: of its module, or of all modules of the package that has it.

    Args:
        model: Its name.

    Returns:
        Twelve hexadecimal digits; None for models of RecBole and of this package, and those of no file.
    """
    if model not in registered_models():
        return None
    module = sys.modules[not_none(registered_module(model))]
    source = getattr(module, "__file__", None)
    if source is None:
        return None
    folder, files = Path(source).parent, [Path(source)]
    if module.__package__:
        # A package without __init__.py has no file, and may be shared with others: there, the folder of the module.
        package = sys.modules[module.__package__.partition(".")[0]]
        folder = Path(package.__file__ or source).parent
        files = [file for file in folder.rglob("*.py") if file.is_file()]
    content = {file.relative_to(folder).as_posix(): sha256_of_file(file) for file in files}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def has_other_code(record: Mapping[str, Any]) -> bool:
    """Whether a run's model had other code than it has here; False where that is not known."""
    then, now = record.get("model_code"), code_digest(record["model"])
    return None not in (then, now) and then != now


_RESULTS = (
    "epochs test_seconds samples_per_epoch parameters flops peak_memory_bytes peak_gpu_memory_bytes device threads "
    "valid test candidates"
).split()


def new_record(run: Run, started: datetime) -> dict[str, Any]:
    """Make a record with what is known when a run starts; all measured values are None.

    Args:
        run: The run.
        started: When the run started.
    """
    identity = {name: getattr(run, name) for name in ("dataset", "dataset_digest", "model", "seed")}
    return {
        "format": FORMAT,
        **identity,
        "given": dict(run.requested),
        "derived": dict(run.derived),
        "settings": {},
        "model_code": code_digest(run.model),
        "status": FAILED,
        "error": None,
        "traceback": None,
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": (datetime.now(UTC) - started).total_seconds(),
        **dict.fromkeys(_RESULTS),
        **provenance(),
    }


def failed_record(run: Run, started: datetime, error: str, traceback: str | None = None) -> dict[str, Any]:
    """Make the record of a run that failed.

    Args:
        run: The run.
        started: When the run started.
        error: Why it failed; stored as one line.
        traceback: Where in the code it happened.
    """
    return {**new_record(run, started), "error": " ".join(error.split())[:500], "traceback": traceback}


PARTS = ("valid", "test", ALL_ITEMS)
_ROWS_AT_ONCE = 4096


def write_ranks(path: Path, ranks: Mapping[str, pd.DataFrame], dataset: Dataset) -> None:
    """Write the ranks of targets as Parquet with the columns ``part``, ``user``, ``item`` and ``rank`` (1 is best).

    Args:
        path: The file.
        ranks: Part of the split -> the result of the collector's ``per_user_ranks``, in internal ids.
        dataset: The dataset, which maps internal ids to original ids.
    """
    users, items = (np.asarray(dataset.field2id_token[field]) for field in (dataset.uid_field, dataset.iid_field))
    frames = [frame.assign(part=PARTS.index(part)) for part, frame in ranks.items()]
    frame = pd.concat([pd.DataFrame(columns=["part", "user", "item", "rank"]), *frames]).astype(np.int64)
    table = pa.table(
        {
            "part": pa.DictionaryArray.from_arrays(pa.array(frame["part"], type=pa.int8()), pa.array(PARTS)),
            "user": pa.array(users[frame["user"]].astype(str), type=pa.string()),
            "item": pa.array(items[frame["item"]].astype(str), type=pa.string()),
            "rank": pa.array(frame["rank"], type=pa.int32()),
        }
    )
    with written_with_checksum(path) as temporary:
        pq.write_table(table.replace_schema_metadata(PARQUET_METADATA), temporary, compression="zstd")


def candidates_digest(loader: Any) -> str | None:
    """Compute the SHA-256 of the candidate lists of a split; None if targets are ranked among all items.

    The hashed text has one line per target, ordered by user: ``user``, target and negatives, separated by tabs.

    Args:
        loader: Dataloader of the split.
    """
    candidates = getattr(loader, "candidates", None)
    if candidates is None:
        return None
    dataset, candidates = loader._dataset, candidates.numpy()
    items = np.asarray(dataset.field2id_token[dataset.iid_field], dtype=object)
    tokens = np.asarray(dataset.field2id_token[dataset.uid_field], dtype=object)
    users = dataset.inter_feat[dataset.uid_field].numpy()
    # The rows of one user stay in chronological order.
    order = np.argsort(order_of_tokens(tokens)[users], kind="stable")
    digest = hashlib.sha256()
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        lines = ("\t".join([tokens[users[row]], *items[candidates[row]]]) + "\n" for row in rows)
        digest.update("".join(lines).encode())
    return digest.hexdigest()


def interactions_digest(loaders: Sequence[Any]) -> str:
    """Compute the SHA-256 of the interactions of a run. If targets are equal too, the training interactions are equal.

    The hashed text has one line per interaction, ordered by user and then by item: ``user`` and item, separated by a
    tab. Users with only one interaction are left out, as in RecBole's sequential models.

    Args:
        loaders: Dataloaders of all parts of the split; None for a missing part.
    """
    parts = [loader._dataset for loader in loaders if loader is not None]
    users, items = collect_interactions(parts)
    fields = parts[0].uid_field, parts[0].iid_field
    user_tokens, item_tokens = (np.asarray(parts[0].field2id_token[field], dtype=object) for field in fields)
    order = np.lexsort((order_of_tokens(item_tokens)[items], order_of_tokens(user_tokens)[users]))
    digest = hashlib.sha256()
    for start in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[start : start + _ROWS_AT_ONCE]
        lines = zip(user_tokens[users[rows]], item_tokens[items[rows]], strict=True)
        digest.update("".join(f"{user}\t{item}\n" for user, item in lines).encode())
    return digest.hexdigest()


OF_SEARCHES = " of searches"


def evaluation_mode(config: Mapping[str, Any]) -> str:
    """Return how targets are ranked, such as ``uni99`` or, if they are clicks of searches, ``uni99 of searches``.

    There are two modes if validation and test differ.
    """
    modes = [config["eval_args"]["mode"][part] for part in ("valid", "test")]
    return "/".join(dict.fromkeys(modes)) + OF_SEARCHES * evaluates_searches(config)

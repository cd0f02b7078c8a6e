"""A reader's folder with little data in it, and commands run there as they are shown, but for shorter."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from recbole_gserec.cli import main, run_recbole
from recbole_gserec.plugin import model_registry
from recbole_gserec.runs import runner, worker
from recbole_gserec.runs.run_processes import Job
from recbole_gserec.runs.run_store import read_status
from recbole_gserec.settings import defaults
from recbole_gserec.settings.model_table import MODELS
from recbole_gserec.settings.names import MODEL_FILES_VARIABLE, known_settings
from tests.docs.pages import ROOT

USERS = {"13", "22", "196", *map(str, range(1, 16))}
"""Users of MovieLens-100k that are kept: those that pages name, and some others."""

SHORT = {"epochs": "1"}
SHORT_CODES = {"rq_epochs": "2", "rq_warmup_epochs": "0"}
SMALL_SHOP = {"users": "300", "items": "2000", "tastes": "20"}


@contextmanager
def models_of_the_package() -> Iterator[None]:
    """Whatever models are added meanwhile are forgotten at the end."""
    models, files, modules = set(MODELS), set(defaults._MODEL_FILES), set(sys.modules)
    recorded = os.environ.pop(MODEL_FILES_VARIABLE, None)
    try:
        yield
    finally:
        os.environ.pop(MODEL_FILES_VARIABLE, None)
        if recorded is not None:
            os.environ[MODEL_FILES_VARIABLE] = recorded
        model_registry._named.clear()
        for name in MODELS.keys() - models:
            del MODELS[name]
        for name in defaults._MODEL_FILES.keys() - files:
            del defaults._MODEL_FILES[name]
        for name in set(sys.modules) - modules:
            if name.startswith("recbole.model.") or name == "last_search":
                del sys.modules[name]


def few_of_ml_100k(data_path: Path) -> None:
    """The default dataset with a few users."""
    from dataset_converters.ml_100k import convert_ml_100k

    dataset = convert_ml_100k(data_path)
    for suffix in ("inter", "search"):
        path = dataset / f"{dataset.name}.{suffix}"
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if row.split("\t", 1)[0] in USERS]
        path.write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")


def shorter(words: Sequence[str]) -> list[str]:
    """The command with one epoch, two of the RQ-VAE, two trials, the first seed and a small shop; else unchanged."""
    program, *arguments = words
    text = " ".join(words)
    if program == "run_recbole":
        found = re.search(r"(?:--model=|-m )(\w+)", text)
        # A config file names no model in the pages; the best settings of a sweep are those of GSERec.
        model = found[1] if found else "GSERec"
        changes = SHORT | (SHORT_CODES if "rq_epochs" in known_settings(model) else {})
    elif text.startswith("gserec preprocess"):
        changes = SHORT_CODES
    elif re.match("gserec (benchmark|analyze ablation|tune)", text) and "--report-only" not in arguments:
        changes = SHORT | (SHORT_CODES if "tune" in arguments else {})
    elif text.startswith("python docs/examples/large_shop.py"):
        changes = SMALL_SHOP
    elif text.startswith("python docs/results/"):
        changes = SHORT | SHORT_CODES
    else:
        return list(words)
    kept = [word for word in arguments if word.partition("=")[0].removeprefix("--") not in changes]
    for option, shortened in (("--seeds", lambda seeds: seeds.split(",")[0]), ("--samples", lambda _: "2")):
        if option in kept:
            index = kept.index(option) + 1
            kept[index] = shortened(kept[index])
    return [program, *kept, *(f"--{name}={value}" for name, value in changes.items())]


def run_command(words: Sequence[str]) -> None:
    """Run a command in the working directory, in this process; fails where it ends with an error."""
    program, *arguments = shorter(words)
    # The shell's part.
    arguments = [name for word in arguments for name in _expanded(word)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments])
        patch.setattr(runner, "run_child", _run_here)
        try:
            if program == "python":
                patch.setattr(sys, "argv", arguments)
                patch.syspath_prepend(Path(arguments[0]).resolve().parent)
                with models_of_the_package():
                    runpy.run_path(arguments[0], run_name="__main__")
            else:
                {"gserec": main.main, "run_recbole": run_recbole.main}[program]()
        except SystemExit as ended:
            assert not ended.code, f"{' '.join(words)}: ended with status {ended.code}"


def run_python(text: str) -> None:
    """Run lines of Python in the working directory, with one epoch where they train."""
    with models_of_the_package(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["python"])
        patch.setattr(sys, "path", list(sys.path))
        exec(compile(re.sub(r'("epochs": )\d+', r"\g<1>1", text), "<page>", "exec"), {"__name__": "__main__"})


def _expanded(word: str) -> list[str]:
    names = sorted(map(str, Path().glob(word))) if "*" in word else []
    return names or [word]


def _run_here(job: Job) -> str:
    """A run of a benchmark in this process: one of its own takes seconds to start."""
    before = os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "write_to_log", lambda path: None)
        patch.setattr(sys, "argv", sys.argv[:1])
        try:
            worker.make_run(job.spec.write())
        finally:
            os.chdir(before)
    return read_status(job.spec.folder)


def link_examples() -> None:
    """What a checkout has beside the reader's data."""
    for name in ("docs", "properties", "benchmarks"):
        if not Path(name).exists():
            Path(name).symlink_to(ROOT / name)


def copied(template: Path, folder: Path) -> Path:
    """A copy of a prepared folder to work in."""
    shutil.copytree(template, folder, symlinks=True)
    return folder

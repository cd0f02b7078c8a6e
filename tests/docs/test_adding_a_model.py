"""The worked example of a model of one's own is short, complete, and keeps to what all search-aware models keep to."""

from __future__ import annotations

import importlib
import math
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest
import torch

from tests.docs.pages import ROOT, blocks_of
from tests.docs.workplace import models_of_the_package
from tests.models import test_all_models as common
from tests.models.test_all_models import (  # noqa: F401  (fixtures and tests, with the model below)
    Ready,
    data_path,
    leak_data,
    ready,
    test_batches_carry_search_rows_for_models_that_learn_to_search,
    test_candidates_are_scored_alike_alone_in_lists_and_among_all_items,
    test_memory_of_the_evaluation_is_bounded_without_a_trace_in_the_scores,
    test_mixed_precision,
    test_order_of_rows_permutes_scores,
    test_padding_changes_nothing,
    test_rows_that_lack_something_have_finite_scores_and_gradients,
    test_searches_of_others_change_scores_where_searches_are_read,
    test_weights_survive_a_checkpoint,
)

NAME = "LastSearch"
EXAMPLE = ROOT / "docs" / "examples" / "last_search.py"
SETTINGS = EXAMPLE.with_name(f"{NAME}.yaml")


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """The example, imported as a user's module; other tests do not know it."""
    with models_of_the_package(), pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE.parent))
        importlib.import_module(EXAMPLE.stem)
        yield


@pytest.fixture(scope="module")
def made(registered, data_path, tmp_path_factory) -> Ready:  # noqa: F811
    folder = tmp_path_factory.mktemp(NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = common.settings_for(NAME, data_path, checkpoint_dir=str(folder / "saved"))
        config, built, (train, valid, test) = common.prepare(NAME, "toy", settings)
        model = common.make_model(config, train)
    common.randomise(model)
    return Ready(NAME, model, config, built, train, valid, test, next(iter(train))[:80], None)


def test_the_example_is_short():
    assert sum(len(path.read_text().splitlines()) for path in (EXAMPLE, SETTINGS)) < 90
    assert len(EXAMPLE.read_text().splitlines()) < 80


def test_the_page_shows_the_example():
    page = blocks_of(ROOT / "docs" / "adding_a_model.md")
    for language, path in (("python", EXAMPLE), ("yaml", SETTINGS)):
        assert path.read_text() in [block.text for block in page if block.language == language], path


def test_training_twice_is_the_same_and_learns(data_path, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    results = [
        common.run(NAME, tmp_path / part, common.settings_for(NAME, data_path, epochs=2))
        for part in ("first", "second")
    ]
    assert results[0]["test_result"] == results[1]["test_result"]
    assert all(math.isfinite(value) for value in results[0]["test_result"].values())


def test_everything_learns(data_path):  # noqa: F811
    common.test_everything_learns(NAME, data_path)


def test_later_searches_train_nothing_and_change_no_score(leak_data, tmp_path, monkeypatch):  # noqa: F811
    check = common.test_searches_from_the_validation_target_on_train_nothing_and_change_no_score
    check(NAME, leak_data, tmp_path, monkeypatch)


def test_a_user_is_the_sum_of_the_formula(ready):  # noqa: F811
    """The formula at the head of the example, row by row."""
    model, batch = ready.model, ready.batch
    item, word = model.item_embedding.weight, model.session_embedding.query_embedding.embedding.weight
    words = ready.dataset.query_words
    with torch.no_grad():
        found = model.encode(batch)
        for row in range(len(batch)):
            sessions = []
            for index in range(batch["search_length"][row]):
                query, clicks = batch["search_query_id_list"][row, index], batch["search_item_ids_list"][row, index]
                of_query = words.values[words.offsets[query] : words.offsets[query + 1]].long()
                session = word[of_query].sum(0) / max(1, len(of_query))
                clicks = clicks[clicks > 0]
                sessions.append(session + item[clicks].sum(0) / max(1, len(clicks)))
            user = model.user_embedding.weight[batch["user_id"][row]].clone()
            history = batch["item_id_list"][row, : batch["item_length"][row]]
            if len(history):
                user += item[history].mean(0)
            if sessions:
                both = torch.cat([torch.stack(sessions).mean(0), sessions[-1]])
                user += model.search_projection.weight @ both
            torch.testing.assert_close(found[row], user, rtol=1e-4, atol=1e-5)


def test_its_factors_multiply_to_its_scores(ready):  # noqa: F811
    model, batch = ready.model, ready.batch
    items, _ = model.item_factors()
    with torch.no_grad():
        torch.testing.assert_close(model.user_factors(batch) @ items.T, model.full_sort_predict(batch))


def test_installed_as_the_page_says_a_new_process_knows_it(tmp_path, fresh_python, monkeypatch):
    page = ROOT / "docs" / "adding_a_model.md"
    (shown,) = (block.text for block in blocks_of(page) if block.language == "toml")
    (package,) = tomllib.loads(shown)["tool"]["setuptools"]["packages"]
    project, installed = tmp_path / "mine", tmp_path / "installed"
    (project / package).mkdir(parents=True)
    (project / "pyproject.toml").write_text(shown)
    (project / package / "__init__.py").touch()
    for path in (EXAMPLE, SETTINGS):
        shutil.copy(path, project / package)
    # Without the network: what builds it is what is here.
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(installed)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(project)], check=True)
    monkeypatch.syspath_prepend(installed)
    code = f"""
        import recbole_gserec
        from recbole.utils import get_model
        from recbole_gserec.settings.defaults import is_search_aware
        from recbole_gserec.settings.names import check_model, known_settings

        check_model("{NAME}")
        known = "resample_negatives" in known_settings("{NAME}")
        print(get_model("{NAME}").__module__, is_search_aware("{NAME}"), known)
    """
    assert fresh_python(code).split() == [f"{package}.{EXAMPLE.stem}", "True", "True"]

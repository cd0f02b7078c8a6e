"""What every search-aware model keeps to, whatever it computes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor, nn

from recbole_gserec.data.search_rows import QUERY, JointInteraction
from recbole_gserec.settings.config import without_arguments
from recbole_gserec.settings.defaults import model_settings, properties_folder, registered_models
from recbole_gserec.settings.model_table import MODELS
from recbole_gserec.settings.values import check_values
from recbole_gserec.testing.toy_data import SEARCH_FIELDS, changed, widened, without_histories
from tests.conftest import random_files, write_dataset

SEARCH_BLIND = {"JSR", "UnifiedSSR", "KAR", "LLMESR"}
"""Models that learn from searches and read none of a user's when they recommend."""

UNTRAINED: dict[str, dict[str, str]] = {}
"""Parameters that a training step with everything in it leaves without a gradient, each with its reason, by model."""

SMALL = {
    "embedding_size": 16,
    "inner_size": 16,
    "mlp_hidden_size": [16],
    "train_batch_size": 256,
    "train_rows": "targets",
}
"""Smaller than the defaults, where a model has the setting; what is tested does not depend on sizes. Rows."""


class Ready(NamedTuple):
    """A model with weights far from zero in evaluation mode, and rows of both tasks to try it on."""

    name: str
    model: AbstractRecommender
    config: Any
    dataset: Any
    train: Any
    valid: Any
    test: Any
    batch: Interaction
    search: Interaction | None


def settings_for(model: str, data_path: Path, **settings: Any) -> dict[str, Any]:
    own = model_settings(model)
    shared = {"data_path": str(data_path), "use_gpu": False, "show_progress": False}
    return {**shared, **{name: value for name, value in SMALL.items() if name in own}, **settings}


def prepare(model: str, dataset: str, settings: dict[str, Any]) -> tuple:
    """Config, dataset and dataloaders, as RecBole's ``run_recbole`` makes them."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import init_seed

    with without_arguments():
        config = Config(model, dataset, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    built = create_dataset(config)
    return config, built, data_preparation(config, built)


def make_model(config, train) -> AbstractRecommender:
    from recbole.utils import get_model

    torch.manual_seed(0)
    return get_model(config["model"])(config, train._dataset)


def randomise(model: nn.Module) -> None:
    """Weights for which all parts matter: biases and norms too are not what they are at the start."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        # Scales of norms around 1: around 0 they would make all events alike.
        is_scale = "norm" in name and name.endswith("weight")
        nn.init.normal_(parameter, mean=float(is_scale), std=0.3, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight.data[module.padding_idx] = 0


@pytest.fixture(scope="module")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the random dataset ``toy`` of conftest.py."""
    return write_dataset(tmp_path_factory.mktemp("dataset"), "toy", **random_files())


@pytest.fixture(scope="module", params=MODELS)
def made(request, data_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = settings_for(name, data_path, checkpoint_dir=str(folder / "saved"))
        config, built, (train, valid, test) = prepare(name, "toy", settings)
        model = make_model(config, train)
    randomise(model)
    batch = next(iter(train))
    search = getattr(batch, "search", None)
    yield Ready(name, model, config, built, train, valid, test, batch[:80], None if search is None else search[:60])


@pytest.fixture
def ready(made: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ready]:
    """The model as it was made, whatever other tests did to it; the working directory is the test's own."""
    monkeypatch.chdir(tmp_path)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    made.model.eval()
    made.model.zero_grad()
    yield made
    made.model.load_state_dict(before)


def scores(model: AbstractRecommender, batch: Interaction) -> Tensor:
    """Logits of all items, ``[B, n_items]``."""
    with torch.no_grad():
        return model.full_sort_predict(batch)


def losses(model: AbstractRecommender, batch: Interaction, search: Interaction | None) -> tuple[Tensor, ...]:
    """Loss terms of a training step, with the same random numbers at every call."""
    torch.manual_seed(0)
    np.random.seed(0)
    return model.calculate_loss(batch if search is None else JointInteraction(batch.interaction, search))


# ---- training and evaluation as a user starts them -------------------------------------------------------------------


def run(model: str, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    from recbole.quick_start import run_recbole

    with without_arguments():
        return run_recbole(model=model, dataset="toy", config_dict={**settings, "checkpoint_dir": str(folder)})


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Rows of each call of ``encode`` outside of training; for the models that :func:`run` runs, in a folder apart."""
    monkeypatch.chdir(tmp_path)
    rows: list[int] = []

    def counting(encode):
        def count_and_encode(self, interaction, *arguments):
            if not self.training:
                rows.append(len(interaction))
            return encode(self, interaction, *arguments)

        return count_and_encode

    from recbole.utils import get_model

    for model in map(get_model, MODELS):
        monkeypatch.setattr(model, "encode", counting(model.encode))
    return rows


@pytest.mark.parametrize("name", MODELS)
def test_two_epochs_by_default_twice(name, data_path, tmp_path, evaluated):
    from recbole.quick_start import load_data_and_model

    settings = {"data_path": str(data_path), "use_gpu": False, "show_progress": False, "epochs": 2}
    first, second = (run(name, tmp_path / part, settings) for part in ("first", "second"))
    for result in ("best_valid_result", "test_result"):
        assert first[result] == second[result]
        assert len(first[result]) == 6 and all(math.isfinite(value) for value in first[result].values())
    # Two passes over the validation targets and one over the test targets of 40 users, each encoded once for all of
    # its candidates; with a row of its own, RecBole counts operations.
    assert sum(n for n in evaluated if n > 1) == 2 * 3 * 40
    # The checkpoint holds all that the scores come from.
    (checkpoint,) = (tmp_path / "first").glob(f"{name}-*.pth")
    with without_arguments():
        config, model, _, _, _, test = load_data_and_model(str(checkpoint))
    trainer = trainer_of(config, model)
    assert trainer.evaluate(test, load_best_model=False) == first["test_result"]


@pytest.mark.parametrize("name", MODELS)
def test_full_ranking(name, data_path, tmp_path, evaluated):
    result = run(name, tmp_path, settings_for(name, data_path, epochs=1, eval_args={"mode": "full"}))
    for part in ("best_valid_result", "test_result"):
        assert all(math.isfinite(value) for value in result[part].values())
    assert sum(n for n in evaluated if n > 1) == 2 * 40


def trainer_of(config, model):
    from recbole.utils import get_trainer

    return get_trainer(config["MODEL_TYPE"], config["model"])(config, model)


def test_weights_survive_a_checkpoint(ready):
    from recbole.quick_start import load_data_and_model

    trainer = trainer_of(ready.config, ready.model)
    trainer._save_checkpoint(0, verbose=False)
    with without_arguments():
        _, model, _, train, _, test = load_data_and_model(trainer.saved_model_file)
    model.eval()
    rows = np.arange(20)
    for loaded, made in ((train, ready.train), (test, ready.test)):
        assert torch.equal(scores(model, loaded._dataset[rows]), scores(ready.model, made._dataset[rows]))


def test_batches_carry_search_rows_for_models_that_learn_to_search(ready):
    assert isinstance(next(iter(ready.train)), JointInteraction) == ready.model.reads_search_rows(ready.config)


@pytest.mark.parametrize("name", MODELS)
def test_tuned_settings_are_settings_and_lists_of_what_they_take(name):
    if name in registered_models():
        pytest.skip("models of other packages are tuned with a space of the user")
    space = yaml.safe_load((properties_folder() / "tune" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert space and space.keys() <= model_settings(name).keys()
    for setting, values in space.items():
        assert isinstance(values, list) and len(values) > 1 and len(set(map(str, values))) == len(values)
        for value in values:
            check_values({setting: value}, name)


def test_mixed_precision(ready):
    with torch.autocast("cpu", torch.bfloat16):
        found = scores(ready.model, ready.batch)
        terms = losses(ready.model.train(), ready.batch, ready.search)
    assert torch.isfinite(found).all() and all(torch.isfinite(term) for term in terms)
    sum(terms).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in ready.model.parameters())


# ---- candidates, rows and padding ------------------------------------------------------------------------------------


def test_candidates_are_scored_alike_alone_in_lists_and_among_all_items(ready):
    model, batch = ready.model, ready.batch
    candidates = torch.stack([torch.randperm(model.n_items - 1)[:7] + 1 for _ in range(len(batch))])
    expected = scores(model, batch).gather(1, candidates)
    assert torch.isfinite(expected).all() and expected.std(1).min() > 0
    with torch.no_grad():
        found = model.score_candidates(batch, candidates)
        order = torch.stack([torch.randperm(7) for _ in range(len(batch))])
        mixed = model.score_candidates(batch, candidates.gather(1, order))
        alone = [model.predict(changed(batch, item_id=column)) for column in candidates.T]
    assert found.shape == (len(batch), 7)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed, found.gather(1, order), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack(alone, dim=1), found, rtol=1e-4, atol=1e-5)


def test_memory_of_the_evaluation_is_bounded_without_a_trace_in_the_scores(ready, monkeypatch):
    model, batch = ready.model, ready.batch
    candidates = torch.randint(1, model.n_items, (len(batch), 9))
    with torch.no_grad():
        expected = scores(model, batch), model.score_candidates(batch, candidates)
        monkeypatch.setattr("recbole_gserec.models.search_recommender.MAX_PAIRS", 600)
        pairs, score = [], model.score

        def counted(state, candidates):
            logits = score(state, candidates)
            pairs.append(logits.numel())
            return logits

        monkeypatch.setattr(model, "score", counted)
        found = scores(model, batch), model.score_candidates(batch, candidates)
    assert len(pairs) > 20 and max(pairs) <= 600
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_order_of_rows_permutes_scores(ready):
    order = torch.randperm(len(ready.batch))
    found, expected = scores(ready.model, ready.batch[order]), scores(ready.model, ready.batch)[order]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Rows do not look at each other.
    torch.testing.assert_close(scores(ready.model, ready.batch[:1]), scores(ready.model, ready.batch)[:1])


def test_the_last_bits_of_weights_change_nothing(ready):
    """As another machine would round them: no score hangs on which of two equal numbers is the larger."""
    expected = scores(ready.model, ready.batch)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in ready.model.parameters():
            up = torch.rand(parameter.shape, generator=generator) < 0.5
            parameter.copy_(
                torch.nextafter(parameter, torch.where(up, torch.inf, -torch.inf)).where(parameter != 0, 0.0)
            )
    torch.testing.assert_close(scores(ready.model, ready.batch), expected, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(ready):
    model, batch, search = ready.model, ready.batch, ready.search
    torch.testing.assert_close(scores(model, widened(batch)), scores(model, batch), rtol=1e-4, atol=1e-5)
    # Short rows alone come with little padding to begin with.
    short = batch[(batch["item_length"] <= 3) & (batch["search_length"] <= 1)]
    rows = torch.arange(len(short))
    assert 1 < len(short) < len(batch)
    narrow = changed(
        short,
        **{field: short[field][:, :3] for field in ("item_id_list", "item_place_list")},
        **{field: short[field][:, :1] for field in SEARCH_FIELDS[:3]},
    )
    assert narrow["item_id_list"].shape < short["item_id_list"].shape
    torch.testing.assert_close(scores(model, narrow[rows]), scores(model, short), rtol=1e-4, atol=1e-5)
    wide = None if search is None else widened(search)
    for found, expected in zip(losses(model, widened(batch), wide), losses(model, batch, search), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# ---- rows that lack something ----------------------------------------------------------------------------------------


def with_one_interaction(batch: Interaction) -> Interaction:
    one = torch.ones(len(batch), dtype=torch.long)
    items = torch.arange(len(batch)).unsqueeze(1) % 100 + 1
    return changed(
        without_histories(batch, "searches"),
        item_id_list=items,
        item_place_list=torch.zeros_like(items),
        item_length=one,
    )


def with_one_search(batch: Interaction, query: int = 1, n_clicks: int = 1) -> Interaction:
    one = torch.ones(len(batch), dtype=torch.long)
    queries = torch.full((len(batch), 1), query)
    clicks = torch.arange(1, 3).expand(len(batch), 1, 2) * (torch.arange(2) < n_clicks)
    return changed(
        without_histories(batch, "items"),
        search_query_id_list=queries,
        search_item_ids_list=clicks,
        search_place_list=torch.zeros_like(queries),
        search_length=one,
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("at_the_start", [True, False])
def test_rows_that_lack_something_have_finite_scores_and_gradients(ready, training, at_the_start):
    model = ready.model
    if at_the_start:
        torch.manual_seed(0)
        model = make_model(ready.config, ready.train)
    wordless = int((ready.dataset.query_words.offsets.diff() == 0).nonzero().max())
    assert wordless > 0
    cases = {
        "no searches": lambda rows: without_histories(rows, "searches"),
        "no interactions": lambda rows: without_histories(rows, "items"),
        "nothing": lambda rows: without_histories(rows, "items", "searches"),
        "one interaction": with_one_interaction,
        "one search": with_one_search,
        "one search without words": lambda rows: with_one_search(rows, wordless),
        "one search with neither words nor clicks": lambda rows: with_one_search(rows, wordless, 0),
        "one row": lambda rows: rows[:1],
        "one row with nothing": lambda rows: without_histories(rows[:1], "items", "searches"),
    }
    for case, make in cases.items():
        batch, search = make(ready.batch), ready.search
        if search is not None:
            search = make(search)
            search = changed(search, **{QUERY: torch.full_like(search[QUERY], wordless)})
        model.eval()
        assert torch.isfinite(scores(model, batch)).all(), case
        model.train(training)
        model.zero_grad()
        terms = losses(model, batch, search)
        assert all(torch.isfinite(term) for term in terms), case
        sum(terms).backward()
        for name, parameter in model.named_parameters():
            # A norm of nothing has a derivative that is finite and useless: beyond this, one step ruins the optimiser.
            assert parameter.grad is None or parameter.grad.abs().max() < 1e6, (case, name)


# ---- what is learnt, and from what -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_everything_learns(name, data_path):
    config, _, (train, _, _) = prepare(name, "toy", {**settings_for(name, data_path), "train_batch_size": 1024})
    model = make_model(config, train)
    batch = next(iter(train))
    sum(losses(model, batch, getattr(batch, "search", None))).backward()
    still = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    }
    assert still == UNTRAINED.get(name, {}).keys()


def with_searches_of_other_rows(batch: Interaction) -> Interaction:
    return changed(batch, **{field: batch[field].roll(1, 0) for field in SEARCH_FIELDS})


def test_searches_of_others_change_scores_where_searches_are_read(ready):
    other = with_searches_of_other_rows(ready.batch)
    found, expected = scores(ready.model, other), scores(ready.model, ready.batch)
    if ready.name in SEARCH_BLIND:
        assert torch.equal(found, expected)
        return
    differ = torch.stack([(other[f] != ready.batch[f]).flatten(1).any(1) for f in SEARCH_FIELDS[:2]]).any(0)
    assert differ.sum() > 40
    assert ((found - expected).abs().amax(1) > 1e-4)[differ].float().mean() > 0.9
    torch.testing.assert_close(found[~differ], expected[~differ], rtol=1e-4, atol=1e-5)


def files_with_a_search_at_each_target() -> dict[str, list[tuple]]:
    """Those of ``toy``; the validation and the test target each come with a search at their moment that clicks them.

    Ids do not depend on what anyone clicks: a first search has all items.
    """
    files = random_files()
    by_user: dict[str, list[tuple]] = {}
    for row in files["inter"]:
        by_user.setdefault(row[0], []).append(row)
    searches = [
        (user, f"q{index}", time, item)
        for rows in by_user.values()
        for index, (user, item, time) in enumerate(rows[-2:])
    ]
    searches = sorted([*files["search"], *searches], key=lambda row: row[2])
    everything = ("searcher", "q0", 0, " ".join(f"i{item}" for item in range(160)))
    return {**files, "search": [everything, *searches]}


def with_other_searches_from(files: dict[str, list[tuple]], moments: dict[str, int]) -> dict[str, list[tuple]]:
    """Other queries and clicks for all searches at or after each user's moment."""
    rng = np.random.default_rng(1)
    searches = []
    for user, query, time, clicks in files["search"]:
        if time >= moments.get(user, math.inf):
            query = f"q{(int(query[1:]) + rng.integers(1, 12)) % 12}"
            clicks = " ".join(f"i{item}" for item in rng.choice(160, size=rng.integers(1, 4), replace=False))
        searches.append((user, query, time, clicks))
    return {**files, "search": searches}


@pytest.fixture(scope="module")
def leak_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the datasets ``before`` and ``after``: other searches from the validation target's moment on."""
    folder, files = tmp_path_factory.mktemp("leak"), files_with_a_search_at_each_target()
    valid = {}
    for user in {row[0] for row in files["inter"]}:
        valid[user] = [row[2] for row in files["inter"] if row[0] == user][-2]
    write_dataset(folder, "before", **files)
    return write_dataset(folder, "after", **with_other_searches_from(files, valid))


def recording(calculate_loss, batches: list[dict[str, Tensor]]):
    """The same, that also keeps the fields of each batch and of its search rows."""

    def record_and_calculate(batch: Interaction):
        batches.extend({**rows.interaction} for rows in (batch, getattr(batch, "search", None)) if rows is not None)
        return calculate_loss(batch)

    return record_and_calculate


@pytest.mark.parametrize("name", MODELS)
def test_searches_from_the_validation_target_on_train_nothing_and_change_no_score(
    name, leak_data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    ids, batches, weights, found = {}, {"before": [], "after": []}, {}, {}
    for part in ("before", "after"):
        settings = settings_for(name, leak_data, epochs=1, checkpoint_dir=str(tmp_path))
        config, built, (train, valid, test) = prepare(name, part, settings)
        model = make_model(config, train)
        ids[part] = {field: tokens.tolist() for field, tokens in built.field2id_token.items()}
        model.calculate_loss = recording(model.calculate_loss, batches[part])
        trainer_of(config, model).fit(train, saved=False, verbose=False)
        weights[part] = model.state_dict()
        model.eval()
        found[part] = [scores(model, split._dataset[np.arange(len(split._dataset))]) for split in (valid, test)]
    assert ids["before"] == ids["after"]
    assert len(batches["before"]) == len(batches["after"]) >= 3
    for mine, theirs in zip(*batches.values(), strict=True):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[field], theirs[field]) for field in mine)
    for key, value in weights["before"].items():
        assert torch.equal(value, weights["after"][key]), key
    assert torch.equal(found["before"][0], found["after"][0])
    # The test targets do see what has changed.
    assert torch.equal(found["before"][1], found["after"][1]) == (name in SEARCH_BLIND)

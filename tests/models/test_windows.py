"""Training on all positions of windows: each target is scored from what it may see alone, as a row is."""

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_gserec.data import SEEN_ITEMS, SEEN_SEARCHES, TARGETS
from recbole_gserec.models import gserec
from recbole_gserec.settings import MODELS

pytestmark = pytest.mark.usefixtures("random_dataset")

SETTINGS = {
    "train_rows": "users",
    "MAX_ITEM_LIST_LENGTH": 4,
    "MAX_SEARCH_LIST_LENGTH": 3,
    "n_layers": 2,
    "train_batch_size": 120,
}


@pytest.fixture(params=[0.01, 1.01], ids=["padded", "packed"])
def packing(request, monkeypatch):
    """Whether batches keep their padding."""
    monkeypatch.setattr("recbole_gserec.layers.packing._DENSE", request.param)


@pytest.fixture(
    params=[{}, {"use_user_code_graph": False}, {"use_code_fusion": False}, {"lambda_next_item": 0.5}], ids=str
)
def windows(request, make_model, packing):
    """A model with random weights in evaluation mode, a batch of windows, and candidates of their targets."""
    model, _, _, loaders = make_model("GSERec", **SETTINGS, **request.param)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        for table in ("item_embedding", "user_embedding"):
            if hasattr(model, table):
                getattr(model, table).weight[0] = 0
    batch = next(iter(loaders[0]))
    return model.eval(), batch, model.training_candidates(batch)


@torch.no_grad()
def scores(model, batch, candidates):
    """Logits of the real targets, ``[n, C]``."""
    return model.score_targets(model.encode(batch), candidates, batch[TARGETS] > 0)


def row_of(batch, row, n_items, n_searches):
    """The row of evaluation whose history is the first events of a window."""
    queries = batch["search_query_id_list"][row : row + 1, : max(1, n_searches)].clone()
    clicks = batch["search_item_ids_list"][row : row + 1, : max(1, n_searches)].clone()
    if n_searches == 0:
        queries.zero_()
        clicks.zero_()
    return Interaction(
        {
            "user_id": batch["user_id"][row : row + 1],
            "item_id_list": batch["item_id_list"][row : row + 1, :n_items],
            "item_length": torch.tensor([n_items]),
            "search_query_id_list": queries,
            "search_item_ids_list": clicks,
            "search_length": torch.tensor([n_searches]),
        }
    )


@torch.no_grad()
def test_a_target_in_a_window_scores_as_the_row_with_the_same_events(windows):
    model, batch, candidates = windows
    expected = []
    for row, target in (batch[TARGETS] > 0).nonzero().tolist():
        seen = int(batch[SEEN_ITEMS][row, target]), int(batch[SEEN_SEARCHES][row, target])
        alone = row_of(batch, row, *seen)
        expected.append(model.score(model.encode(alone), candidates[row, target].unsqueeze(0))[0])
    found = scores(model, batch, candidates)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-3, atol=1e-4)
    seen_searches = batch[SEEN_SEARCHES][batch[TARGETS] > 0]
    # Targets without searches, with fewer and with more than a history holds.
    assert (seen_searches == 0).any() and (seen_searches > 3).any() and len(found) > 40


@pytest.mark.parametrize("side", ["item", "search"])
def test_no_target_reads_what_it_may_not_see(windows, side):
    model, batch, candidates = windows
    if side == "item":
        field, seen_field, lengths = "item_id_list", SEEN_ITEMS, batch["item_length"]
    else:
        field, seen_field, lengths = "search_item_ids_list", SEEN_SEARCHES, batch["search_length"]
    before, changed_rows = scores(model, batch, candidates), (batch[TARGETS] > 0).nonzero()
    seen = batch[seen_field][batch[TARGETS] > 0]
    n_moved = 0
    for index in range(int(lengths.max())):
        # One event of every window becomes another item, or another click.
        changed = Interaction({name: value.clone() for name, value in batch.interaction.items()})
        values = changed[field][:, index]
        values.copy_(torch.where(values > 0, values % (model.n_items - 1) + 1, values))
        if side == "search" and values.dim() == 2:
            values[:, 0] = values[:, 0].where(values[:, 0] > 0, torch.tensor(1))
        moved = (scores(model, changed, candidates) - before).abs().amax(1) > 1e-5
        assert not moved[seen <= index].any()
        n_moved += int(moved[(seen > index) & (seen - index <= 3)].sum())
        assert len(changed_rows) == len(moved)
    assert n_moved > 20


def test_every_weight_is_trained(windows):
    model, batch, candidates = windows
    model.zero_grad()
    losses = model.train().calculate_loss(batch)
    sum(losses).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not idle
    assert model.loss_names[0] == "rec" and all(torch.isfinite(loss) for loss in losses)


@torch.no_grad()
def test_batch_order_and_padding_do_not_matter(windows):
    model, batch, candidates = windows
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    before, mask = scores(model, batch, candidates), batch[TARGETS] > 0
    padded = Interaction({name: value[order] for name, value in batch.interaction.items()})
    for name in ("item_id_list", "search_query_id_list", "search_item_ids_list"):
        value = padded[name]
        padded.interaction[name] = torch.cat([value, torch.zeros_like(value[:, :2])], dim=1)
    numbers = torch.zeros(mask.shape, dtype=torch.long)
    numbers[mask] = torch.arange(len(before))
    after = scores(model, padded, candidates[order])
    torch.testing.assert_close(after, before[numbers[order][mask[order]]], rtol=1e-3, atol=1e-4)


def test_scores_of_many_candidates_equal_those_of_few(make_model):
    model, _, _, loaders = make_model("GSERec", MAX_ITEM_LIST_LENGTH=4, MAX_SEARCH_LIST_LENGTH=3)
    rows = next(iter(loaders[0]))[:20]
    candidates = torch.arange(1, model.n_items).unsqueeze(0)
    with torch.no_grad():
        state = model.eval().encode(rows)
        at_once = model.score(state, candidates)
        few = torch.cat([model.score(state, part) for part in candidates.split(3, dim=1)], dim=1)
        own = model.score(state, candidates.expand(len(rows), -1))
    torch.testing.assert_close(at_once, few, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(at_once, own, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_target_with_a_short_past_scores_as_its_row(windows):
    model, batch, candidates = windows
    found, expected = iter(scores(model, batch, candidates)), 0
    for row, target in (batch[TARGETS] > 0).nonzero().tolist():
        logits, seen = next(found), (int(batch[SEEN_ITEMS][row, target]), int(batch[SEEN_SEARCHES][row, target]))
        if seen[0] > 4 or seen[1] > 3:
            continue
        expected += 1
        alone = model.score(model.encode(row_of(batch, row, *seen)), candidates[row, target].unsqueeze(0))[0]
        torch.testing.assert_close(logits, alone, rtol=1e-3, atol=1e-4)
    assert expected > 20


def test_the_loss_leaves_out_padded_targets(windows):
    model, batch, candidates = windows
    with torch.no_grad():
        model.lambda_u_cl = model.lambda_his_cl = 0
        logits = scores(model, batch, candidates)
        labels = torch.zeros_like(logits)
        labels[:, 0] = 1
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        torch.testing.assert_close(model.calculate_loss(batch)[0], expected)


@pytest.mark.parametrize("n_extra", [0, 30])
def test_further_users_are_contrasted(make_model, monkeypatch, n_extra):
    model, _, _, loaders = make_model("GSERec", **SETTINGS, u_cl_extra_users=n_extra, lambda_his_cl=0)
    contrasted = []
    plain = gserec.nt_xent

    def noted(first, second, **options):
        contrasted.append(len(first))
        assert len(first) == len(second)
        return plain(first, second, **options)

    monkeypatch.setattr(gserec, "nt_xent", noted)
    batch = next(iter(loaders[0]))
    model.calculate_loss(batch)
    n_users = len(batch["user_id"].unique())
    assert contrasted[0] == n_users if n_extra == 0 else n_users < contrasted[0] <= n_users + n_extra


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"GSERec"}))
def test_other_models_read_rows(make_config, name):
    config = make_config(name, train_rows="users")
    assert not config.model_class.reads_windows(config)

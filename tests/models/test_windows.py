"""Training on all positions of windows: each target scored as in evaluation, from what it may see alone."""

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_gserec.data import SEEN_ITEMS, SEEN_SEARCHES, TARGETS
from recbole_gserec.layers import Packing

pytestmark = pytest.mark.usefixtures("random_dataset")

SETTINGS = {
    "train_rows": "users",
    "MAX_ITEM_LIST_LENGTH": 4,
    "MAX_SEARCH_LIST_LENGTH": 3,
    "n_layers": 2,
    "train_batch_size": 120,
}


@pytest.fixture(params=[{}, {"use_user_code_graph": False}, {"use_code_fusion": False}], ids=str)
def windows(request, make_model):
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
    targets = Packing(batch[TARGETS] > 0)
    found = model.score_targets(model.encode(batch), candidates, targets)
    return found[targets.mask.flatten()] if targets.is_dense else found


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
def test_a_target_in_a_window_scores_as_in_evaluation(windows):
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


def test_every_target_of_a_window_trains_what_it_sees(windows):
    model, batch, candidates = windows
    model.zero_grad()
    losses = model.train().calculate_loss(batch)
    sum(losses).backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing
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

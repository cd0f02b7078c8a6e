"""Training on all positions of windows: each target is scored from what it may see alone, as a row is.

Breakages tried, each caught here: a target that sees the event after it; a limit of one event too many; a query
replaced by what its target tells; padded targets in the loss; a distance counted over tokens that a row does not have.
"""

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_gserec.data import SEEN_ITEMS, SEEN_SEARCHES, TARGETS
from recbole_gserec.errors import SettingError
from recbole_gserec.layers import dot_product
from recbole_gserec.models import LLMESR, CL4SRec, gserec

pytestmark = pytest.mark.usefixtures("random_dataset")

N_ITEMS, N_SEARCHES = 4, 3
SETTINGS = {"train_rows": "users", "MAX_ITEM_LIST_LENGTH": N_ITEMS, "train_batch_size": 120}
OF_SEARCHES = {"MAX_SEARCH_LIST_LENGTH": N_SEARCHES}

NEGATIVES = {"distribution": "uniform", "sample_num": 3, "dynamic": False, "candidate_num": 0, "alpha": 1.0}

# With one layer, a target reads events as they are: it scores as a row with the last events. With more, old events may
# have read events that such a row no longer has, so the row has all events of the window before the target.
LAST, ALL = "last", "all"
CASES = [
    ("GSERec", ALL, {"n_layers": 2}),
    ("GSERec", ALL, {"use_user_code_graph": False}),
    ("GSERec", ALL, {"use_code_fusion": False}),
    ("GSERec", ALL, {"lambda_next_item": 0.5}),
    ("LLMESR", ALL, {}),
    ("NRHUB", LAST, {}),
    ("CL4SRec", LAST, {"n_layers": 1}),
    ("CL4SRec", ALL, {"n_layers": 2, "loss_type": "BPR", "train_neg_sample_args": NEGATIVES}),
    ("CL4SRec", ALL, {"n_layers": 2, "loss_type": "BCE", "train_neg_sample_args": NEGATIVES}),
    ("QuerySeqRec", LAST, {"n_layers": 1, "max_tokens": 7}),
    ("QuerySeqRec", LAST, {"n_layers": 1, "max_tokens": 100}),
    ("QuerySeqRec", LAST, {"n_layers": 1, "max_tokens": 5, "include_clicks": False, "loss_type": "BCE"}),
    ("QuerySeqRec", ALL, {"n_layers": 2, "max_tokens": 100, "loss_type": "sampled_CE"}),
]
"""Models, what a row of theirs has that scores as a target in a window, and settings."""


def identity(case):
    return " ".join([case[0], *(f"{name}={value}" for name, value in case[2].items() if value != NEGATIVES)])


@pytest.fixture(params=[0.01, 1.01], ids=["padded", "packed"])
def packing(request, monkeypatch):
    """Whether batches keep their padding."""
    monkeypatch.setattr("recbole_gserec.layers.packing._DENSE", request.param)


def settings_of(name, **others):
    return {**SETTINGS, **(OF_SEARCHES if name not in ("CL4SRec", "LLMESR") else {}), **others}


@pytest.fixture(params=CASES, ids=identity)
def windows(request, make_model, packing):
    """A model with random weights in evaluation mode, a batch of windows, and what equal rows have."""
    name, kept, settings = request.param
    model, _, _, loaders = make_model(name, **settings_of(name, **settings))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        for table in ("item_embedding", "user_embedding"):
            if hasattr(model, table):
                getattr(model, table).weight[0] = 0
    return model.eval(), next(iter(loaders[0])), kept


def candidates_of(batch):
    """The positive and the negatives of the real targets, ``[n, C]``."""
    is_target = batch[TARGETS] > 0
    return torch.cat([batch[TARGETS][is_target].unsqueeze(1), batch["neg_item_id"][is_target]], dim=1)


def score_rows(model, rows, candidates):
    """Logits of rows of the usual form, ``[n, C]``."""
    if isinstance(model, CL4SRec):
        states = model.forward(rows["item_id_list"], rows["item_length"])
        return dot_product(states, model.item_embedding(candidates))
    return model.logits(model.encode(rows), candidates)


@torch.no_grad()
def scores(model, batch):
    """Logits of the candidates of the real targets, ``[n, C]``."""
    candidates = candidates_of(batch)
    if isinstance(model, gserec.GSERec):
        return model.score_targets(model.encode(batch), candidates, batch[TARGETS] > 0)
    if isinstance(model, CL4SRec):
        return dot_product(model.target_states(batch), model.item_embedding(candidates))
    return model.score(model.encode(batch), candidates)


def rows_of(batch, kept):
    """The rows of evaluation whose histories are what the targets may see: a row for each real target."""
    windows, columns = (batch[TARGETS] > 0).nonzero(as_tuple=True)
    rows = {"user_id": batch["user_id"][windows]}
    for ends, size, length, names in (
        (SEEN_ITEMS, N_ITEMS, "item_length", ("item_id_list", "item_place_list")),
        (
            SEEN_SEARCHES,
            N_SEARCHES,
            "search_length",
            ("search_query_id_list", "search_item_ids_list", "search_place_list"),
        ),
    ):
        if length not in batch:
            continue
        counts = batch[ends][windows, columns]
        lengths = counts.clamp_max(size) if kept == LAST else counts
        position = torch.arange(max(1, int(lengths.max())))
        indices, is_real = (counts - lengths).unsqueeze(1) + position, position < lengths.unsqueeze(1)
        rows[length] = lengths
        for name in names:
            if name in batch:
                values = batch[name][windows.unsqueeze(1), indices.clamp_max(batch[name].shape[1] - 1)]
                shape = *is_real.shape, *[1] * (values.dim() - 2)
                rows[name] = values.masked_fill(~is_real.view(shape), 2**62 if "place" in name else 0)
    return Interaction(rows)


@torch.no_grad()
def test_a_target_in_a_window_scores_as_the_row_with_the_same_events(windows):
    model, batch, kept = windows
    found, expected = scores(model, batch), score_rows(model, rows_of(batch, kept), candidates_of(batch))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert len(found) > 40 and found.std() > 0.1
    if "search_length" in batch:
        seen_searches = batch[SEEN_SEARCHES][batch[TARGETS] > 0]
        # Targets without searches, with fewer and with more than a history holds.
        assert (seen_searches == 0).any() and (seen_searches > N_SEARCHES).any()


def test_no_target_reads_what_it_may_not_see(windows):
    model, batch, _ = windows
    assert_reads_what_it_sees(model, batch, "item")
    if hasattr(model, "query_embedding") or hasattr(model, "session_embedding"):
        assert_reads_what_it_sees(model, batch, "search")


def assert_reads_what_it_sees(model, batch, side):
    """A change of one interaction or search of each window changes only scores of targets that may see it."""
    field, seen_field = ("item_id_list", SEEN_ITEMS) if side == "item" else ("search_query_id_list", SEEN_SEARCHES)
    before, seen, n_moved = scores(model, batch), batch[seen_field][batch[TARGETS] > 0], 0
    n_values = model.n_items if side == "item" else 11
    for index in range(int(batch[f"{side}_length"].max())):
        # One event of every window becomes another item or query, and a search gets another click.
        changed = Interaction({name: value.clone() for name, value in batch.interaction.items()})
        values = changed[field][:, index]
        values.copy_(torch.where(values > 0, values % (n_values - 1) + 1, values))
        if side == "search":
            clicks = changed["search_item_ids_list"][:, index, 0]
            clicks.copy_(torch.where(clicks > 0, clicks % (model.n_items - 1) + 1, clicks))
        moved = (scores(model, changed) - before).abs().amax(1) > 1e-5
        assert not moved[seen <= index].any()
        n_moved += int(moved[(seen > index) & (seen - index <= 3)].sum())
    assert n_moved > 20


def test_every_weight_is_trained(windows):
    model, batch, _ = windows
    model.zero_grad()
    losses = model.train().calculate_loss(batch)
    sum(losses).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not idle
    assert all(torch.isfinite(loss) for loss in losses)
    # CL4SRec names none, and has the two of the paper.
    assert len(getattr(model, "loss_names", (1, 2))) == len(losses)


@torch.no_grad()
def test_batch_order_and_padding_do_not_matter(windows):
    model, batch, _ = windows
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    before, mask = scores(model, batch), batch[TARGETS] > 0
    padded = Interaction({name: value[order] for name, value in batch.interaction.items()})
    for name, value in padded.interaction.items():
        if name.endswith("_list"):
            filler = torch.full_like(value[:, :1].expand(-1, 2, *value.shape[2:]), 2**62 if "place" in name else 0)
            padded.interaction[name] = torch.cat([value, filler], dim=1)
        elif name in (TARGETS, SEEN_ITEMS, SEEN_SEARCHES, "neg_item_id"):
            padded.interaction[name] = torch.cat([value, torch.zeros_like(value[:, :1])], dim=1)
    numbers = torch.zeros(mask.shape, dtype=torch.long)
    numbers[mask] = torch.arange(len(before))
    after = scores(model, padded)
    torch.testing.assert_close(after, before[numbers[order][mask[order]]], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_loss_is_the_mean_over_real_targets(windows):
    model, batch, kept = windows
    if isinstance(model, gserec.GSERec):
        model.lambda_u_cl = model.lambda_his_cl = 0
    rows = rows_of(batch, kept)
    logits = score_rows(model, rows, candidates_of(batch))
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    loss_type = model.loss_type if isinstance(model, CL4SRec) else model.objective.loss_type
    if loss_type == "CE":
        # RecBole's cross entropy is also over the padding.
        first = int(not isinstance(model, CL4SRec))
        every = score_rows(model, rows, torch.arange(first, model.n_items).unsqueeze(0))
        expected = torch.nn.functional.cross_entropy(every, batch[TARGETS][batch[TARGETS] > 0] - first)
    elif loss_type == "BPR":
        expected = -(logits[:, :1] - logits[:, 1:]).sigmoid().add(1e-10).log().mean()
    elif loss_type == "sampled_CE":
        expected = -logits.log_softmax(1)[:, 0].mean()
    else:
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    losses = model.calculate_loss(batch)
    torch.testing.assert_close(losses[0], expected, rtol=1e-3, atol=1e-4)
    if isinstance(model, LLMESR):
        has_history = torch.ones(len(logits), dtype=torch.bool)
        distilled = model.alpha * model.distillation_loss(rows["user_id"], model.encode(rows), has_history)
        torch.testing.assert_close(losses[1], distilled, rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize("include_clicks", [True, False])
def test_no_substitute_of_a_query_tells_of_a_target(make_model, include_clicks):
    changes = {"replace_prob": 0.9, "graph_replace_prob": 1.0, "include_clicks": include_clicks, "max_tokens": 50}
    silent = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
    model, _, _, loaders = make_model("QuerySeqRec", **settings_of("QuerySeqRec", **changes, **silent))
    batch, n_moved = next(iter(loaders[0])), 0

    def scored(batch):
        torch.manual_seed(3)
        return scores(model.train(), batch)

    before, seen = scored(batch), batch[SEEN_ITEMS][batch[TARGETS] > 0]
    for index in range(int(batch["item_length"].max())):
        changed = Interaction({name: value.clone() for name, value in batch.interaction.items()})
        values = changed["item_id_list"][:, index]
        values.copy_(torch.where(values > 0, values % (model.n_items - 1) + 1, values))
        moved = (scored(changed) - before).abs().amax(1) > 1e-6
        assert not moved[seen <= index].any()
        n_moved += int(moved.sum())
    assert n_moved > 20


def test_cl4srec_contrasts_the_last_row_of_each_window(make_model, monkeypatch):
    model, _, _, loaders = make_model("CL4SRec", **settings_of("CL4SRec"))
    batch, plain, contrasted = next(iter(loaders[0])), model.augmentation.forward, []

    def noted(sequences, lengths):
        contrasted.extend(zip(sequences.tolist(), lengths.tolist(), strict=True))
        return plain(sequences, lengths)

    monkeypatch.setattr(model.augmentation, "forward", noted)
    assert len(model.calculate_loss(batch)) == 2
    rows = rows_of(batch, LAST)
    ends = (batch[TARGETS] > 0).sum(1).cumsum(0) - 1
    assert contrasted == list(zip(rows["item_id_list"][ends].tolist(), rows["item_length"][ends].tolist(), strict=True))


@pytest.mark.parametrize("n_extra", [0, 30])
def test_further_users_are_contrasted(make_model, monkeypatch, n_extra):
    model, _, _, loaders = make_model(
        "GSERec", **settings_of("GSERec", n_layers=2), u_cl_extra_users=n_extra, lambda_his_cl=0
    )
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


@pytest.mark.parametrize("name", ["CL4SRec", "GSERec", "LLMESR", "NRHUB", "QuerySeqRec"])
def test_evaluation_reads_the_same_rows(make_model, name):
    model, _, _, (_, valid, _) = make_model(name, **settings_of(name))
    _, _, _, (_, expected, _) = make_model(name, **settings_of(name, train_rows="targets"))
    n_rows = 0
    for batches in zip(valid, expected, strict=True):
        rows, of_targets = (batch.interaction for batch in batches)
        assert TARGETS not in rows and sorted(rows.interaction) == sorted(of_targets.interaction)
        for field, values in of_targets.interaction.items():
            torch.testing.assert_close(rows[field], values, rtol=0, atol=0)
        with torch.no_grad():
            every = model.eval().full_sort_predict(rows)
            own = model.predict(rows)
        torch.testing.assert_close(own, every[torch.arange(len(rows)), rows["item_id"]], rtol=1e-4, atol=1e-5)
        n_rows += len(rows)
    assert n_rows > 30


@pytest.mark.parametrize("name", ["KAR", "UniSAR", "SASRec", "SimGCL"])
def test_other_models_refuse_windows(make_config, name):
    with pytest.raises(
        SettingError,
        match=f"train_rows is 'users'; it must be 'targets' for {name}: only CL4SRec, GSERec, LLMESR, NRHUB",
    ):
        make_config(name, train_rows="users")
    make_config(name, train_rows="targets")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"train_rows": "users"}, 0.003), ({}, 0.001), ({"train_rows": "users", "learning_rate": 0.01}, 0.01)],
)
def test_windows_have_a_learning_rate_of_their_own(make_config, settings, expected):
    assert make_config("NRHUB", **settings)["learning_rate"] == expected


def test_other_values_are_refused(make_config):
    with pytest.raises(SettingError, match="train_rows is 'user'; it must be 'targets' or 'users'"):
        make_config("NRHUB", train_rows="user")


@pytest.mark.parametrize("name", ["LLMESR", "QuerySeqRec"])
def test_all_positions_of_a_row_are_not_asked_for_as_well(make_model, name):
    with pytest.raises(SettingError, match="train_positions is 'all', but with train_rows: users"):
        make_model(name, **settings_of(name), train_positions="all")


def test_the_authors_block_reads_rows_only(make_model):
    with pytest.raises(SettingError, match="official_block is True"):
        make_model("QuerySeqRec", **settings_of("QuerySeqRec"), official_block=True)


def test_mixed_precision(windows):
    model, batch, _ = windows
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.calculate_loss(batch)[0]
    loss.backward()
    assert torch.isfinite(loss)
    torch.manual_seed(0)
    torch.testing.assert_close(loss.float(), model.calculate_loss(batch)[0], rtol=0.03, atol=0.03)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)

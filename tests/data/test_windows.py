"""Windows of users' events against plain loops over the log."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_gserec.data.dataset import TARGET
from recbole_gserec.data.train_dataloaders import events_of_rows
from recbole_gserec.data.windows import SEEN_ITEMS, SEEN_SEARCHES, TARGETS, Windows
from recbole_gserec.errors import SettingError
from tests.data.test_events import log_of, some_interactions, some_searches


@settings(deadline=None)
@given(some_interactions, some_searches, st.integers(1, 4), st.integers(1, 3), st.data())
def test_each_target_is_in_one_window_with_its_history_before_it(interactions, searches, n_items, n_searches, data):
    log, _ = log_of(interactions, searches)
    users = log.users_of_interactions()
    chosen = [index for index in range(len(users)) if index > log.item_offsets[users[index]]]
    chosen = data.draw(st.lists(st.sampled_from(chosen), unique=True)) if chosen else []
    targets = torch.tensor(chosen, dtype=torch.long)
    windows = Windows.of_targets(log, users[targets], targets, n_items, n_searches)
    assert sorted(windows.targets.values.tolist()) == sorted(chosen)
    for window in range(len(windows)):
        user = windows.users[window]
        own = windows.targets.values[windows.targets.offsets[window] : windows.targets.offsets[window + 1]]
        assert (users[own] == user).all() and (own.diff() > 0).all()
        start, search_start = windows.item_starts[window], windows.search_starts[window]
        assert 0 < own[-1] - start < 2 * n_items
        assert 0 <= log.search_ends[own[-1]] - search_start < 2 * n_searches
        for target in own:
            assert start == log.item_offsets[user] or target - start >= n_items
            assert search_start == log.search_offsets[user] or log.search_ends[target] - search_start >= n_searches


def test_a_batch_holds_the_events_of_its_windows(random_dataset, prepare):
    sizes = {"MAX_ITEM_LIST_LENGTH": 3, "MAX_SEARCH_LIST_LENGTH": 2}
    _, dataset, (train, *_) = prepare(train_rows="users", train_batch_size=40, **sizes)
    rows = train._dataset.inter_feat
    taken, batches = [], list(train)
    assert len(batches) > 2
    for batch in batches:
        negatives = batch["neg_item_id"]
        assert negatives.shape == (*batch[TARGETS].shape, 4)
        assert ((negatives > 0).all(2) == (batch[TARGETS] > 0)).all()
        for row, user in enumerate(batch["user_id"]):
            items = batch["item_id_list"][row][: batch["item_length"][row]]
            n_targets = int((batch[TARGETS][row] > 0).sum())
            for target in range(n_targets):
                item, seen = batch[TARGETS][row, target], batch[SEEN_ITEMS][row, target]
                searches = batch[SEEN_SEARCHES][row, target]
                taken.append((int(user), int(item)))
                # The row of this target has the last of what the window shows it.
                matches = (rows["user_id"] == user) & (rows["item_id"] == item)
                histories = dataset.join(rows[matches])
                expected = [
                    (
                        histories["item_id_list"][n][: histories["item_length"][n]].tolist(),
                        histories["search_query_id_list"][n][: histories["search_length"][n]].tolist(),
                        histories["search_item_ids_list"][n][: histories["search_length"][n]].sum().item(),
                        histories["item_place_list"][n][: histories["item_length"][n]].tolist(),
                        histories["search_place_list"][n][: histories["search_length"][n]].tolist(),
                    )
                    for n in range(len(histories))
                ]
                shown = slice(max(0, int(searches) - 2), int(searches))
                found = (
                    items[:seen][-3:].tolist(),
                    batch["search_query_id_list"][row][shown].tolist(),
                    batch["search_item_ids_list"][row][shown].sum().item(),
                    batch["item_place_list"][row][:seen][-3:].tolist(),
                    batch["search_place_list"][row][shown].tolist(),
                )
                assert found in expected
    assert sorted(taken) == sorted(zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True))
    assert TARGET in rows


@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
@pytest.mark.parametrize("suffixes", [("inter", "search"), ("inter",)], ids=["with searches", "without"])
def test_windows_of_recboles_rows_hold_the_same_rows(prepare, random_rows, write_rows, loss_type, suffixes):
    write_rows(**{suffix: random_rows[suffix] for suffix in suffixes})
    n_negatives = 3 if loss_type == "BPR" else 0
    settings = {"loss_type": loss_type, "MAX_ITEM_LIST_LENGTH": 4, "train_batch_size": 40}
    if loss_type == "BPR":
        settings["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": n_negatives, "dynamic": False}
    if "search" not in suffixes:
        settings["load_col"] = {"inter": ["user_id", "item_id", "timestamp"]}
        settings["eval_args"] = {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": None, "mode": "full"}
    _, _, (train, *_) = prepare("CL4SRec", train_rows="users", **settings)
    rows, found, batches = train._dataset.inter_feat, [], list(train)
    known = {(int(user), int(item)) for user, item in zip(rows["user_id"], rows["item_id"], strict=True)}
    for batch in batches:
        assert batch["neg_item_id"].shape == (*batch[TARGETS].shape, n_negatives)
        for row, column in (batch[TARGETS] > 0).nonzero().tolist():
            user, seen = int(batch["user_id"][row]), int(batch[SEEN_ITEMS][row, column])
            history = batch["item_id_list"][row, :seen][-4:].tolist()
            found.append((user, history, int(batch[TARGETS][row, column])))
            negatives = batch["neg_item_id"][row, column].tolist()
            assert all(item > 0 and (user, item) not in known for item in negatives)
    expected = [
        (
            int(rows["user_id"][row]),
            rows["item_id_list"][row][: rows["item_length"][row]].tolist(),
            int(rows["item_id"][row]),
        )
        for row in range(len(rows))
    ]
    assert len(batches) > 3 and sorted(found) == sorted(expected)


def test_rows_that_do_not_follow_each_other_are_refused(random_dataset, prepare):
    _, _, (train, *_) = prepare("CL4SRec", MAX_ITEM_LIST_LENGTH=4)
    dataset = train._dataset
    middle = int((dataset.inter_feat["item_length"] == 2).nonzero()[0])
    dataset.inter_feat = dataset.inter_feat[torch.arange(len(dataset.inter_feat)) != middle]
    with pytest.raises(
        SettingError,
        match="need training rows that follow each other",
    ):
        events_of_rows(dataset)


def test_stored_negatives_belong_to_their_targets(random_dataset, prepare):
    _, dataset, (train, *_) = prepare(train_rows="users", resample_negatives=False, train_batch_size=30)

    def negatives():
        found = {}
        for batch in train:
            for row, user in enumerate(batch["user_id"].tolist()):
                for item, seen, drawn in zip(
                    batch[TARGETS][row].tolist(),
                    batch[SEEN_ITEMS][row].tolist(),
                    batch["neg_item_id"][row].tolist(),
                    strict=True,
                ):
                    if item:
                        found.setdefault((user, item), set()).add((seen, *drawn))
        return found

    first = negatives()
    assert first == negatives()
    interactions = dataset.events.users_of_interactions()
    for (user, _), drawn in first.items():
        end = dataset.events.train_ends[user]
        known = dataset.events.items[:end][interactions[:end] == user].tolist()
        assert not {item for _, *items in drawn for item in items} & set(known)

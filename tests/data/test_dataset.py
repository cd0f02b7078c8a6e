"""Rows, histories and visible searches of whole datasets against plain loops over the rows of the files."""

import logging

import numpy as np
import pytest

from recbole_gserec.data.dataset import TARGET, SearchDataset

SEARCHES_ONLY = {
    "additional_feat_suffix": ["search", "query"],
    "alias_of_user_id": ["search_user_id"],
    "alias_of_item_id": ["search_item_ids"],
}


def expected_splits(files, n_items=20, n_searches=20, n_clicks=5):
    """The rule of visibility, one row at a time, from rows of the files: see ``splits`` in conftest for the form."""
    rows = {"train": [], "valid": [], "test": []}
    for user in {row[0] for row in files["inter"]}:
        # Sorting keeps the order of equal times.
        events = sorted((row for row in files["inter"] if row[0] == user), key=lambda row: row[2])
        searches = sorted((row for row in files["search"] if row[0] == user), key=lambda row: row[2])
        for index in range(1, len(events)):
            _, item, time = events[index]
            history = [event[1] for event in events[:index]][-n_items:]
            seen = [search for search in searches if search[2] < time][-n_searches:]
            visible = tuple((query, tuple(clicks.split()[-n_clicks:])) for _, query, _, clicks in seen)
            from_end = len(events) - index if len(events) >= 3 else 3
            split = {1: "test", 2: "valid"}.get(from_end, "train")
            rows[split].append((user, item, tuple(history), visible))
    return {split: sorted(part) for split, part in rows.items()}


def test_a_dataset_worked_out_by_hand(splits, small_files, write_rows):
    write_rows(**small_files)
    first, second, third = ("q1", ("x", "a")), ("q2", ()), ("q1", ("b",))
    assert splits() == {
        "train": [("ann", "b", ("a",), (first,)), ("ann", "c", ("a", "b"), (first,))],
        "valid": [("ann", "d", ("a", "b", "c"), (first, second, third)), ("bob", "a", ("b",), ())],
        "test": [
            ("ann", "e", ("a", "b", "c", "d"), (first, second, third, ("q3", ("y",)))),
            ("bob", "d", ("b", "a"), ()),
        ],
    }


def test_the_most_recent_events_are_kept(splits, small_files, write_rows):
    write_rows(**small_files)
    rows = splits(MAX_ITEM_LIST_LENGTH=2, MAX_SEARCH_LIST_LENGTH=3, MAX_CLICK_LIST_LENGTH=1)
    assert rows["test"][0] == ("ann", "e", ("c", "d"), (("q2", ()), ("q1", ("b",)), ("q3", ("y",))))
    assert rows["train"][0] == ("ann", "b", ("a",), (("q1", ("a",)),))


@pytest.mark.parametrize("lengths", [(20, 20, 5), (3, 2, 1)])
@pytest.mark.usefixtures("random_dataset")
def test_every_row_equals_plain_loops(splits, random_rows, lengths):
    names = ("MAX_ITEM_LIST_LENGTH", "MAX_SEARCH_LIST_LENGTH", "MAX_CLICK_LIST_LENGTH")
    expected = expected_splits(random_rows, *lengths)
    assert splits(**dict(zip(names, lengths, strict=True))) == expected
    assert sum(map(len, expected.values())) == len(random_rows["inter"]) - 40


def later(files, start):
    return {
        **files,
        "inter": [(user, item, time + start) for user, item, time in files["inter"]],
        "search": [(user, query, time + start, clicks) for user, query, time, clicks in files["search"]],
    }


@pytest.mark.parametrize("start", [1_600_000_000, -60])
def test_times_are_compared_exactly(splits, random_rows, write_rows, start):
    # As 32-bit floats, which RecBole makes of them, the 60 different times of the dataset would be one or two.
    write_rows(**later(random_rows, start))
    assert splits() == expected_splits(random_rows)


@pytest.mark.usefixtures("random_dataset")
def test_normalised_times_change_nothing(splits, random_rows):
    assert splits(normalize_all=True) == expected_splits(random_rows)


def test_unordered_files_can_be_sorted(splits, random_rows, write_rows):
    rng = np.random.default_rng(1)
    shuffled = {name: [rows[index] for index in rng.permutation(len(rows))] for name, rows in random_rows.items()}
    write_rows("shuffled", **shuffled)
    ordered = {name: sorted(rows, key=lambda row: row[2]) for name, rows in shuffled.items() if len(rows[0]) > 2}
    write_rows("ordered", **{**shuffled, **{name: ordered[name] for name in ("inter", "search")}})
    expected = splits(dataset="ordered")
    assert splits(dataset="shuffled", unordered_timestamps="sort") == expected == expected_splits(shuffled)


@pytest.mark.parametrize("keep", ["first", "last"])
def test_without_duplicates_equal_times_keep_their_order(splits, write_rows, keep):
    # Long enough for a sort that is not stable to show.
    inter = [(f"u{user}", f"i{index}", index // 40) for user in range(3) for index in range(100)]
    inter += [(f"u{user}", f"i{index}", 3) for user in range(3) for index in range(2)]
    code = [(f"u{user}", "s1", "r1") for user in range(3)]
    write_rows(inter=inter, search=[("u0", "q", 1, "")], query=[("q", "a")], code=code)
    kept = inter[:300] if keep == "first" else [row for row in inter if row[1] not in ("i0", "i1") or row[2] == 3]
    expected = expected_splits({"inter": kept, "search": [("u0", "q", 1, "")]})
    assert splits(rm_dup_inter=keep) == expected


def test_short_users_can_be_kept_for_training(splits, small_files, write_rows):
    small_files["inter"] += [("dan", "a", 1), ("dan", "b", 2), ("eve", "c", 1)]
    small_files["search"] += [("dan", "q2", 1, "")]
    small_files["code"] += [("dan", "s1 s2", "r1 r2"), ("eve", "s1 s2", "r1 r2")]
    write_rows(**small_files)
    rows = splits(short_users="keep")
    assert rows == expected_splits(small_files)
    assert [row for row in rows["train"] if row[0] in ("dan", "eve")] == [("dan", "b", ("a",), (("q2", ()),))]


def test_short_users_can_be_dropped(prepare, splits, small_files, write_rows):
    # dan has searched and stays known; eve has not and is gone.
    small_files["inter"] += [("dan", "a", 1), ("dan", "b", 2), ("eve", "c", 1)]
    small_files["search"] += [("dan", "q2", 1, "c")]
    small_files["code"] += [("dan", "s1 s2", "r1 r2")]
    write_rows(**small_files)
    dropped = {**small_files, "inter": [row for row in small_files["inter"] if row[0] not in ("dan", "eve")]}
    assert splits(user_inter_num_interval="[3,inf)") == expected_splits(dropped)
    _, dataset, _ = prepare(user_inter_num_interval="[3,inf)")
    assert dataset.field2id_token["user_id"].tolist() == ["[PAD]", "ann", "bob", "cat", "dan"]


@pytest.mark.usefixtures("random_dataset")
def test_without_codes_and_without_queries(prepare, splits, random_rows):
    _, dataset, loaders = prepare(**SEARCHES_ONLY)
    assert not hasattr(dataset, "codes") and hasattr(dataset, "query_words")
    assert splits(**SEARCHES_ONLY) == expected_splits(random_rows)
    _, dataset, loaders = prepare(additional_feat_suffix=[])
    batch = loaders[2]._dataset[np.arange(5)]
    assert not hasattr(dataset, "query_words")
    assert batch["search_length"].tolist() == [0] * 5 and batch["search_query_id_list"].tolist() == [[0]] * 5


@pytest.mark.usefixtures("random_dataset")
def test_batches_are_as_wide_as_their_longest_history(prepare):
    _, _, (train, _, test) = prepare()
    batch = train._dataset[np.flatnonzero(train._dataset[np.arange(len(train._dataset))]["item_length"] <= 3)]
    assert batch["item_id_list"].shape == (len(batch), 3)
    for loader in (train, test):
        batch = loader._dataset[np.arange(len(loader._dataset))]
        sizes = batch["item_length"].max(), batch["search_length"].max()
        assert (batch["item_id_list"].shape[1], batch["search_query_id_list"].shape[1]) == sizes
        assert batch["search_item_ids_list"].shape[:2] == batch["search_query_id_list"].shape
        assert ((batch["item_id_list"] > 0).sum(1) == batch["item_length"]).all()
        assert not (batch["item_id_list"] == batch["item_id"].unsqueeze(1)).any()


@pytest.mark.usefixtures("random_dataset")
def test_nothing_is_stored_per_row_but_the_target(prepare):
    _, dataset, loaders = prepare()
    _, _, longer = prepare(MAX_ITEM_LIST_LENGTH=200, MAX_SEARCH_LIST_LENGTH=200)
    for loader, other in zip(loaders, longer, strict=True):
        split = loader._dataset
        assert split.events is dataset.events
        columns = split.inter_feat.interaction
        assert set(columns) == {"user_id", "item_id", "timestamp", TARGET}
        assert all(column.dim() == 1 for column in columns.values())
        assert {name: column.nbytes for name, column in columns.items()} == {
            name: column.nbytes for name, column in other._dataset.inter_feat.interaction.items()
        }
    leftovers = [name for name in vars(dataset) if name.endswith("_feat") and getattr(dataset, name) is not None]
    assert leftovers == ["inter_feat"]


@pytest.mark.usefixtures("random_dataset")
def test_the_matrix_has_all_training_interactions(prepare, random_rows):
    _, dataset, (train, _, _) = prepare()
    matrix = train._dataset.inter_matrix().tocoo()
    users, items = dataset.field2id_token["user_id"], dataset.field2id_token["item_id"]
    expected = set()
    for user in {row[0] for row in random_rows["inter"]}:
        own = sorted((row for row in random_rows["inter"] if row[0] == user), key=lambda row: row[2])
        expected |= {row[:2] for row in own[:-2]}
    pairs = list(zip(users[matrix.row].tolist(), items[matrix.col].tolist(), strict=True))
    assert set(pairs) == expected and len(pairs) == len(expected)
    assert (matrix.data == 1).all() and matrix.shape == (dataset.user_num, dataset.item_num)
    with pytest.raises(ValueError, match="no matrix of 'timestamp' with searches: leave value_field out"):
        train._dataset.inter_matrix(value_field="timestamp")


@pytest.mark.usefixtures("random_dataset")
def test_other_splits_see_the_same(splits, random_rows):
    rows = splits(eval_args={"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"})
    expected = expected_splits(random_rows)
    assert sorted(sum(rows.values(), [])) == sorted(sum(expected.values(), []))
    assert len(rows["valid"]) > 40 and len(rows["test"]) > 40
    lengths = {name: {} for name in rows}
    for name, part in rows.items():
        for user, item, _, _ in part:
            time = next(row[2] for row in random_rows["inter"] if row[:2] == (user, item))
            lengths[name].setdefault(user, []).append(time)
    assert all(max(lengths["train"][user]) <= min(times) for user, times in lengths["valid"].items())
    assert all(max(lengths["valid"].get(user, [0])) <= min(times) for user, times in lengths["test"].items())


@pytest.mark.usefixtures("random_dataset")
def test_a_saved_dataset_is_used_again_unless_a_setting_of_it_has_changed(splits, random_rows, caplog):
    first = splits(save_dataset=True)
    with caplog.at_level(logging.INFO):
        assert splits(save_dataset=True) == first
        assert "Load filtered dataset from" in caplog.text
        caplog.clear()
        assert splits(MAX_SEARCH_LIST_LENGTH=1) == expected_splits(random_rows, n_searches=1)
        assert splits(MAX_CLICK_LIST_LENGTH=1) == expected_splits(random_rows, n_clicks=1)
        assert "Load filtered dataset from" not in caplog.text


@pytest.mark.usefixtures("random_dataset")
def test_events_as_read_are_the_rows_of_the_files(make_config, random_rows):
    dataset = SearchDataset(make_config(normalize_all=True))
    (users, items, times), (searchers, queries, search_times), (clicks, offsets) = dataset.events_as_read()
    of_user, of_item, of_query = (dataset.field2id_token[field] for field in ("user_id", "item_id", "query_id"))
    interactions = zip(of_user[users], of_item[items], times, strict=True)
    assert [(user, item, int(time)) for user, item, time in interactions] == random_rows["inter"]
    clicked = [" ".join(of_item[clicks[start:end]]) for start, end in zip(offsets, offsets[1:], strict=False)]
    searches = zip(of_user[searchers], of_query[queries], map(int, search_times), clicked, strict=True)
    assert list(searches) == random_rows["search"]


@pytest.mark.usefixtures("random_dataset")
def test_the_number_of_searches_is_reported(make_config, random_rows):
    dataset = SearchDataset(make_config())
    before = str(dataset)
    dataset.build()
    for text in (before, str(dataset)):
        assert "The number of searches" in text and text.rstrip().endswith(f": {len(random_rows['search'])}")

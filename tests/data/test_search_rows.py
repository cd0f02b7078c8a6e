import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_gserec.data.events import PADDED
from recbole_gserec.data.search_rows import JointInteraction, SearchRows
from recbole_gserec.evaluation.dataloaders import JointTrainDataLoader


def rows_by_hand(random_rows):
    """Every click of a training search, with what came strictly before the search, from the files' rows alone."""
    inter, search = random_rows["inter"], random_rows["search"]
    expected = []
    for user, query, time, clicks in search:
        own = sorted((row for row in inter if row[0] == user), key=lambda row: row[2])
        if own and time >= own[-2][2]:
            continue
        items = [row[1] for row in own if row[2] < time]
        earlier = sorted((row for row in search if row[0] == user and row[2] < time), key=lambda row: row[2])
        for item in clicks.split():
            expected.append((user, query, item, tuple(items), tuple(row[1] for row in earlier)))
    return sorted(expected)


def test_rows_are_the_training_clicks_with_what_came_before(prepare, random_dataset, random_rows):
    _, _, (train, *_) = prepare(MAX_ITEM_LIST_LENGTH=30, MAX_SEARCH_LIST_LENGTH=30)
    dataset = train._dataset
    rows = SearchRows.of_training(dataset.events)
    batch = rows.batch(dataset)
    users, items, queries = (dataset.field2id_token[field] for field in ("user_id", "item_id", "query_id"))
    found = []
    for row in range(len(rows)):
        history = batch["item_id_list"][row, : batch["item_length"][row]]
        searches = batch["search_query_id_list"][row, : batch["search_length"][row]]
        found.append(
            (
                users[batch["user_id"][row]],
                queries[batch["query_id"][row]],
                items[batch["item_id"][row]],
                tuple(items[history.numpy()]),
                tuple(queries[searches.numpy()]),
            )
        )
    assert sorted(found) == rows_by_hand(random_rows)
    assert len(found) > 50


def test_event_places_interleave_as_sorting_by_time_does(prepare, random_dataset, random_rows):
    _, _, (_, _, test) = prepare(MAX_ITEM_LIST_LENGTH=6, MAX_SEARCH_LIST_LENGTH=5)
    dataset = test._dataset
    batch = dataset[np.arange(len(dataset))]
    users, items, queries = (dataset.field2id_token[field] for field in ("user_id", "item_id", "query_id"))
    for row in range(len(dataset)):
        user = users[batch["user_id"][row]]
        events = [(time, 0, item) for name, item, time in random_rows["inter"] if name == user]
        target_time = sorted(events, key=lambda event: event[0])[-1][0]
        events += [(t, 1, query) for name, query, t, _ in random_rows["search"] if name == user and t < target_time]
        # Python's sort is stable: equal kinds at equal times keep the order of the file.
        merged = [event[1:] for event in sorted(events, key=lambda event: event[:2])]
        places_of = {side: [place for place, event in enumerate(merged) if event[0] == side] for side in (0, 1)}
        # The last interaction is the target.
        kept = sorted(places_of[0][:-1][-6:] + places_of[1][-5:])
        found = []
        for side, names, field in ((0, items, "item"), (1, queries, "search")):
            length = int(batch[f"{field}_length"][row])
            ids = batch["item_id_list" if side == 0 else "search_query_id_list"][row, :length]
            places = batch[f"{field}_place_list"][row]
            found += [(int(place), (side, str(name))) for place, name in zip(places, names[ids.numpy()], strict=False)]
            assert (places[length:] == PADDED).all()
        assert [event for _, event in sorted(found)] == [merged[place] for place in kept]
        assert len({place for place, _ in found}) == len(found)


@pytest.fixture
def joint_loader(prepare, random_dataset):
    config, built, loaders = prepare(train_batch_size=64)
    return JointTrainDataLoader(config, loaders[0]._dataset, None, shuffle=True), loaders[0]


def test_an_epoch_has_every_search_row_once_and_evenly(joint_loader):
    loader, _ = joint_loader
    rows = SearchRows.of_training(loader._dataset.events)
    for _ in range(2):
        batches = list(loader)
        sizes = [len(batch.search) for batch in batches]
        assert sum(sizes) == len(rows)
        assert max(sizes) - min(sizes[:-1]) == 0 and sizes[-1] <= sizes[0]
        seen = torch.cat([torch.stack([batch.search["user_id"], batch.search["item_id"]]) for batch in batches], dim=1)
        expected = torch.stack([rows.users, rows.items])
        assert sorted(seen.T.tolist()) == sorted(expected.T.tolist())


def test_recommendation_rows_and_negatives_are_as_without_search_rows(joint_loader):
    loader, plain = joint_loader
    for batch in loader:
        negatives = batch.search["neg_item_id"]
        assert negatives.shape == (len(batch.search), 4)
        assert (negatives > 0).all() and (negatives != batch.search["item_id"].unsqueeze(1)).all()
    assert sum(map(len, loader)) == sum(map(len, plain)) == len(loader._dataset)


def test_a_batch_moves_with_its_search_rows():
    batch = JointInteraction({"a": torch.arange(3)}, Interaction({"b": torch.arange(2)}))
    moved = batch.to("meta")
    assert isinstance(moved, JointInteraction) and len(moved) == 3 and len(moved.search) == 2
    assert moved["a"].device.type == moved.search["b"].device.type == "meta"

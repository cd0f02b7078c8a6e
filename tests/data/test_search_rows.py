import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_gserec.data.events import PADDED
from recbole_gserec.data.search_rows import JointInteraction, SearchRows
from recbole_gserec.data.train_dataloaders import JointTrainDataLoader, SearchTrainDataLoader


def interactions_of(user, random_rows):
    return sorted((row for row in random_rows["inter"] if row[0] == user), key=lambda row: row[2])


def trained_on(random_rows):
    """The rows of searches before their users' validation targets."""
    own = {row[0]: interactions_of(row[0], random_rows) for row in random_rows["search"]}
    return [row for row in random_rows["search"] if not own[row[0]] or row[2] < own[row[0]][-2][2]]


def rows_by_hand(random_rows):
    """Every click of a training search, with what came strictly before the search, from the files' rows alone."""
    search, expected = random_rows["search"], []
    for user, query, time, clicks in trained_on(random_rows):
        own = interactions_of(user, random_rows)
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
def make_loaders(prepare, random_dataset):
    """The loader with search rows, and the one without."""

    def make(**settings):
        config, _, loaders = prepare(**{"train_batch_size": 64, **settings})
        return JointTrainDataLoader(config, loaders[0]._dataset, None, shuffle=True), loaders[0]

    return make


FIELDS = ("user_id", "query_id", "item_id", "item_length", "search_length")


def rows_of(batches):
    return [row for batch in batches for row in zip(*(batch.search[field].tolist() for field in FIELDS), strict=True)]


@pytest.mark.parametrize("worker", [0, 2])
@pytest.mark.parametrize("batch_size", [7, 33, 64, 10_000])
def test_an_epoch_has_every_search_row_once_and_evenly(make_loaders, batch_size, worker):
    loader, _ = make_loaders(train_batch_size=batch_size, worker=worker)
    rows = SearchRows.of_training(loader._dataset.events)
    expected = sorted(rows_of([JointInteraction({}, rows.batch(loader._dataset))]))
    # An epoch that was not finished.
    next(iter(loader))
    epochs = [list(loader) for _ in range(2)]
    for batches in epochs:
        assert sorted(rows_of(batches)) == expected
        sizes = [len(batch.search) for batch in batches]
        assert len(sizes) == -(-len(loader._dataset) // batch_size) and max(sizes) - min(sizes) <= 1
    first, second = map(rows_of, epochs)
    assert first != second, "drawn in a new order"
    again, _ = make_loaders(train_batch_size=batch_size, worker=worker)
    next(iter(again))
    assert rows_of(again) == first


def test_a_search_with_very_many_clicks_has_a_row_for_each_of_the_last(make_loaders, random_rows, write_rows):
    user, query, time, _ = random_rows["search"][0]
    clicks = [f"i{place % 7}" for place in range(50_000)]
    rest = [row for row in random_rows["search"] if row[0] != user]
    write_rows(**{**random_rows, "search": [*rest, (user, query, -1.0, " ".join(clicks))]})
    loader, _ = make_loaders(MAX_CLICK_LIST_LENGTH=3)
    dataset = loader._dataset
    users, items = (dataset.field2id_token[field] for field in ("user_id", "item_id"))
    rows = [
        (users[row[0]], items[row[1]])
        for batch in loader
        for row in zip(batch.search["user_id"].tolist(), batch.search["item_id"].tolist(), strict=True)
    ]
    assert sorted(item for name, item in rows if name == user) == sorted(clicks[-3:])
    assert len(rows) == 3 + sum(min(len(row[3].split()), 3) for row in trained_on(random_rows) if row[0] != user)


def test_there_may_be_more_batches_than_search_rows(make_loaders, random_rows, write_rows):
    write_rows(**{**random_rows, "search": [*random_rows["search"][:5], random_rows["search"][-1]]})
    loader, _ = make_loaders(train_batch_size=1)
    n_rows = len(SearchRows.of_training(loader._dataset.events))
    sizes = [len(batch.search) for batch in loader]
    assert 0 < sum(sizes) == n_rows < len(sizes) and max(sizes) == 1
    assert all(batch.search["neg_item_id"].shape == (len(batch.search), 4) for batch in loader)


def test_processes_share_an_epoch(make_loaders, monkeypatch):
    sampler_class, found = torch.utils.data.distributed.DistributedSampler, []
    for process in range(2):

        class Half(sampler_class):
            rank_of_test = process

            def __init__(self, rows, **arguments):
                super().__init__(rows, num_replicas=2, rank=self.rank_of_test, **arguments)

        loader, plain = make_loaders()
        loader.config["single_spec"], loader.config["world_size"] = False, 2
        monkeypatch.setattr(torch.utils.data.distributed, "DistributedSampler", Half)
        loader = JointTrainDataLoader(loader.config, plain._dataset, None, shuffle=True)
        monkeypatch.undo()
        found += rows_of(loader)
    rows = SearchRows.of_training(loader._dataset.events)
    assert sorted(found) == sorted(rows_of([JointInteraction({}, rows.batch(loader._dataset))]))


@pytest.mark.parametrize("settings", [{}, {"worker": 2}, {"resample_negatives": False}])
def test_recommendation_rows_and_negatives_are_as_without_search_rows(make_loaders, settings):
    loader, plain = make_loaders(**settings)
    for _ in range(2):
        for batch, alone in zip(loader, plain, strict=True):
            assert batch.interaction.keys() == alone.interaction.keys()
            assert all(torch.equal(batch[field], alone[field]) for field in alone.interaction)


def test_negatives_of_search_rows_are_unknown_in_the_training_part(make_loaders, random_rows):
    loader, _ = make_loaders()
    users, items = (loader._dataset.field2id_token[field] for field in ("user_id", "item_id"))
    known = {}
    for user in users:
        own = sorted((row for row in random_rows["inter"] if row[0] == user), key=lambda row: row[2])
        end = own[-2][2] if own else np.inf
        clicks = [row[3].split() for row in random_rows["search"] if row[0] == user and row[2] < end]
        known[user] = {row[1] for row in own[:-2]}.union(*clicks)
    drawn = []
    for batch in loader:
        negatives = batch.search["neg_item_id"]
        assert negatives.shape == (len(batch.search), 4) and (negatives > 0).all()
        for user, row in zip(users[batch.search["user_id"]], items[negatives.numpy()], strict=True):
            assert not known[user] & set(row)
        drawn.append(negatives)
    assert len(torch.cat(drawn).unique()) > 100


@pytest.mark.parametrize("resample", [True, False])
def test_negatives_of_search_rows_are_drawn_anew_or_kept(make_loaders, resample):
    loader, _ = make_loaders(resample_negatives=resample)
    epochs = []
    for _ in range(2):
        kept = {}
        for batch in loader:
            for row, negatives in zip(rows_of([batch]), batch.search["neg_item_id"].tolist(), strict=True):
                kept.setdefault(row, []).append(negatives)
        epochs.append({row: sorted(negatives) for row, negatives in kept.items()})
    assert (epochs[0] == epochs[1]) == (not resample)


def test_without_a_weight_of_the_search_task_there_are_no_search_rows(prepare, random_dataset):
    for weight, expected in ((0, SearchTrainDataLoader), (0.1, JointTrainDataLoader)):
        assert type(prepare("JSR", lambda_src=weight)[2][0]) is expected


def test_a_batch_moves_with_its_search_rows():
    batch = JointInteraction({"a": torch.arange(3)}, Interaction({"b": torch.arange(2)}))
    moved = batch.to("meta")
    assert isinstance(moved, JointInteraction) and len(moved) == 3 and len(moved.search) == 2
    assert moved["a"].device.type == moved.search["b"].device.type == "meta"

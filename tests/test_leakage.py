"""Nothing at or after the moment of a target reaches its scores, the codes, or training."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from recbole_gserec.data.dataset import TARGET
from recbole_gserec.preprocess.run import preprocess_dataset

N_USERS, N_ITEMS, N_QUERIES = 12, 60, 6
TINY = {"embedding_size": 8, "inner_size": 8, "mlp_hidden_size": [9]}


class Rows(NamedTuple):
    """Interactions and searches of one user in the order of time, in original ids."""

    inter: list
    search: list


def histories(seed=0):
    """Each user's events; every interaction has a search at its very moment and one between it and the next."""
    rng = np.random.default_rng(seed)
    users = {}
    for user in range(N_USERS):
        times = np.sort(rng.integers(1, 8, size=rng.integers(5, 9))) * 10
        items = rng.choice(N_ITEMS, size=len(times), replace=False)
        inter = [(f"u{user}", f"i{item}", int(time)) for item, time in zip(items, times, strict=True)]
        moments = np.unique([*times, *(times + 1)])
        users[f"u{user}"] = Rows(inter, [search_at(rng, f"u{user}", time) for time in moments.tolist()])
    return users


def search_at(rng, user, time):
    clicks = rng.choice(N_ITEMS, size=rng.integers(0, 3), replace=False)
    return (user, f"q{rng.integers(N_QUERIES)}", time, " ".join(f"i{item}" for item in clicks))


def as_files(users):
    """A first user touches all items in a fixed order, so that ids do not depend on what the others do."""
    first = [("first", f"i{item}", item) for item in range(N_ITEMS)]
    rng = np.random.default_rng(9)
    sides = ("s", "r")
    codes = [
        (user, *(" ".join(f"{side}{level}_{rng.integers(4)}" for level in (1, 2)) for side in sides))
        for user in ("first", *users)
    ]
    return {
        "inter": [*first, *(row for rows in users.values() for row in rows.inter)],
        "search": [row for rows in users.values() for row in rows.search],
        "query": [(f"q{query}", f"w{query} w{query + 1}") for query in range(N_QUERIES)],
        "code": codes,
    }


def change_future(users, positions, seed=1):
    """Other items, queries, clicks and later moments for all events at or after the user's event at this place.

    The target's own moment is what the row asks about and stays.
    """
    rng = np.random.default_rng(seed)
    changed = {}
    for user, rows in users.items():
        target, now = positions[user], rows.inter[positions[user]][2]
        inter = rows.inter[:target]
        for position, (_, item, time) in enumerate(rows.inter[target:]):
            other = (int(item[1:]) + 1 + rng.integers(N_ITEMS - 1)) % N_ITEMS
            inter.append((user, f"i{other}", time if position == 0 else time + 5))
        earlier = [row for row in rows.search if row[2] < now]
        later = [now, now, *(now + rng.integers(0, 40, size=4))]
        changed[user] = Rows(inter, earlier + [search_at(rng, user, int(time)) for time in sorted(later)])
    return changed


@pytest.fixture
def scores(make_model, write_rows):
    """Scores of all items for each user's row with this target, by a model with fixed weights."""
    weights, ids = {}, {}

    def score(name, users, positions):
        write_rows(name, **as_files(users))
        model, _, dataset, loaders = make_model(dataset=name, **TINY)
        if not weights:
            generator = torch.Generator().manual_seed(0)
            for parameter in model.parameters():
                nn.init.normal_(parameter, std=0.4, generator=generator)
            weights.update(model.state_dict())
            ids.update({field: tokens.tolist() for field, tokens in dataset.field2id_token.items()})
        assert ids == {field: tokens.tolist() for field, tokens in dataset.field2id_token.items()}
        model.load_state_dict(weights)
        model.eval()
        starts = dataset.events.item_offsets[dataset.token2id("user_id", list(users))]
        wanted = starts + torch.tensor(list(positions.values()))
        found = {}
        for loader in loaders:
            split = loader._dataset
            rows = torch.isin(split.inter_feat[TARGET], wanted)
            if not rows.any():
                continue
            batch = split[np.flatnonzero(rows)]
            with torch.no_grad():
                result = model.full_sort_predict(batch)
            for user, row in zip(batch["user_id"].tolist(), result, strict=True):
                found[str(dataset.field2id_token["user_id"][user])] = row
        assert set(found) == set(users)
        return found

    return score


def positions_of(users, kind):
    rng = np.random.default_rng(3)
    return {
        user: {"test": len(rows.inter) - 1, "valid": len(rows.inter) - 2}.get(kind)
        or int(rng.integers(1, len(rows.inter)))
        for user, rows in users.items()
    }


@pytest.mark.parametrize("kind", ["test", "valid", "any"])
def test_scores_know_nothing_of_the_target_and_what_follows(scores, kind):
    users = histories()
    positions = positions_of(users, kind)
    changed = change_future(users, positions)
    expected = scores("before", users, positions)
    found = scores("after", changed, positions)
    for user in users:
        assert changed[user].inter[positions[user]] != users[user].inter[positions[user]]
        assert torch.equal(found[user], expected[user])
    # The same rows of two users are not alike, so that equal scores mean something.
    assert not torch.equal(expected["u0"], expected["u1"])


def test_validation_knows_nothing_of_the_test_target(scores):
    users = histories()
    changed = change_future(users, positions_of(users, "test"))
    expected = scores("before", users, positions_of(users, "valid"))
    found = scores("after", changed, positions_of(users, "valid"))
    assert all(torch.equal(found[user], expected[user]) for user in users)


def edit_item(rows, target):
    rows.inter[target - 1] = (rows.inter[target - 1][0], "i59", rows.inter[target - 1][2])


def last_visible(rows, target):
    return max(position for position, row in enumerate(rows.search) if row[2] < rows.inter[target][2])


def edit_query(rows, target):
    position = last_visible(rows, target)
    user, query, time, clicks = rows.search[position]
    rows.search[position] = (user, f"q{(int(query[1:]) + 1) % N_QUERIES}", time, clicks)


def edit_clicks(rows, target):
    position = last_visible(rows, target)
    user, query, time, clicks = rows.search[position]
    rows.search[position] = (user, query, time, f"{clicks} i59".strip())


def hide_search(rows, target):
    position = last_visible(rows, target)
    user, query, _, clicks = rows.search[position]
    rows.search[position] = (user, query, rows.inter[target][2], clicks)


def show_search(rows, target):
    position = last_visible(rows, target) + 1
    user, query, time, clicks = rows.search[position]
    assert time == rows.inter[target][2]
    rows.search[position] = (user, query, time - 1, clicks)


@pytest.mark.parametrize("edit", [edit_item, edit_query, edit_clicks, hide_search, show_search])
def test_scores_know_what_came_before(scores, edit):
    users = histories()
    positions = positions_of(users, "test")
    expected = scores("before", users, positions)
    for user in ("u2", "u5", "u9"):
        edit(users[user], positions[user])
    found = scores("after", users, positions)
    for user in users:
        if user in ("u2", "u5", "u9"):
            assert (found[user] - expected[user]).abs().max() > 1e-4
        else:
            torch.testing.assert_close(found[user], expected[user], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_training_knows_nothing_of_held_out_events(prepare, write_rows, distribution):
    arguments = {"distribution": distribution, "sample_num": 4, "alpha": 1.0, "dynamic": False, "candidate_num": 0}
    users = histories()
    before, after = {}, {}
    for name, rows, batches in (
        ("before", users, before),
        ("after", change_future(users, positions_of(users, "valid")), after),
    ):
        write_rows(name, **as_files(rows))
        _, _, (train, _, _) = prepare(dataset=name, train_batch_size=32, train_neg_sample_args=arguments)
        for number, batch in enumerate(train):
            batches.update({(number, field): column for field, column in batch.interaction.items()})
    assert before.keys() == after.keys() and len({number for number, _ in before}) > 2
    assert {field for _, field in before} >= {"item_id_list", "search_item_ids_list", "neg_item_id"}
    for key, column in before.items():
        assert torch.equal(column, after[key]), key


def test_codes_know_nothing_of_held_out_events(write_rows):
    settings = {
        "n_codebooks": 2,
        "codebook_size": 4,
        "code_dim": 4,
        "rq_hidden_sizes": [8],
        "rq_epochs": 3,
        "rq_warmup_epochs": 0,
        "encoder_dim": 8,
        "show_progress": False,
    }
    users = histories()
    variants = {
        "before": users,
        "future": change_future(users, positions_of(users, "valid")),
        "test": change_future(users, positions_of(users, "test")),
        "past": change_future(users, {user: 1 for user in users}),
    }
    codes, reports = {}, {}
    for name, rows in variants.items():
        folder = write_rows(name, **{**as_files(rows), "code": []})
        (folder / f"{name}.code").unlink()
        codes[name] = preprocess_dataset(name, {**settings, "data_path": str(folder.parent)}).read_bytes()
        reports[name] = (folder / f"{name}.code.md").read_text().replace(f"{name}.code", "").splitlines()[1:]
    assert codes["future"] == codes["test"] == codes["before"]
    assert codes["past"] != codes["before"]
    # Of what is held out, the report shows how often validation items are found, and nothing else.
    assert reports["test"] == reports["before"]
    pairs = list(zip(reports["before"], reports["future"], strict=True))
    start = reports["before"].index("## Single codes, and codes with their prefix")
    changed = {number for number, (before, future) in enumerate(pairs) if before != future}
    assert changed and all(start < number < start + 14 for number in changed)
    for number in changed:
        before, future = (line.split("|") for line in pairs[number])
        assert [one == other for one, other in zip(before, future, strict=True)][:8] == [True] * 8

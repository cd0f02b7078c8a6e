import math
from collections import Counter, defaultdict

import pytest

from recbole_gserec.data.training_histories import TrainingHistories

ALL = 1000
LEAVE_TWO_OUT = defaultdict(lambda: 2)


@pytest.fixture
def histories(prepare):
    def make(**settings):
        return TrainingHistories(prepare(**settings)[1])

    return make


def everything(histories, n=ALL):
    """Items and (query text, clicked items) of each user."""
    return {
        user: (
            histories.recommendation_history(index, n),
            [(record.query, record.items) for record in histories.search_history(index, n)],
        )
        for index, user in enumerate(histories.user_tokens)
    }


def test_worked_out_by_hand(histories, small_files, write_rows):
    write_rows(**small_files)
    made = histories()
    assert len(made) == 3 and made.user_tokens == ["ann", "bob", "cat"]
    assert everything(made) == {
        # Before d at 5; the search at 5 is hidden.
        "ann": (["a", "b", "c"], [("red shoe", ["x", "a"]), ("shoe", []), ("red shoe", ["b"])]),
        "bob": (["b"], []),
        # Never evaluated: all of it is for training.
        "cat": ([], [("red shoe", ["z"])]),
    }
    assert everything(made, 2) == {
        "ann": (["b", "c"], [("shoe", []), ("red shoe", ["b"])]),
        "bob": (["b"], []),
        "cat": ([], [("red shoe", ["z"])]),
    }


def test_users_too_short_to_evaluate_are_training_alone(histories, small_files, write_rows):
    small_files["inter"] += [("dan", "a", 1), ("dan", "b", 2)]
    small_files["search"] += [("dan", "q3", 99, "c")]
    small_files["code"] += [("dan", "s1 s2", "r1 r2")]
    write_rows(**small_files)
    assert everything(histories(short_users="keep"))["dan"] == (["a", "b"], [("", ["c"])])


def first_targets(files, n_held_out):
    """Each user's interactions in order, how many of them are training, and the time of the first target."""
    for user in {row[0] for row in files["inter"]}:
        own = sorted((row for row in files["inter"] if row[0] == user), key=lambda row: row[2])
        n_training = len(own) - n_held_out[user]
        yield user, own, n_training, own[n_training][2] if n_training < len(own) else math.inf


def check_against_loops(made, files, n_held_out):
    words = dict(files["query"])
    found = everything(made)
    for user, own, n_training, time in first_targets(files, n_held_out):
        searches = sorted((row for row in files["search"] if row[0] == user and row[2] < time), key=lambda row: row[2])
        expected = [(words[query], clicks.split()) for _, query, _, clicks in searches]
        assert found[user] == ([row[1] for row in own[:n_training]], expected)


@pytest.mark.usefixtures("random_dataset")
def test_every_user_equals_plain_loops(histories, random_rows):
    made = histories()
    check_against_loops(made, random_rows, LEAVE_TWO_OUT)
    assert everything(made)["searcher"] == ([], [(dict(random_rows["query"])["q0"], ["i1"])])
    assert len(made) == 41


@pytest.mark.usefixtures("random_dataset")
def test_other_splits(prepare, splits, random_rows):
    settings = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "full"}}
    rows = splits(**settings)
    # At one moment for all users: some are not evaluated, others not trained.
    n_held_out = Counter(row[0] for name in ("valid", "test") for row in rows[name])
    assert len(n_held_out) < 40 and max(n_held_out.values()) > 4
    check_against_loops(TrainingHistories(prepare(**settings)[1]), random_rows, n_held_out)


def test_nothing_planted_in_the_future_is_found(histories, random_rows, write_rows):
    starts = {user: time for user, _, _, time in first_targets(random_rows, LEAVE_TWO_OUT)}
    held_out = {row for _, own, n, _ in first_targets(random_rows, LEAVE_TWO_OUT) for row in own[n:]}
    inter = [(u, f"future {i}", t) if (u, i, t) in held_out else (u, i, t) for u, i, t in random_rows["inter"]]
    search = [
        (u, "secret", t, "future") if t >= starts.get(u, t + 1) else (u, q, t, clicks)
        for u, q, t, clicks in random_rows["search"]
    ]
    assert sum(row[1] == "secret" for row in search) > 10 and len(held_out) == 80
    planted = {**random_rows, "inter": inter, "search": search, "query": [*random_rows["query"], ("secret", "future")]}
    write_rows("planted", **planted)
    write_rows(**random_rows)
    made = everything(histories(dataset="planted"))
    assert "future" not in str(made)
    assert made == everything(histories())

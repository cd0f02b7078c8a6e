"""Events after the training: as if they stood in the dataset, for known users and for unknown ones."""

import pytest
import torch

from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.recommend.new_events import read_new_events
from recbole_gserec.recommend.recommender import Recommender
from recbole_gserec.recommend.trained import load_trained
from tests.conftest import HEADERS, random_files, write_dataset
from tests.recommend.stored_models import Plain, assert_same, by_user, store_model

INTER = [("u1", "i3", 100), ("new", "i5", 3), ("u1", "i8", 101), ("new", "i6", 4), ("new", "i7", 4), ("u2", "i1", 30)]
SEARCH = [("u1", "q3", 100, "i3 i9"), ("new", "q2", 4, "i11"), ("u2", "q1", 31, ""), ("u0", "q0", 99, "i2")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("new_events") / "dataset", "toy", **random_files())


@pytest.fixture(scope="module")
def stored(data):
    made = {}

    def get(model, **settings):
        key = (model, *settings.items())
        if key not in made:
            made[key] = store_model(data, model, seed=len(made), **settings)
        return made[key]

    return get


@pytest.fixture
def write(tmp_path):
    def make(suffix, rows):
        path = tmp_path / f"new.{suffix}"
        path.write_text("\n".join([HEADERS[suffix], *("\t".join(map(str, row)) for row in rows)]) + "\n")
        return path

    return make


def extended(inter=(), search=()):
    files = random_files()
    return {"inter": files["inter"] + list(inter), "search": files["search"] + list(search)}


def recommend(trained, new, names=None, k=6, **options):
    recommender = Recommender(trained, new, **options)
    choice = recommender.choose(names)
    return by_user(recommender.recommend(choice.users, k)), choice


@pytest.mark.parametrize("model", ["GSERec", "UniSAR", "QuerySeqRec", "SESRec"])
def test_as_if_they_stood_in_the_files(stored, write, model):
    """An event may lie before known ones: it is sorted in."""
    trained = load_trained(stored(model))
    new = read_new_events(trained, write("inter", INTER), write("search", SEARCH))
    assert (new.users, new.skipped.lines()) == (["new"], [])
    found, choice = recommend(trained, new)
    assert choice.left_out == []
    plain = Plain(stored(model), extended(INTER, SEARCH))
    # The plain rows take an unknown user for the padding user too.
    for user in ("u0", "u1", "u2", "u3", "new"):
        assert_same(found[user], plain.best(user, 6))
    before = Plain(stored(model), extended())
    assert found["u1"] != before.best("u1", 6)
    assert list(found)[-1] == "new"


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "NARM"])
def test_of_recboles_sequential_models(stored, write, model):
    trained = load_trained(stored(model))
    new = read_new_events(trained, write("inter", INTER), write("search", SEARCH))
    found, choice = recommend(trained, new)
    assert choice.left_out == []
    plain = Plain(stored(model), extended(INTER, SEARCH))
    for user in ("u0", "u1", "u2", "new"):
        # Clicks of searches are seen items for them, too.
        assert_same(found[user], plain.best(user, 6))


def test_a_user_without_anything_but_searches(stored, write):
    trained = load_trained(stored("GSERec"))
    search = [("new", "q2", 4, "i11")]
    found, _ = recommend(trained, read_new_events(trained, None, write("search", search)), ["new"])
    assert_same(found["new"], Plain(stored("GSERec"), extended(search=search)).best("new", 6))


@pytest.mark.parametrize("model", ["LightGCN", "FPMC", "Caser", "FM"])
def test_models_that_know_users_by_their_ids_refuse_unknown_ones(stored, write, model):
    trained = load_trained(stored(model))
    new = read_new_events(trained, write("inter", INTER))
    found, choice = recommend(trained, new)
    assert "new" not in found
    assert choice.left_out == [
        f"1 users are unknown to {model}, which knows users only by their ids (first: 'new'): left out"
    ]
    with pytest.raises(SettingError, match=f"1 users are unknown to {model}.*use another model"):
        Recommender(trained, new).choose(["u1", "new"])


def test_known_users_of_such_a_model_have_seen_more(stored, write):
    trained = load_trained(stored("LightGCN"))
    (top, _), *_ = recommend(trained, None, ["u1"])[0]["u1"]
    new = read_new_events(trained, write("inter", [("u1", top, 100)]))
    after = recommend(trained, new, ["u1"], k=500)[0]["u1"]
    before = recommend(trained, None, ["u1"], k=500)[0]["u1"]
    assert after == before[1:]


def test_a_sequential_model_needs_an_interaction(stored, write):
    trained = load_trained(stored("SASRec"))
    new = read_new_events(trained, None, write("search", [("new", "q2", 4, "i11")]))
    found, choice = recommend(trained, new)
    assert "new" not in found
    assert choice.left_out == ["1 users have no interaction, and SASRec needs one (first: 'new'): left out"]


def test_what_is_unknown_is_counted_and_left_out(stored, write):
    trained = load_trained(stored("GSERec"))
    inter = [("u1", "i3", 100), ("u1", "nothing", 101), ("u1", "[PAD]", 102)]
    search = [("u1", "q3", 100, "i3 nothing i9"), ("u1", "what", 101, "i1 nothing"), ("u2", "what", 103, "")]
    new = read_new_events(trained, write("inter", inter), write("search", search))
    assert new.skipped.lines() == [
        "2 new interactions are with items that the model does not know: left out",
        "2 new searches have a query that the model does not know: left out",
        "1 clicks of new searches are on items that the model does not know: left out",
    ]
    found, _ = recommend(trained, new, ["u1", "u2"])
    known = extended([("u1", "i3", 100)], [("u1", "q3", 100, "i3 i9")])
    for user, entries in found.items():
        assert_same(entries, Plain(stored("GSERec"), known).best(user, 6))


@pytest.mark.parametrize("model", ["GSERec", "NRHUB", "QuerySeqRec"])
def test_a_new_query_is_the_mean_of_the_words_it_is_made_of(stored, write, model):
    words = dict(random_files()["query"])["q3"]
    trained = load_trained(stored(model))
    new = read_new_events(
        trained,
        None,
        write("search", [("u1", "other", 100, "i3"), ("u2", "q1", 101, ""), ("u3", "third", 100, "")]),
        write("query", [("q1", "w0 w0"), ("third", "never heard"), ("other", f"never {words}"), ("q2", "w1")]),
    )
    assert new.skipped.lines() == ["3 words of new queries are not known to the model: left out"]
    found, _ = recommend(trained, new, ["u1", "u2", "u3"])
    # A known query keeps its words, and the last query of the dataset has none.
    n_queries = len(random_files()["query"])
    same = [("u1", "q3", 100, "i3"), ("u2", "q1", 101, ""), ("u3", f"q{n_queries - 1}", 100, "")]
    plain = Plain(stored(model), extended(search=same))
    for user, entries in found.items():
        assert_same(entries, plain.best(user, 6))


def test_queries_of_one_call_are_none_of_the_next(stored, write):
    def events(trained, words):
        search = write("search", [("u1", "other", 100, "i3")])
        return Recommender(trained, read_new_events(trained, None, search, write("query", [("other", words)])))

    def best(recommender):
        return by_user(recommender.recommend(recommender.choose(["u1"]).users, 6))["u1"]

    trained = load_trained(stored("GSERec"))
    first, second = events(trained, "w0 w1"), events(trained, "w2")
    expected = [best(events(load_trained(stored("GSERec")), words)) for words in ("w0 w1", "w2")]
    assert expected[0] != expected[1]
    assert [best(first), best(second)] == expected == [best(first), best(second)]
    assert [best(second), best(first)] == expected[::-1]
    # Batch by batch in turn, too.
    turns = zip(
        *(each.recommend(each.choose(["u5", "u1"]).users, 6, batch_size=1) for each in (first, second)), strict=True
    )
    *_, last = turns
    assert [by_user([part])["u1"] for part in last] == expected


def test_texts_of_items_are_no_queries(data, write):
    checkpoint = store_model(
        data,
        "JSR",
        seed=50,
        jsr_variant="text20",
        item_text_field="title",
        load_col={
            "inter": ["user_id", "item_id", "timestamp"],
            "search": ["search_user_id", "search_query_id", "search_timestamp", "search_item_ids"],
            "query": ["query_id", "query_words"],
            "item": ["item_id", "title"],
        },
    )
    trained = load_trained(checkpoint)
    texts = trained.model.text.texts.word_offsets.clone()
    new = read_new_events(
        trained, None, write("search", [("u1", "other", 100, "i3")]), write("query", [("other", "w1")])
    )
    assert recommend(trained, new, ["u1"])[0]["u1"]
    assert torch.equal(trained.model.text.texts.word_offsets, texts)


def test_a_new_interaction_makes_an_item_a_candidate(stored, write):
    trained = load_trained(stored("GSERec"))
    items = {row[1] for row in random_files()["inter"]}
    clicked = next(item for row in random_files()["search"] for item in row[3].split() if item not in items)
    new = read_new_events(trained, write("inter", [("u1", clicked, 100)]))
    options = {"k": 500, "exclude_seen": False}
    assert clicked not in dict(recommend(trained, None, ["u2"], **options)[0]["u2"])
    assert clicked in dict(recommend(trained, new, ["u2"], **options)[0]["u2"])


@pytest.mark.parametrize("suffix", ["inter", "search"])
def test_a_clock_that_runs_backwards_is_refused(stored, write, suffix):
    rows = {"inter": [("u1", "i1", 5), ("u1", "i2", 4)], "search": [("u1", "q1", 5, ""), ("u1", "q2", 4, "")]}
    path = write(suffix, rows[suffix])
    trained = load_trained(stored("GSERec"))
    with pytest.raises(DataError, match=rf"new\.{suffix}, line 3: the time of user 'u1' runs backwards"):
        read_new_events(trained, **{suffix: path})


@pytest.mark.parametrize("model", ["GSERec", "SASRec"])
def test_files_of_another_form_are_refused(stored, tmp_path, model):
    trained = load_trained(stored(model))
    path = tmp_path / "new.inter"
    path.write_text("user_id:token\titem_id:token\nu1\ti1\n")
    with pytest.raises(DataError, match="new.inter, line 1: no column 'timestamp'"):
        read_new_events(trained, path)
    path.write_text("user_id:token\titem_id:token\ttimestamp:float\nu1\ti1\tnoon\n")
    with pytest.raises(DataError, match="line 2: timestamp is 'noon', not a number"):
        read_new_events(trained, path)
    with pytest.raises(DataError, match="file not found"):
        read_new_events(trained, None, tmp_path / "none.search")


def test_new_queries_without_searches_are_refused(stored, write):
    with pytest.raises(SettingError, match="new queries need new searches"):
        read_new_events(load_trained(stored("GSERec")), query=write("query", [("q", "w1")]))


def test_files_without_rows_are_no_events(stored, write):
    trained = load_trained(stored("GSERec"))
    new = read_new_events(trained, write("inter", []), write("search", []))
    assert recommend(trained, new, ["u1"])[0] == recommend(trained, None, ["u1"])[0]


def test_normalised_numbers_cannot_be_continued(stored, write):
    trained = load_trained(stored("SASRec", normalize_all=True))
    with pytest.raises(SettingError, match="SASRec was trained on normalised numbers"):
        read_new_events(trained, write("inter", INTER))

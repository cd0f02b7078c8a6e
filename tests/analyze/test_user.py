"""One user of a trained model, against the rows of the files."""

import json
import os

import numpy as np
import pytest
import torch

from recbole_gserec.analyze.user_page import analyze_user
from recbole_gserec.analyze.user_story import SIDES, collect_user_story, shared_codes
from recbole_gserec.errors import CheckpointError, SettingError
from recbole_gserec.plugin.checkpoint import CheckpointConfig
from recbole_gserec.recommend.trained import load_trained
from tests.conftest import random_files

SMALL = {"embedding_size": 8, "inner_size": 8, "mlp_hidden_size": [8]}
CODES = {"n_codebooks": 2, "codebook_size": 4, "code_dim": 4, "rq_hidden_sizes": [8], "rq_epochs": 2}
CODES |= {"rq_warmup_epochs": 0, "encoder_dim": 8}


@pytest.fixture
def checkpoint_of(make_model, random_dataset, tmp_path):
    """Writes the checkpoint of an untrained model; returns its path."""

    def make(name="a.pth", model="GSERec", **settings):
        built, config, *_ = make_model(model, **{**(SMALL if model == "GSERec" else {}), **settings})
        torch.save({"config": CheckpointConfig(config), "state_dict": built.state_dict()}, tmp_path / name)
        return tmp_path / name

    return make


def test_events_codes_and_neighbours(checkpoint_of):
    files = random_files()
    trained = load_trained(checkpoint_of())
    codes = {row[0]: (row[1].split(), row[2].split()) for row in files["code"]}
    for user in ("u3", "u5", "searcher"):
        story = collect_user_story(trained, user, others={})
        own = [row for row in files["inter"] if row[0] == user]
        assert [event.what.split(" ")[0] for event in story.interactions] == [item for _, item, _ in own]
        assert [event.time for event in story.interactions] == [time for *_, time in own]
        parts = ["training"] * (len(own) - 2) + ["validation target", "test target"] if own else []
        assert [event.part for event in story.interactions] == parts
        searched = [row for row in files["search"] if row[0] == user]
        assert [event.time for event in story.searches] == [row[2] for row in searched]
        until = own[-2][2] if own else np.inf
        seen = ["training" if row[2] < until else "after the training part" for row in searched]
        assert [event.part for event in story.searches] == seen
        words = dict(files["query"])
        for event, row in zip(story.searches, searched, strict=True):
            assert event.what == (words[row[1]] or f"{row[1]} (no words)")
            assert [click.split(" ")[0] for click in event.clicks] == row[3].split()
        assert tuple(map(list, (story.codes[side] for side in SIDES))) == codes[user]
        shared = {
            other: [sum(a == b for a, b in zip(codes[user][s], codes[other][s], strict=True)) for s in (0, 1)]
            for other in codes
            if other != user
        }
        most = sorted((sum(counts) for counts in shared.values()), reverse=True)[:5]
        assert [sum(each.shared.values()) for each in story.neighbours] == [n for n in most if n]
        assert all([each.shared[side] for side in SIDES] == shared[each.user] for each in story.neighbours)


def test_neighbours_in_a_graph_of_prefixes(checkpoint_of):
    """A code after other codes is not shared."""
    codes = {row[0]: (row[1].split(), row[2].split()) for row in random_files()["code"]}
    trained = load_trained(checkpoint_of(code_nodes="prefix"))
    for user in ("u3", "u5", "searcher"):
        story = collect_user_story(trained, user, others={})
        shared = {
            other: [len(os.path.commonprefix([codes[user][s], codes[other][s]])) for s in (0, 1)]
            for other in codes
            if other != user
        }
        most = sorted((sum(counts) for counts in shared.values()), reverse=True)[:5]
        assert [sum(each.shared.values()) for each in story.neighbours] == [n for n in most if n]
        assert all([each.shared[side] for side in SIDES] == shared[each.user] for each in story.neighbours)


def test_recommended_are_the_best_of_what_is_new(checkpoint_of):
    trained = load_trained(checkpoint_of())
    story = collect_user_story(trained, "u3", k=7, others={})
    files = random_files()
    touched = {item for user, item, _ in files["inter"] if user == "u3"}
    touched |= {item for row in files["search"] if row[0] == "u3" for item in row[3].split()}
    items = [item.split(" ")[0] for item, _ in story.recommended[""]]
    scores = [score for _, score in story.recommended[""]]
    assert len(items) == 7 and not touched & set(items) and scores == sorted(scores, reverse=True)


def test_shared_codes_of_nobody_are_none():
    codes = torch.tensor([[0, 0], [1, 2], [1, 3], [0, 0], [1, 2]])
    assert shared_codes(codes, 1).tolist() == [0, 2, 1, 0, 2]
    assert shared_codes(codes, 3).tolist() == [0, 0, 0, 0, 0]


def test_the_page(checkpoint_of, tmp_path):
    path = checkpoint_of()
    page = analyze_user("u3", path, tmp_path / "out", k=4, n_events=3)
    text = page.read_text()
    assert page.name == "toy-u3.md" and text.startswith("# User u3 of toy\n")
    n_events = sum(row[0] == "u3" for row in random_files()["inter"])
    assert f"{n_events}, the latest 3 of them here, oldest first." in text
    assert "not known: " in text and "toy.code.json: file not found" in text.replace("\\", "")
    assert "## Users who share most codes" in text and "| 4    | i" in text and "| 5    |" not in text
    analyze_user("u3", path, tmp_path / "out", k=4, n_events=3)
    assert page.read_text() == text


def test_summaries_are_those_the_codes_were_made_from(checkpoint_of, tmp_path, random_dataset):
    (random_dataset / "toy" / "toy.code").unlink()
    path = checkpoint_of(**CODES)
    story = collect_user_story(load_trained(path), "u3", others={})
    titles = [event.what.partition("(")[2].rstrip(")") for event in story.interactions if event.part == "training"]
    words = {word for title in titles for word in title.split()}
    summary = story.summaries["recommendation"]
    assert words and all(word in summary for word in words if word != "w0")
    # u5 never searches, and u3 does.
    assert story.summaries["search"].startswith(("Often: ", "Also: "))
    without = collect_user_story(load_trained(path), "u5", others={})
    assert without.summaries["search"].startswith("none: no search history in the training part")
    held_out = [event for event in story.interactions if event.part != "training"]
    hidden = {word for event in held_out for word in event.what.partition("(")[2].rstrip(")").split()} - words
    searched = {word for event in story.searches for click in event.clicks for word in click.split()}
    assert not any(f" {word}" in summary for word in hidden - searched)


def test_with_and_without_the_graph(checkpoint_of, tmp_path):
    graph, plain = checkpoint_of("a.pth"), checkpoint_of("b.pth", use_user_code_graph=False)
    text = analyze_user("u3", graph, tmp_path / "out", without=plain, k=5).read_text()
    assert "without graph" in text and "of 5 items are in both lists" in text
    with pytest.raises(CheckpointError, match=r"a\.pth: not a GSERec trained with use_user_code_graph=False"):
        analyze_user("u3", graph, tmp_path / "out", without=graph)
    with pytest.raises(CheckpointError, match=r"b\.pth: --without needs a GSERec with user-code graphs"):
        analyze_user("u3", plain, tmp_path / "out", without=plain)


def test_models_without_codes_and_without_searches(checkpoint_of, tmp_path):
    plain = checkpoint_of("b.pth", "NRHUB")
    text = analyze_user("u3", plain, tmp_path / "out").read_text()
    assert "## Codes" not in text and "## Recommended by NRHUB" in text
    with pytest.raises(SettingError, match="SASRec, which reads no searches"):
        analyze_user("u3", checkpoint_of("c.pth", "SASRec"), tmp_path / "out")


def test_unknown_users_and_odd_names(checkpoint_of, tmp_path):
    with pytest.raises(SettingError, match="there is no user 'u33x' in the dataset 'toy': did you mean 'u33'"):
        analyze_user("u33x", checkpoint_of(), tmp_path / "out")
    with pytest.raises(SettingError, match="there is no user"):
        analyze_user("[PAD]", checkpoint_of(), tmp_path / "out")


def test_ids_become_different_names_of_files():
    from recbole_gserec.analyze.user_page import _file_name

    names = {_file_name(user) for user in ("a/b", "a_b", "a\\b", "../x", "用户", "a" * 300)}
    assert len(names) == 6 and all("/" not in name and "\\" not in name and len(name) < 80 for name in names)


def test_a_language_models_summary_comes_from_the_store(checkpoint_of, random_dataset):
    from recbole_gserec.analyze.user_story import find_summaries
    from recbole_gserec.data.training_histories import TrainingHistories
    from recbole_gserec.preprocess.answers import Summary
    from recbole_gserec.preprocess.prompts import build_prompts, read_item_texts
    from recbole_gserec.preprocess.store import Store, text_hash
    from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
    from recbole_gserec.settings.offline import PreprocessSettings

    pytest.importorskip("openai")
    # Loaded before there is a record of its codes: theirs is made up.
    dataset = load_trained(checkpoint_of()).dataset
    settings = PreprocessSettings(summarizer="openai", llm="some-model", llm_base_url="http://localhost:1/v1")
    summarizer = SUMMARIZERS["openai"](settings)
    prefix = random_dataset / "toy" / "toy"
    summary = {"name": summarizer.name, "settings": summarizer.settings}
    record = {"settings": settings.deciding(), "summarizer": summary}
    prefix.with_name("toy.code.json").write_text(json.dumps(record))
    histories, texts = TrainingHistories(dataset), read_item_texts(prefix.with_name("toy.item"))
    user = histories.user_tokens.index("u3")
    prompts = build_prompts("recommendation", histories, texts, settings, summarizer.shorten)
    (prompt,) = [prompt for prompt in prompts if prompt.user == user]
    path = prefix.with_name("store.sqlite3")
    with Store(path) as store:
        maker = store.add_maker("summarizer", {"name": summarizer.name, **summarizer.settings})
        store.add_summaries({text_hash(prompt.text): Summary("json", "Likes red ones.")}, maker)
    code_file = prefix.with_name("toy.code")
    found = find_summaries(code_file, path, histories, user, texts)
    assert found["recommendation"] == "Likes red ones."
    assert found["search"] == "not known: not in the store store.sqlite3"
    gone = find_summaries(code_file, prefix.with_name("no.sqlite3"), histories, user, texts)
    assert gone["recommendation"] == "not known: the store no.sqlite3 is missing"
    assert not prefix.with_name("no.sqlite3").exists()

"""Vectors of texts are made when they are missing, and refused when they are stale."""

import json
import logging
import shlex
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recbole_gserec.cli.preprocess import parse_settings
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.preprocess.run import preprocess_dataset
from recbole_gserec.preprocess.vector_files import read_vectors, write_vectors

QUICK = {"rq_epochs": 2, "rq_warmup_epochs": 1, "codebook_size": 4, "n_codebooks": 2, "show_progress": False}
KINDS = {"user": "recommendation", "item": "text"}


@pytest.fixture
def folder(random_dataset):
    return random_dataset / "toy"


def vectors_file(folder, kind):
    return folder / f"toy.{kind}.vectors.parquet"


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def follow(advice, folder):
    """Run the command that an error advises."""
    words = shlex.split(advice.split("gserec preprocess ", 1)[1])
    requested = parse_settings(words[2:])
    preprocess_dataset(words[1], {**QUICK, "data_path": str(folder.parent), **requested})


@pytest.mark.parametrize("model", ["KAR", "LLMESR"])
def test_missing_vectors_are_made_once_and_no_codes(folder, prepare, caplog, model):
    (folder / "toy.code").unlink()
    with caplog.at_level(logging.WARNING):
        _, dataset, (train, *_) = prepare(model)
    paths = [vectors_file(folder, kind) for kind in KINDS]
    assert f"{paths[0]} and {paths[1]} are missing. They are made now from interactions alone" in caplog.text
    assert not list(folder.glob("toy.code*"))
    made = [path.stat().st_mtime_ns for path in paths]
    assert train._dataset.text_vectors.keys() == KINDS.keys()
    prepare(model)
    assert [path.stat().st_mtime_ns for path in paths] == made
    # A user who only searches has no vector; padding has none.
    tokens = dataset.field2id_token["user_id"].tolist()
    users = train._dataset.text_vectors["user"]
    assert not users[0].any() and not users[tokens.index("searcher")].any()
    assert (users.any(1).sum() == 40) and len(users) == 42


def test_vectors_stand_at_the_ids_of_their_texts(folder, prepare):
    _, dataset, (train, *_) = prepare("KAR")
    for kind, column in KINDS.items():
        ids, columns, _ = read_vectors(vectors_file(folder, kind))
        tokens = dataset.field2id_token[f"{kind}_id"].tolist()
        expected = np.zeros((len(tokens), columns[column].shape[1]), np.float32)
        for name, vector in zip(ids, columns[column], strict=True):
            expected[tokens.index(name)] = vector
        np.testing.assert_array_equal(train._dataset.text_vectors[kind].numpy(), expected)


def test_they_are_those_of_the_command(folder, prepare):
    _, _, (made, *_) = prepare("KAR")
    for kind in KINDS:
        vectors_file(folder, kind).unlink()
    preprocess_dataset("toy", {**QUICK, "data_path": str(folder.parent), "text_vectors": ["user", "item", "query"]})
    assert vectors_file(folder, "query").is_file()
    before = vectors_file(folder, "user").read_bytes()
    _, _, (read, *_) = prepare("KAR")
    assert vectors_file(folder, "user").read_bytes() == before
    for kind in KINDS:
        assert torch.equal(made._dataset.text_vectors[kind], read._dataset.text_vectors[kind])


def test_other_searches_give_the_same_vectors(folder, prepare, random_rows, write_rows):
    _, _, (train, *_) = prepare("KAR")
    expected = train._dataset.text_vectors
    queries = [query for _, query, _, _ in random_rows["search"]]
    search = [
        (user, query, time, clicks)
        for (user, _, time, clicks), query in zip(random_rows["search"], reversed(queries), strict=True)
    ]
    query = [(name, f"{words} dear") for name, words in random_rows["query"]]
    shutil.rmtree(folder)
    write_rows(**{**random_rows, "search": search, "query": query})
    _, _, (train, *_) = prepare("KAR")
    for kind in KINDS:
        assert torch.equal(train._dataset.text_vectors[kind], expected[kind])


def test_users_vectors_come_from_the_training_part_alone(folder, prepare, random_rows, write_rows):
    def similarities(train):
        # Items come in another order, and with them the directions that texts vary in.
        vectors = train._dataset.text_vectors["user"]
        return vectors @ vectors.T

    _, _, (train, *_) = prepare("KAR")
    expected, positions = similarities(train), {}
    for position, (user, _, time) in enumerate(random_rows["inter"]):
        positions.setdefault(user, []).append((time, position))

    def with_others(part):
        """Other items for a part of each user's interactions."""
        chosen = sorted(position for own in positions.values() for _, position in sorted(own)[part])
        inter = list(random_rows["inter"])
        for position, other in zip(chosen, reversed(chosen), strict=True):
            inter[position] = (inter[position][0], random_rows["inter"][other][1], inter[position][2])
        shutil.rmtree(folder)
        write_rows(**{**random_rows, "inter": inter})
        return similarities(prepare("KAR")[2][0])

    torch.testing.assert_close(with_others(slice(-2, None)), expected)
    assert (with_others(slice(-3, -2)) - expected).abs().max() > 0.01


@pytest.mark.parametrize("suffix", ["inter", "search", "query", "item"])
def test_data_changed_since(folder, prepare, suffix):
    prepare("KAR")
    path = folder / f"toy.{suffix}"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError) as error:
        prepare("KAR")
    assert one_line(error).startswith(
        f"{vectors_file(folder, 'user')}: made from other data: the file '{suffix}' has changed since. "
        "Make it again: gserec preprocess --dataset toy "
    )
    follow(str(error.value), folder)
    prepare("KAR")


def test_another_split(folder, prepare):
    prepare("KAR")
    with pytest.raises(DataError, match="made from other data: the setting 'user_inter_num_interval' has changed"):
        prepare("KAR", user_inter_num_interval="[6,inf)")


def test_settings_that_do_not_matter(folder, prepare):
    prepare("KAR")
    prepare("KAR", codebook_size=8, rq_epochs=77, missing_side="empty", embedding_size=8, eval_args={"mode": "full"})


def test_other_settings_of_the_offline_stage(folder, prepare):
    prepare("KAR", encoder_dim=4)
    prepare("KAR")
    with pytest.raises(DataError, match=r"made with encoder_dim=4, but encoder_dim=5 was requested"):
        prepare("KAR", encoder_dim=5)


@pytest.mark.parametrize(
    "settings, name",
    [({"encoder": "bge-m3"}, "encoder 'bge-m3'"), ({"summarizer": "vllm", "llm": "x"}, "summarizer 'vllm'")],
)
def test_models_are_run_by_command_only(folder, prepare, settings, name):
    with pytest.raises(DataError) as error:
        prepare("LLMESR", **settings)
    requested = " ".join(f"--{setting}={value}" for setting, value in settings.items())
    assert one_line(error).startswith(
        f"{vectors_file(folder, 'user')}: file not found, and not made automatically with {name}. "
        "Make it: gserec preprocess --dataset toy "
    )
    assert str(error.value).endswith("'--text_vectors=[user,item]'")
    assert all(part in str(error.value) for part in requested.split())


def test_codes_of_a_language_model_are_not_met_by_vectors_of_words(folder, prepare):
    record = folder / "toy.code.json"
    record.write_text(json.dumps({"settings": {"summarizer": "vllm", "encoder": "bge-m3"}}))
    with pytest.raises(DataError) as error:
        prepare("KAR")
    assert one_line(error).startswith(f"{record}: the codes were made with summarizer 'vllm', and there are no vectors")
    with pytest.raises(DataError, match="the codes were made with encoder 'bge-m3'"):
        prepare("KAR", summarizer="template")
    prepare("KAR", summarizer="template", encoder="tfidf")


def test_making_them_can_be_turned_off(folder, prepare):
    with pytest.raises(DataError, match="file not found. Make it: gserec preprocess --dataset toy ") as error:
        prepare("KAR", preprocess_missing_vectors=False)
    follow(str(error.value), folder)
    prepare("KAR", preprocess_missing_vectors=False)


def test_vectors_of_one_kind_are_not_overwritten(folder, prepare):
    prepare("KAR")
    vectors_file(folder, "user").unlink()
    before = vectors_file(folder, "item").read_bytes()
    with pytest.raises(DataError, match="toy.user.vectors.parquet: file not found, although other vector files exist"):
        prepare("KAR")
    assert vectors_file(folder, "item").read_bytes() == before


def test_items_without_any_text(folder, prepare):
    (folder / "toy.item").unlink()
    with pytest.raises(DataError, match="toy.item.vectors.parquet: no item has a text. Give items texts"):
        prepare("KAR")


def test_no_user_with_a_summary(folder, prepare):
    prepare("KAR")
    path = vectors_file(folder, "user")
    ids, columns, description = read_vectors(path)
    write_vectors(path, ids, {"recommendation": 0 * columns["recommendation"]}, description)
    with pytest.raises(DataError) as error:
        prepare("KAR")
    assert one_line(error).startswith(f"{path}: no user has a summary. Make it again: gserec preprocess --dataset toy ")


@pytest.mark.parametrize("suffixes", [["search"], [], None])
def test_files_that_are_not_loaded(folder, prepare, suffixes):
    with pytest.raises(SettingError, match=r"additional_feat_suffix is \[.*\]; the offline stage also reads 'query'"):
        prepare("KAR", additional_feat_suffix=suffixes)


def test_vectors_of_another_program(folder, prepare, caplog):
    prepare("KAR")
    for kind in KINDS:
        path = vectors_file(folder, kind)
        ids, columns, _ = read_vectors(path)
        pq.write_table(pq.read_table(path).replace_schema_metadata({b"recbole_gserec": b"{}"}), path)
    with caplog.at_level(logging.WARNING):
        prepare("KAR")
    assert "does not say from which data its vectors were made" in caplog.text
    write_vectors(path, ids[1:], {"text": columns["text"][1:]}, {})
    with pytest.raises(DataError, match=rf"1 items have no row \(first: '{ids[0]}'\)"):
        prepare("KAR")
    write_vectors(path, ids, {"other": columns["text"]}, {})
    with pytest.raises(DataError, match="has no column 'text'"):
        prepare("KAR")


def test_a_model_of_searches_makes_none(folder, prepare):
    prepare("NRHUB")
    assert not list(folder.glob("*.parquet"))


def test_vectors_lie_beside_the_dataset_wherever_codes_do(random_dataset, prepare, tmp_path):
    prepare("KAR", code_path=str(tmp_path / "elsewhere" / "some.code"))
    assert (random_dataset / "toy" / "toy.user.vectors.parquet").is_file()
    assert not (tmp_path / "elsewhere").exists()

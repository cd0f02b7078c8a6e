"""Ids: shared between the files of a dataset, and the same in RecBole's own datasets."""

import numpy as np
import pytest
import torch
from recbole.data import create_dataset

from recbole_gserec.data.dataset import SearchDataset


def test_ids_of_users_items_and_queries(prepare, small_files, write_rows):
    write_rows(**small_files)
    _, dataset, _ = prepare()
    tokens = dataset.field2id_token
    # The user who only searched, and the items only clicked in searches, come after those of .inter.
    assert tokens["user_id"].tolist() == ["[PAD]", "ann", "bob", "cat"]
    assert tokens["item_id"].tolist() == ["[PAD]", "a", "b", "c", "d", "e", "x", "z", "y"]
    assert tokens["query_id"].tolist() == ["[PAD]", "q1", "q2", "q3"]
    assert (dataset.user_num, dataset.item_num) == (4, 9)
    words = dataset.query_words.take(torch.tensor([0, 1, 2, 3]))
    assert tokens["query_words"][words.values].tolist() == ["red", "shoe", "shoe"]
    assert words.offsets.tolist() == [0, 0, 2, 3, 3]
    codes = {side: part.codes.tolist() for side, part in dataset.codes.items()}
    assert [any(row) for row in codes["search"]] == [False, True, False, True]
    assert [any(row) for row in codes["recommendation"]] == [False, True, True, False]
    assert codes["search"][1][0] == codes["search"][3][0] != codes["search"][1][1]


def assert_ids_begin_with(dataset, other):
    for field in ("user_id", "item_id"):
        first = other.field2id_token[field].tolist()
        assert dataset.field2id_token[field][: len(first)].tolist() == first


@pytest.mark.usefixtures("random_dataset")
@pytest.mark.parametrize("model", ["SASRec", "LightGCN", "BPR"])
def test_recbole_s_own_models_have_the_same_ids_and_targets(prepare, splits, random_rows, model):
    _, dataset, _ = prepare()
    _, stock, loaders = prepare(model)
    assert not isinstance(stock, SearchDataset)
    assert_ids_begin_with(dataset, stock)
    assert stock.item_num < dataset.item_num and stock.user_num < dataset.user_num
    expected = splits()
    for name, loader in zip(("train", "valid", "test"), loaders, strict=True):
        feat = loader._dataset.inter_feat
        tokens = [stock.field2id_token[field][feat[field].numpy()] for field in ("user_id", "item_id")]
        rows = sorted(zip(*(part.tolist() for part in tokens), strict=True))
        if name == "train" and model != "SASRec":
            # A sequential dataset has no row for a user's first interaction, others have.
            assert len(rows) == len(expected["train"]) + 40
        else:
            assert rows == [row[:2] for row in expected[name]]


@pytest.mark.usefixtures("random_dataset")
def test_recbole_s_own_loader_reads_searches(prepare, random_rows):
    _, dataset, _ = prepare()
    # RecBole gives ids to additional files through the aliases of users and items alone, so queries are left out.
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    columns["search"] = ["search_user_id", "search_timestamp", "search_item_ids"]
    aliases = {"alias_of_user_id": ["search_user_id"], "alias_of_item_id": ["search_item_ids"]}
    _, stock, _ = prepare("SASRec", additional_feat_suffix=["search"], load_col=columns, **aliases)
    assert not isinstance(stock, SearchDataset)
    assert_ids_begin_with(dataset, stock)
    assert_ids_begin_with(stock, dataset)
    users, items = stock.field2id_token["user_id"], stock.field2id_token["item_id"]
    assert users[stock.search_feat["search_user_id"].numpy()].tolist() == [row[0] for row in random_rows["search"]]
    clicks = stock.search_feat["search_item_ids"].numpy()
    assert [items[row[row > 0]].tolist() for row in clicks] == [row[3].split() for row in random_rows["search"]]


def test_other_columns_are_read_as_recbole_reads_them(make_config, small_files, write_rows):
    folder = write_rows(**small_files)
    header = (
        "tags:token_seq\tuser_id:token\tvector:float_seq\titem_id:token\tplace:token\ttimestamp:float\trating:float"
    )
    cells = [
        ("x y", "0.5 1"),
        ("", "2"),
        ("y", "3 4 5"),
        ("x  z", ""),
        ("z", "6"),
        ("x", "7"),
        ("", ""),
        ("w v x y", "8"),
    ]
    lines = [
        f"{tags}\t{user}\t{vector}\t{item}\tp{row % 3}\t{time}\t{row / 4 if row % 2 else ''}"
        for row, ((tags, vector), (user, item, time)) in enumerate(zip(cells, small_files["inter"], strict=True))
    ]
    (folder / "toy.inter").write_text("\n".join([header, *lines]) + "\n")
    (folder / "toy.item").write_text("item_id:token\ttitle:token_seq\nb\ta thing\nnew\t\na\tthing\nc\tx\nd\t\ne\tx x\n")
    settings = {"load_col": None, "seq_len": {"tags": 3}}
    ours = create_dataset(make_config(additional_feat_suffix=[], **settings))
    stock = create_dataset(make_config("BPR", **settings))
    assert isinstance(ours, SearchDataset) and not isinstance(stock, SearchDataset)
    for feat, other in ((ours.inter_feat, stock.inter_feat), (ours.item_feat, stock.item_feat)):
        assert feat.columns.tolist() == other.columns.tolist()
        for field in feat:
            assert [np.asarray(cell).tolist() for cell in feat[field]] == [
                np.asarray(cell).tolist() for cell in other[field]
            ]
            assert ours.field2type[field] == stock.field2type[field]
            assert ours.field2source[field] == stock.field2source[field]
            assert ours.field2seqlen[field] == stock.field2seqlen[field]
    for field, tokens in stock.field2id_token.items():
        assert ours.field2id_token[field].tolist() == tokens.tolist()
    assert stock.field2seqlen["tags"] == 3

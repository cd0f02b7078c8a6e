"""Exported vectors: their products are the model's scores, or they are the equations of the paper."""

from collections import Counter

import numpy as np
import pytest
import torch

from recbole_gserec.errors import SettingError
from recbole_gserec.recommend.exported_vectors import export_vectors
from recbole_gserec.recommend.trained import load_trained
from tests.conftest import random_files, write_dataset
from tests.recommend.stored_models import Plain, store_model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("vectors") / "dataset", "toy", **random_files())


def tables_of(checkpoint):
    exported = export_vectors(load_trained(checkpoint))
    return {table.name: table for table in exported.tables}, exported.score


DOT_PRODUCTS = ["LightGCN", "SGL", "NGCF", "BPR", "SimGCL", "SASRec", "GRU4Rec", "NARM", "CL4SRec"]
DOT_PRODUCTS += ["NRHUB", "QuerySeqRec", "UnifiedSSR", "LLMESR"]


@pytest.mark.parametrize("model", DOT_PRODUCTS)
def test_dot_products_are_the_scores(data, model):
    # RecBole's NGCF drops messages out when it scores, too.
    settings = {"message_dropout": 0.0, "node_dropout": 0.0} if model == "NGCF" else {}
    checkpoint = store_model(data, model, **settings)
    tables, score = tables_of(checkpoint)
    assert score == ("users", "items")
    users, items = tables["users"], tables["items"]
    assert users.values.dtype == items.values.dtype == np.float32
    plain = Plain(checkpoint, random_files())
    assert items.ids["item"].tolist() == [token for token in plain.items if token != "[PAD]"]
    assert users.ids["user"].tolist() == [token for token in plain.users if token != "[PAD]"]
    for position in (0, 17, 39):
        expected = plain.scores(users.ids["user"][position], items.ids["item"].tolist())
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(items.values @ users.values[position], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", ["UniSAR", "USER", "SESRec", "JSR", "KAR", "BERT4Rec", "NeuMF", "FPMC"])
def test_other_models_do_not_claim_to(data, model):
    checkpoint = store_model(data, model)
    try:
        tables, score = tables_of(checkpoint)
    except SettingError as error:
        assert model in ("NeuMF", "FPMC")
        assert "no vectors of users or items" in str(error)
        return
    assert score is None
    trained = load_trained(checkpoint)
    np.testing.assert_array_equal(
        tables["items"].values, trained.model.item_embedding.weight[1 : 1 + trained.dataset.item_num - 1].detach()
    )
    assert "no dot products" in tables["items"].meaning
    if "users" in tables:
        np.testing.assert_array_equal(tables["users"].values, trained.model.user_embedding.weight[1:].detach())


@pytest.mark.parametrize("code_nodes", ["level", "prefix"])
def test_permuted_codes_keep_their_names(data, code_nodes):
    """Without messages, a node's vector is its own, whoever has it."""
    own, permuted = (
        tables_of(store_model(data, n_graph_layers=0, seed=1, code_nodes=code_nodes, code_users=code_users))[0]
        for code_users in ("own", "permuted")
    )
    for table in ("codes_search", "codes_recommendation"):
        assert own[table].ids["code"].tolist() == permuted[table].ids["code"].tolist()
        assert own[table].ids["level"].tolist() == permuted[table].ids["level"].tolist()
        np.testing.assert_array_equal(own[table].values, permuted[table].values)


def shared_prefixes(rows):
    """The nodes of each user: prefixes of codes, written with spaces, that another user has too."""
    prefixes = {user: [" ".join(row[:length]) for length in range(1, len(row) + 1)] for user, row in rows.items()}
    counts = Counter(prefix for row in prefixes.values() for prefix in row)
    return {user: [prefix for prefix in row if counts[prefix] > 1] for user, row in prefixes.items()}


@pytest.mark.parametrize(
    ("n_layers", "code_nodes"), [*((n, "level") for n in range(4)), (0, "prefix"), (2, "prefix"), (3, "prefix")]
)
def test_gserec_by_its_equations(data, n_layers, code_nodes):
    """Equations 7 and 8 with dense matrices, from the codes in the file and the weights in the checkpoint."""
    checkpoint = store_model(data, n_graph_layers=n_layers, seed=n_layers, code_nodes=code_nodes)
    tables, score = tables_of(checkpoint)
    assert score is None
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    trained = load_trained(checkpoint)
    users = trained.dataset.field2id_token["user_id"].tolist()
    initial = weights["user_embedding.weight"].double().numpy()
    np.testing.assert_array_equal(tables["items"].values, weights["item_embedding.weight"][1:])
    np.testing.assert_array_equal(tables["users_initial"].values, weights["user_embedding.weight"][1:])
    for side, column in (("search", 1), ("recommendation", 2)):
        rows = {row[0]: row[column].split() for row in random_files()["code"]}
        rows = shared_prefixes(rows) if code_nodes == "prefix" else rows
        table = tables[f"codes_{side}"]
        codes = list(zip(table.ids["code"].tolist(), table.ids["level"].tolist(), strict=True))
        assert sorted(codes) == sorted({(code, level) for row in rows.values() for level, code in enumerate(row, 1)})
        affiliation = np.zeros((len(users), len(codes)))
        for user, row in rows.items():
            for level, code in enumerate(row, 1):
                affiliation[users.index(user), codes.index((code, level))] = 1
        degrees = np.outer(affiliation.sum(1), affiliation.sum(0))
        matrix = affiliation / np.sqrt(np.maximum(degrees, 1))
        # The codes' rows in the checkpoint, found by a user who has them.
        ids = weights[f"graph.{side}.codes"].numpy()
        position = [
            next(ids[users.index(user), level - 1] for user, row in rows.items() if row[level - 1 : level] == [code])
            for code, level in codes
        ]
        code_layer, user_layer = weights[f"code_embedding.{side}.weight"].double().numpy()[position], initial
        user_sum, code_sum = user_layer.copy(), code_layer.copy()
        for _ in range(n_layers):
            user_layer, code_layer = matrix @ code_layer, matrix.T @ user_layer
            user_sum, code_sum = user_sum + user_layer, code_sum + code_layer
        np.testing.assert_allclose(tables[f"users_{side}"].values, user_sum[1:] / (n_layers + 1), atol=1e-5)
        np.testing.assert_allclose(table.values, code_sum / (n_layers + 1), atol=1e-5)
        assert tables[f"users_{side}"].ids["user"].tolist() == users[1:]


def test_gserec_without_its_graph_has_items_alone(data):
    tables, _ = tables_of(store_model(data, use_user_code_graph=False, seed=9))
    assert list(tables) == ["items"]


def test_vectors_that_only_look_right_are_not_taken(data, monkeypatch):
    """A bias of the items: products of the tables are not the scores any more."""
    checkpoint = store_model(data, "BPR")
    from recbole.model.general_recommender.bpr import BPR

    full = BPR.full_sort_predict
    monkeypatch.setattr(
        BPR, "full_sort_predict", lambda self, rows: full(self, rows) + torch.arange(self.n_items).repeat(len(rows))
    )
    tables, score = tables_of(checkpoint)
    assert score is None
    assert set(tables) == {"users", "items"}

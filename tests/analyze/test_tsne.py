"""User vectors of checkpoints, and their picture."""

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_gserec.analyze.tsne import analyze_tsne, read_user_vectors
from recbole_gserec.errors import CheckpointError, DataError, SettingError
from recbole_gserec.models.gserec import SIDES
from recbole_gserec.plugin.checkpoint import CheckpointConfig
from tests.conftest import random_files

SMALL = {"embedding_size": 8, "inner_size": 8, "mlp_hidden_size": [8]}


@pytest.fixture
def checkpoint_of(make_model, random_dataset, tmp_path):
    """Writes the checkpoint of an untrained model; returns its path and the model."""

    def make(name="a.pth", model="GSERec", **settings):
        built, config, *_ = make_model(model, **{**(SMALL if model == "GSERec" else {}), **settings})
        torch.save({"config": CheckpointConfig(config), "state_dict": built.state_dict()}, tmp_path / name)
        return tmp_path / name, built

    return make


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_vectors_are_those_of_the_plain_equations(checkpoint_of, n_layers):
    path, model = checkpoint_of(n_graph_layers=n_layers)
    vectors = read_user_vectors(path)
    for side in SIDES:
        codes = model.graph[side].codes.numpy()
        users, tokens = (
            table.weight.detach().numpy().astype(np.float64)
            for table in (model.user_embedding, model.code_embedding[side])
        )
        # Eq. 7 as it is written, on a dense matrix.
        links = np.zeros((len(users), len(tokens)))
        for user, own in enumerate(codes):
            links[user, own[own > 0]] = 1
        degrees = np.sqrt(np.outer(np.maximum(links.sum(1), 1), np.maximum(links.sum(0), 1)))
        weights = links / degrees
        layers = [(users, tokens)]
        for _ in range(n_layers):
            layers.append((weights @ layers[-1][1], weights.T @ layers[-1][0]))
        expected = [np.mean(part, axis=0)[1:] for part in zip(*layers, strict=True)]
        np.testing.assert_allclose(vectors.users[side].values, expected[0], atol=1e-6)
        np.testing.assert_allclose(vectors.codes[side].values, expected[1], atol=1e-6)


def test_files_and_labels(checkpoint_of, tmp_path):
    paths = [checkpoint_of(name, lambda_u_cl=weight)[0] for name, weight in (("a.pth", 0.1), ("b.pth", 0))]
    for folder in ("one", "other"):
        page = analyze_tsne(paths, tmp_path / folder, n_users=30, with_codes=True)
    table = pd.read_csv(page.with_suffix(".csv"))
    assert table["checkpoint"].tolist() == ["w/ L_U-CL (0.1)", "w/o L_U-CL"] and table["users"].tolist() == [41, 41]
    points = pd.read_parquet(page.with_suffix(".parquet"))
    users = points[points["kind"] == "user"]
    assert users.groupby(["checkpoint", "side"])["id"].nunique().tolist() == [30] * 4
    # The same users of both sides and both checkpoints.
    assert len({tuple(ids) for _, ids in users.groupby(["checkpoint", "side"])["id"]}) == 1
    assert np.isfinite(points[["x", "y"]]).all(axis=None)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


def test_points_are_named_as_in_the_files(checkpoint_of, tmp_path, monkeypatch):
    class Flat:
        """In the place of t-SNE: the first two numbers of each vector."""

        def __init__(self, **settings):
            pass

        def fit_transform(self, vectors):
            return vectors[:, :2]

    monkeypatch.setattr("recbole_gserec.analyze.tsne.TSNE", Flat)
    # Without message passing, vectors are those of the tables.
    path, model = checkpoint_of(n_graph_layers=0)
    points = pd.read_parquet(analyze_tsne([path], tmp_path / "out", n_users=9, with_codes=True).with_suffix(".parquet"))
    rows = random_files()
    # RecBole gives ids in the order of first appearance in .inter, and then in the other files.
    users = [*dict.fromkeys([row[0] for row in rows["inter"]] + [row[0] for row in rows["search"]])]
    table = dict(zip(users, model.user_embedding.weight[1:].detach().numpy(), strict=True))
    for side, column in (("search", 1), ("recommendation", 2)):
        own = points[points["side"] == side].set_index("kind")
        assert own.loc["user", "id"].nunique() == 9
        for user, x, y in own.loc["user", ["id", "x", "y"]].itertuples(index=False):
            assert (x, y) == pytest.approx(table[user][:2])
        codes = own.loc["code"].set_index("id")
        assert set(codes.index) == {code for row in rows["code"] for code in row[column].split()}
        position = users.index("u3") + 1
        ids = model.graph[side].codes[position]
        names = next(row[column] for row in rows["code"] if row[0] == "u3").split()
        expected = model.code_embedding[side].weight[ids, :2].detach().numpy()
        np.testing.assert_allclose(codes.loc[names, ["x", "y"]], expected, rtol=1e-6)


def test_checkpoints_of_one_kind_have_labels_of_their_own(checkpoint_of, tmp_path):
    paths = [checkpoint_of(name, seed=seed)[0] for name, seed in (("a.pth", 1), ("b.pth", 2))]
    page = analyze_tsne([paths[0], paths[0], paths[1]], tmp_path / "out")
    labels = pd.read_csv(page.with_suffix(".csv"))["checkpoint"].tolist()
    assert labels == [f"w/ L_U-CL (0.1), seed {last}" for last in ("1 (1)", "1 (2)", "2")]


def test_the_dataset_names_the_users(checkpoint_of, tmp_path):
    path, _ = checkpoint_of()
    (tmp_path / "dataset").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no such dataset"):
        read_user_vectors(path)
    assert read_user_vectors(path, tmp_path / "elsewhere").users["search"].ids["user"][0] == "u0"


def test_checkpoints_without_such_vectors(checkpoint_of, tmp_path):
    with pytest.raises(CheckpointError, match="use_user_code_graph=False, so it has no user vectors"):
        read_user_vectors(checkpoint_of("a.pth", use_user_code_graph=False)[0])
    with pytest.raises(CheckpointError, match="a checkpoint of SASRec"):
        read_user_vectors(checkpoint_of("b.pth", "SASRec")[0])
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_user_vectors(tmp_path / "none.pth")
    path, _ = checkpoint_of("c.pth")
    (tmp_path / "half.pth").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="truncated"):
        read_user_vectors(tmp_path / "half.pth")
    state = torch.load(path, weights_only=True)
    state["state_dict"]["user_embedding.weight"] = state["state_dict"]["user_embedding.weight"][:9]
    torch.save({"config": CheckpointConfig(state["config"]), "state_dict": state["state_dict"]}, path)
    with pytest.raises(CheckpointError, match="does not fit the dataset"):
        read_user_vectors(path)


def test_too_few_users(checkpoint_of, tmp_path):
    with pytest.raises(SettingError, match="--users is 3"):
        analyze_tsne([checkpoint_of()[0]], tmp_path, n_users=3)

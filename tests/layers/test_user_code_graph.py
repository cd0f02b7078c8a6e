import copy
import tracemalloc

import numpy as np
import pytest
import torch
from torch_geometric.nn import LGConv, LightGCN

from recbole_gserec.data.search_files import UserCodes
from recbole_gserec.layers.graph import ConstantMatrix, LGConvUserCodeGraph, UserCodeGraph
from recbole_gserec.layers.light_graph_conv import LightGraphConv


def random_codes(n_users=30, n_codes=12, levels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    per_level = n_codes // levels
    codes = torch.randint(0, per_level, (n_users, levels), generator=generator)
    codes = codes + torch.arange(levels) * per_level + 1
    codes[0] = 0  # The padding user.
    codes[5] = 0  # A user without codes.
    return codes, n_codes


def edges(codes):
    users = torch.arange(len(codes)).unsqueeze(1).expand_as(codes)
    forward = torch.stack([users[codes > 0], codes[codes > 0] + len(codes)])
    return torch.cat([forward, forward.flip(0)], dim=1)


@pytest.mark.parametrize("n_layers", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("sparse", [False, True])
def test_equals_pyg_lightgcn_with_its_gradients(monkeypatch, n_layers, sparse):
    monkeypatch.setattr("recbole_gserec.layers.graph._SPARSE", 2.0 if sparse else 0.0)
    codes, n_codes = random_codes()
    n_nodes = len(codes) + n_codes + 1
    torch.manual_seed(0)
    tables = torch.randn(n_nodes, 8, requires_grad=True)
    copy = tables.detach().clone().requires_grad_()
    if n_layers == 0:
        expected = copy * 1
    else:
        reference = LightGCN(n_nodes, 8, n_layers)
        reference.convs = torch.nn.ModuleList(LGConv() for _ in range(n_layers))
        reference.embedding.weight = torch.nn.Parameter(copy.detach().clone())
        copy = reference.embedding.weight
        expected = reference.get_embedding(edges(codes))
    graph = UserCodeGraph(codes, n_codes, n_layers)
    assert isinstance(graph.code_to_code, torch.Tensor) != sparse
    layers = graph.propagate(tables[: len(codes)], tables[len(codes) :])
    users = graph.users_at(torch.arange(len(codes)), tables[: len(codes)], layers)
    result = torch.cat([users, layers.final])
    torch.testing.assert_close(result, expected)
    direction = torch.randn_like(result)
    (result * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(tables.grad, copy.grad)


def untidy_codes(seed):
    """Users without codes, with some or with the same one several times, and codes that nobody has."""
    generator = torch.Generator().manual_seed(seed)
    n_codes = 20
    codes = torch.randint(0, n_codes - 4, (40, 5), generator=generator)
    codes[:4] = 0
    codes[4:7] = 3
    codes[7] = torch.tensor([0, 2, 0, 2, 9])
    return codes, n_codes


@pytest.mark.parametrize("n_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_lgconv_gives_the_same_vectors_and_gradients(n_layers, seed):
    codes, n_codes = untidy_codes(seed)
    graphs = [kind(codes, n_codes, n_layers) for kind in (UserCodeGraph, LGConvUserCodeGraph)]
    torch.manual_seed(seed)
    users, table = torch.randn(len(codes), 8, requires_grad=True), torch.randn(n_codes + 1, 8, requires_grad=True)
    batch = torch.randint(len(codes), (60,))
    directions = [torch.randn(n, 8) for n in (n_codes + 1, n_codes + 1, len(batch))]
    results = []
    for graph in graphs:
        layers = graph.propagate(users, table)
        vectors = [layers.final, layers.messages, graph.users_at(batch, users[batch], layers)]
        weighted = sum((part * direction).sum() for part, direction in zip(vectors, directions, strict=True))
        results.append([*vectors, *torch.autograd.grad(weighted, (users, table))])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def light_gcn(codes, users, table, n_layers):
    """Eq. 7 and 8 with a dense adjacency matrix of users and codes, in NumPy."""
    n_users, n_nodes = len(users), len(users) + len(table)
    adjacency = np.zeros((n_nodes, n_nodes))
    for user, own in enumerate(codes.tolist()):
        for code in own:
            if code:
                adjacency[user, n_users + code] = adjacency[n_users + code, user] = 1
    scale = np.sqrt(np.maximum(adjacency.sum(1), 1))
    adjacency /= np.outer(scale, scale)
    layers = [np.concatenate([users, table])]
    for _ in range(n_layers):
        layers.append(adjacency @ layers[-1])
    return np.split(np.mean(layers, axis=0), [n_users])


@pytest.mark.parametrize("kind", [UserCodeGraph, LGConvUserCodeGraph])
@pytest.mark.parametrize("n_layers", [0, 1, 2, 3])
def test_nodes_of_prefixes_against_a_dense_lightgcn(kind, n_layers):
    nodes = UserCodes(*random_codes(n_users=60)).by_prefix()
    # Some users have a node of each length, some have fewer, and one has none.
    assert set((nodes.codes > 0).sum(1).tolist()) == {0, 1, 2, 3}
    torch.manual_seed(n_layers)
    users, table = torch.randn(60, 4), torch.randn(nodes.n_codes + 1, 4)
    graph = kind(nodes.codes, nodes.n_codes, n_layers)
    layers = graph.propagate(users, table)
    expected = light_gcn(nodes.codes, users.double().numpy(), table.double().numpy(), n_layers)
    found = graph.users_at(torch.arange(60), users, layers), layers.final
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.numpy(), other, atol=1e-5)


def test_sides_with_equal_codes_have_equal_nodes():
    search, recommendation = (UserCodes(*random_codes()).by_prefix() for _ in range(2))
    assert torch.equal(search.codes, recommendation.codes) and search.n_codes == recommendation.n_codes


@pytest.mark.parametrize("kind", [UserCodeGraph, LGConvUserCodeGraph])
def test_a_graph_without_nodes(kind):
    graph = kind(torch.zeros(4, 2, dtype=torch.long), 0, 2)
    users, table = torch.randn(4, 3), torch.randn(1, 3)
    layers = graph.propagate(users, table)
    torch.testing.assert_close(layers.final, table / 3)
    torch.testing.assert_close(graph.users_at(torch.arange(4), users, layers), users / 3)


def test_many_nodes_need_no_dense_product():
    n_codes = 60_000
    codes = torch.arange(n_codes * 2).remainder(n_codes).add(1).view(-1, 4)
    tracemalloc.start()
    graph = UserCodeGraph(codes, n_codes, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Four of each user, and each of them with the other three; a dense product would have 14 GB.
    assert isinstance(graph.code_to_code, ConstantMatrix) and len(graph.code_to_code.values) == 4 * n_codes
    assert peak < 50e6


def test_large_products_are_sparse_even_if_they_are_full(monkeypatch):
    codes, n_codes = random_codes()
    users, table = torch.randn(len(codes), 4), torch.randn(n_codes + 1, 4)
    results = []
    for most, kind in ((n_codes + 1, torch.Tensor), (n_codes, ConstantMatrix)):
        monkeypatch.setattr("recbole_gserec.layers.graph._MOST_DENSE", most)
        graph = UserCodeGraph(codes, n_codes, 2)
        assert isinstance(graph.code_to_code, kind)
        results.append(graph.propagate(users, table).final)
    torch.testing.assert_close(*results)


def test_lgconv_where_nobody_has_a_code():
    graph = LGConvUserCodeGraph(torch.zeros(3, 2, dtype=torch.long), 4, 2)
    users, codes = torch.randn(3, 4), torch.randn(5, 4)
    layers = graph.propagate(users, codes)
    torch.testing.assert_close(layers.final, codes / 3)
    torch.testing.assert_close(graph.users_at(torch.arange(3), users, layers), users / 3)


def test_both_store_the_same():
    codes, n_codes = untidy_codes(0)
    ours, lgconv = UserCodeGraph(codes, n_codes, 2), LGConvUserCodeGraph(codes, n_codes, 2)
    assert ours.state_dict().keys() == lgconv.state_dict().keys() == {"codes"}
    lgconv.load_state_dict(ours.state_dict())
    copied = copy.deepcopy(lgconv)
    users, table = torch.randn(len(codes), 4), torch.randn(n_codes + 1, 4)
    assert torch.equal(copied.propagate(users, table).final, lgconv.propagate(users, table).final)


def test_weights_are_those_of_a_convolution_that_normalises():
    edge_index = edges(untidy_codes(1)[0])
    nodes = torch.randn(61, 4)
    torch.testing.assert_close(LightGraphConv(edge_index, 61)(nodes), LGConv()(nodes, edge_index))


def test_the_default_does_not_wait_for_pyg(fresh_python):
    code = """
        import sys
        import torch
        from typer.testing import CliRunner
        import recbole_gserec.models.gserec, recbole_gserec.models.simgcl
        from recbole_gserec.cli.main import app
        from recbole_gserec.layers.graph import LGConvUserCodeGraph, UserCodeGraph

        assert CliRunner().invoke(app, ["--help"]).exit_code == 0
        UserCodeGraph(torch.ones(2, 1, dtype=torch.long), 1, 2)
        print("torch_geometric" in sys.modules)
        LGConvUserCodeGraph(torch.ones(2, 1, dtype=torch.long), 1, 2)
        print("torch_geometric" in sys.modules)
    """
    assert fresh_python(code).split() == ["False", "True"]


def test_all_users_share_one_code():
    n_users = 7
    codes = torch.ones(n_users, 1, dtype=torch.long)
    torch.manual_seed(0)
    users, code = torch.randn(n_users, 4), torch.randn(2, 4)
    graph = UserCodeGraph(codes, 1, 2)
    layers = graph.propagate(users, code)
    at = graph.users_at(torch.arange(n_users), users, layers)
    torch.testing.assert_close(at, (users + code[1] / n_users**0.5 + users.mean(0)) / 3)
    torch.testing.assert_close(layers.final[1], (2 * code[1] + users.sum(0) / n_users**0.5) / 3)


def test_users_reach_exactly_those_they_share_a_code_with():
    codes, n_codes = random_codes()
    users = torch.randn(len(codes), 4, requires_grad=True)
    graph = UserCodeGraph(codes, n_codes, 2)
    layers = graph.propagate(users, torch.randn(n_codes + 1, 4))
    row = torch.tensor([7])
    graph.users_at(row, users[row], layers).sum().backward()
    reached = users.grad.abs().sum(1) > 0
    shares = torch.tensor([bool(set(codes[7].tolist()) & set(code.tolist()) - {0}) for code in codes])
    shares[7] = True
    assert (reached == shares).all()


def test_user_without_codes_keeps_a_share_of_its_own_embedding():
    codes, n_codes = random_codes()
    users = torch.randn(len(codes), 4)
    graph = UserCodeGraph(codes, n_codes, 2)
    layers = graph.propagate(users, torch.randn(n_codes + 1, 4))
    torch.testing.assert_close(graph.users_at(torch.tensor([5]), users[5:6], layers), users[5:6] / 3)

import math

import numpy as np
import pytest
import torch

from recbole_gserec.layers.contrastive import BilinearSimilarity, CosineSimilarity, Temperature, nt_xent


def plain_nt_xent(first, second, similarity, temperature, groups, negatives):
    """The formula, one row and one negative at a time."""
    n = len(first)
    views = np.concatenate([first, second])
    groups = np.tile(np.arange(n) if groups is None else groups, 2)
    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        numerator = math.exp(similarity(views[i], views[partner]) / temperature)
        denominator = numerator
        for j in range(2 * n):
            same_view = (i < n) == (j < n)
            if groups[i] == groups[j] or (negatives == "opposite" and same_view):
                continue
            denominator += math.exp(similarity(views[i], views[j]) / temperature)
        total -= math.log(numerator / denominator)
    return total / (2 * n)


@pytest.mark.parametrize("negatives", ["both", "opposite"])
@pytest.mark.parametrize("groups", [None, [0, 1, 0, 2, 1, 3]])
@pytest.mark.parametrize("kind", ["bilinear", "cosine"])
def test_nt_xent_is_the_formula(kind, groups, negatives):
    torch.manual_seed(1)
    first, second = torch.randn(6, 5), torch.randn(6, 5)
    if kind == "bilinear":
        module = BilinearSimilarity(5)
        weight = module.weight.detach().numpy()
        similarity = lambda x, y: math.tanh(x @ weight @ y)  # noqa: E731
    else:
        module = CosineSimilarity()
        similarity = lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y)  # noqa: E731
    result = nt_xent(
        first,
        second,
        similarity=module,
        temperature=0.2,
        groups=None if groups is None else torch.tensor(groups),
        negatives=negatives,
    )
    expected = plain_nt_xent(first.numpy(), second.numpy(), similarity, 0.2, groups, negatives)
    assert result.item() == pytest.approx(expected, rel=1e-5)


def test_closed_form_for_orthonormal_views():
    views = torch.eye(4)
    result = nt_xent(views, views, similarity=CosineSimilarity(), temperature=0.1)
    assert result.item() == pytest.approx(-10 + math.log(math.exp(10) + 6), abs=1e-6)


def test_blocks_of_rows_do_not_change_the_result(monkeypatch):
    torch.manual_seed(2)
    first, second = torch.randn(50, 8), torch.randn(50, 8)
    groups = torch.randint(0, 30, (50,))
    results = []
    for rows in (7, 1000):
        monkeypatch.setattr("recbole_gserec.layers.contrastive._ROWS", rows)
        results.append(nt_xent(first, second, similarity=CosineSimilarity(), temperature=0.1, groups=groups))
    torch.testing.assert_close(*results)


def test_order_of_rows_does_not_matter():
    torch.manual_seed(3)
    first, second = torch.randn(9, 4), torch.randn(9, 4)
    module, order = BilinearSimilarity(4), torch.randperm(9)
    plain = nt_xent(first, second, similarity=module, temperature=0.1)
    torch.testing.assert_close(nt_xent(first[order], second[order], similarity=module, temperature=0.1), plain)


def test_bilinear_similarity_is_not_symmetric():
    torch.manual_seed(0)
    module, x, y = BilinearSimilarity(4), torch.randn(1, 4), torch.randn(1, 4)
    assert not torch.allclose(module(x, y), module(y, x))


def test_no_rows_give_no_loss():
    nothing = torch.zeros(0, 4, requires_grad=True)
    assert nt_xent(nothing, nothing, similarity=CosineSimilarity(), temperature=0.1).item() == 0


def test_temperature_stays_positive_whatever_the_gradient_does():
    temperature = Temperature(0.1)
    assert temperature().item() == pytest.approx(0.1)
    optimiser = torch.optim.SGD(temperature.parameters(), lr=100.0)
    for _ in range(20):
        optimiser.zero_grad()
        temperature().backward()
        optimiser.step()
    assert 0.0099 < temperature().item() < 0.011


@pytest.mark.parametrize("negatives", ["both", "opposite"])
@pytest.mark.parametrize("module", [BilinearSimilarity(3), CosineSimilarity()])
def test_gradients_equal_those_of_finite_differences(module, negatives):
    torch.manual_seed(4)
    module = module.double()
    first, second = (torch.randn(7, 3, dtype=torch.double, requires_grad=True) for _ in range(2))
    temperature = torch.tensor(0.3, dtype=torch.double, requires_grad=True)
    groups = torch.tensor([0, 1, 2, 0, 3, 4, 1])

    def loss(first, second, temperature, *_):
        return nt_xent(first, second, similarity=module, temperature=temperature, groups=groups, negatives=negatives)

    assert torch.autograd.gradcheck(loss, (first, second, temperature, *module.parameters()))

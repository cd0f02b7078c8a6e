import numpy as np
import pytest
import torch
from torch import nn

from recbole_gserec.layers.dropout import Dropout
from recbole_gserec.layers.experts import HybridExpertAdaptor


@pytest.fixture
def adaptor():
    adaptor = HybridExpertAdaptor(("user", "item"), 6, 2, 3, [5, 4], dropout=0.0)
    generator = torch.Generator().manual_seed(0)
    for parameter in adaptor.parameters():
        nn.init.normal_(parameter, generator=generator)
    return adaptor


def plain(adaptor, task, vector):
    """One vector, one expert at a time."""
    gate = adaptor.gates[task].weight.detach().numpy() @ vector + adaptor.gates[task].bias.detach().numpy()
    shares = np.exp(gate - gate.max()) / np.exp(gate - gate.max()).sum()
    result, index = 0, 0
    for experts in (adaptor.shared_experts, adaptor.experts[task]):
        for expert in range(len(experts.layers[0].weight)):
            hidden = vector
            for layer in experts.layers:
                weight, bias = layer.weight[expert].detach().numpy(), layer.bias[expert, 0].detach().numpy()
                hidden = np.maximum(hidden @ weight + bias, 0)
            result, index = result + shares[index] * hidden, index + 1
    assert index == 5
    return result


@pytest.mark.parametrize("task", ["user", "item"])
def test_the_mixture_of_experts(adaptor, task):
    vectors = torch.randn(7, 6)
    expected = [plain(adaptor, task, vector.numpy()) for vector in vectors]
    np.testing.assert_allclose(adaptor(task, vectors).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert adaptor(task, vectors).shape == (7, adaptor.output_size) == (7, 4)


def test_gates_share_one_unit_among_the_experts(adaptor):
    # Experts that all give one and the same vector show the sum of the gates.
    for experts in (adaptor.shared_experts, adaptor.experts["item"]):
        nn.init.zeros_(experts.layers[-1].weight)
        nn.init.constant_(experts.layers[-1].bias, 3)
    torch.testing.assert_close(adaptor("item", torch.randn(5, 6)), torch.full((5, 4), 3.0))


@pytest.mark.parametrize(("task", "other"), [("user", "item"), ("item", "user")])
def test_experts_of_the_other_task_learn_nothing(adaptor, task, other):
    adaptor(task, torch.randn(7, 6)).sum().backward()
    for name, parameter in adaptor.named_parameters():
        assert (parameter.grad is None) == (other in name), name
    assert all(parameter.grad.any() for parameter in adaptor.shared_experts.parameters())


def test_no_text_gives_nothing_and_teaches_nothing(adaptor):
    vectors = torch.randn(4, 6)
    vectors[1] = 0
    result = adaptor("user", vectors)
    assert (result[1] == 0).all() and result[0].any()
    result[1].sum().backward()
    assert not any(parameter.grad.any() for parameter in adaptor.parameters() if parameter.grad is not None)


def test_dropout_follows_every_layer_of_the_experts():
    adaptor, sizes = HybridExpertAdaptor(("user", "item"), 6, 2, 3, [5, 4], dropout=0.5), []
    dropouts = [module for module in adaptor.modules() if isinstance(module, Dropout)]
    for module in dropouts:
        module.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape[::2]))
    adaptor("item", torch.randn(7, 6))
    assert sizes == [(2, 5), (2, 4), (3, 5), (3, 4)] and {module.p for module in dropouts} == {0.5}


def test_each_expert_starts_as_a_layer_of_its_own():
    torch.manual_seed(0)
    adaptor = HybridExpertAdaptor(("user",), 100, 2, 6, [200], dropout=0.0)
    for weight in adaptor.experts["user"].layers[0].weight:
        assert weight.std().item() == pytest.approx((2 / 300) ** 0.5, rel=0.05)
    assert not adaptor.experts["user"].layers[0].bias.any() and not adaptor.gates["user"].bias.any()

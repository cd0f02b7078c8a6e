import pytest
import torch
from torch import nn

from recbole_gserec.layers.experts import ProgressiveLayeredExtraction

TASKS = ("first", "second")


@pytest.fixture
def layer():
    torch.manual_seed(0)
    made = ProgressiveLayeredExtraction(TASKS, 3, 4, 2, 3, 5, [8, 6], 0.5).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


@pytest.mark.parametrize("task", TASKS)
def test_is_the_formula_expert_by_expert(layer, task):
    users, candidates = torch.randn(2, 3), torch.randn(2, 3, 4)
    result = layer(task, users, candidates)
    assert result.shape == (2, 3, 6) and layer.output_size == 6
    for row in range(2):
        for column in range(3):
            z = torch.cat([users[row], candidates[row, column]])
            experts = []
            for linear, count in ((layer.shared_experts, 2), (layer.experts[task], 3)):
                for k in range(count):
                    part = slice(5 * k, 5 * (k + 1))
                    experts.append((linear.weight[part] @ z + linear.bias[part]).relu())
            gate = layer.gates[task](z).softmax(0)
            mixed = sum(weight * expert for weight, expert in zip(gate, experts, strict=True))
            for linear in layer.towers[task]:
                mixed = linear(mixed).relu()
            torch.testing.assert_close(result[row, column], mixed, rtol=1e-4, atol=1e-5)


def test_a_task_leaves_the_parts_of_the_other_alone(layer):
    layer("first", torch.randn(4, 3), torch.randn(4, 2, 4)).sum().backward()
    for name, parameter in layer.named_parameters():
        assert (parameter.grad is None) == (".second." in name), name


def test_each_expert_starts_as_a_layer_of_its_own():
    torch.manual_seed(0)
    layer = ProgressiveLayeredExtraction(TASKS, 100, 100, 4, 4, 50, [8], 0.0)
    expected = (2 / (200 + 50)) ** 0.5
    for weight in (layer.shared_experts.weight, layer.experts["first"].weight):
        assert weight.std().item() == pytest.approx(expected, rel=0.03)
    assert (layer.shared_experts.bias == 0).all()


def test_dropout_in_training_alone(layer):
    users, candidates = torch.randn(4, 3), torch.randn(4, 2, 4)
    torch.testing.assert_close(layer("first", users, candidates), layer("first", users, candidates))
    layer.train()
    assert not torch.equal(layer("first", users, candidates), layer("first", users, candidates))

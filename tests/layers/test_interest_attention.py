import numpy as np
import pytest
import torch
from torch import nn

from recbole_gserec.layers import experts
from recbole_gserec.layers.dropout import Dropout
from recbole_gserec.layers.experts import Dice, InterestAttention

LENGTHS = [3, 0, 5, 1]


@pytest.fixture(params=["dice", "prelu"])
def attention(request):
    attention = InterestAttention(4, [6, 3], 0.0, request.param)
    generator = torch.Generator().manual_seed(0)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, generator=generator)
    for activation in attention.activations:
        if request.param == "dice":
            activation.norm.running_mean.normal_(generator=generator)
            activation.norm.running_var.uniform_(0.5, 2, generator=generator)
    return attention.eval()


def inputs():
    torch.manual_seed(1)
    history, candidates = torch.randn(4, 5, 4), torch.randn(4, 7, 4)
    return history, torch.arange(5) < torch.tensor(LENGTHS).unsqueeze(1), candidates


def plain(attention, history, candidates):
    """One pair of event and candidate at a time."""
    history, candidates = history.detach().numpy(), candidates.detach().numpy()
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in attention.layers]
    result = np.zeros(candidates.shape)
    for row in range(len(history)):
        for column, candidate in enumerate(candidates[row]):
            for event in history[row, : LENGTHS[row]]:
                hidden = np.concatenate([candidate, event, candidate - event, candidate * event])
                for (weight, bias), activation in zip(layers, attention.activations, strict=False):
                    hidden = activate(activation, weight @ hidden + bias)
                weight, bias = layers[-1]
                result[row, column] += (weight @ hidden + bias) * event
    return result


def activate(activation, values):
    if isinstance(activation, nn.PReLU):
        return np.where(values > 0, values, values * activation.weight.detach().numpy())
    mean, var = activation.norm.running_mean.numpy(), activation.norm.running_var.numpy()
    p = 1 / (1 + np.exp(-(values - mean) / np.sqrt(var + 1e-5)))
    return p * values + (1 - p) * activation.alpha.detach().numpy() * values


def test_weights_and_sums(attention):
    history, mask, candidates = inputs()
    found = attention(history, mask, candidates).detach().numpy()
    np.testing.assert_allclose(found, plain(attention, history, candidates), rtol=1e-4, atol=1e-4)
    assert (found[1] == 0).all()


def test_weights_are_not_normalised(attention):
    history, mask, candidates = inputs()
    twice = attention(history.repeat(1, 2, 1), mask.repeat(1, 2), candidates)
    torch.testing.assert_close(twice, 2 * attention(history, mask, candidates))


def test_shared_candidates_and_parts_of_them(attention, monkeypatch):
    history, mask, candidates = inputs()
    shared = candidates[:1]
    expected = attention(history, mask, shared.expand(4, -1, -1))
    torch.testing.assert_close(attention(history, mask, shared), expected)
    # Two candidates at once, and one where even that is more than there should be.
    for n_at_once in (2 * history.numel(), 1):
        monkeypatch.setattr(experts, "MAX_PRODUCTS", n_at_once)
        torch.testing.assert_close(attention(history, mask, shared), expected)
        torch.testing.assert_close(attention(history, mask, candidates)[0], expected[0])


def test_training_takes_statistics_from_all_pairs_at_once(attention, monkeypatch):
    expected = attention.train()(*inputs())
    monkeypatch.setattr(experts, "MAX_PRODUCTS", 1)
    torch.testing.assert_close(attention(*inputs()), expected)


def test_dropout_follows_each_activation(attention):
    calls = []
    attention.dropout = Dropout(0.5)
    attention.dropout.register_forward_hook(lambda _, given, __: calls.append(given[0].shape[1]))
    attention.train()(*inputs())
    assert calls == [6, 3]


def test_a_single_pair_in_training(attention):
    history, mask, candidates = (part[:1, :1] for part in inputs())
    expected = attention(history, mask, candidates)
    # It has no variance: statistics are those of before, and stay.
    torch.testing.assert_close(attention.train()(history, mask, candidates), expected)
    torch.testing.assert_close(attention.eval()(history, mask, candidates), expected)


@pytest.mark.parametrize("training", [True, False])
def test_padding_tells_nothing(attention, training):
    attention.train(training)
    history, mask, candidates = inputs()
    expected = attention(history, mask, candidates)
    other = torch.where(mask.unsqueeze(-1), history, torch.full_like(history, 50.0))
    torch.testing.assert_close(attention(other, mask, candidates), expected)


@pytest.mark.parametrize("training", [True, False])
def test_mixed_precision(attention, training):
    attention.train(training)
    history, mask, candidates = inputs()
    expected = attention(history, mask, candidates)
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(history, mask, candidates)
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()
    found.float().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in attention.parameters())


@pytest.mark.parametrize("n_rows", [0, 1, 2])
def test_few_events_and_none_in_training(attention, n_rows):
    history, mask, candidates = (part[1 : 1 + n_rows] for part in inputs())
    attention.train()
    result = attention(history.requires_grad_(), mask, candidates)
    result.sum().backward()
    assert torch.isfinite(result).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in attention.parameters())


def test_dice_takes_the_batch_in_training_and_what_it_has_seen_else():
    torch.manual_seed(0)
    dice, values = Dice(3), torch.randn(500, 3) * torch.tensor([1.0, 4, 0.5]) + 2
    assert not dice.alpha.any()
    nn.init.constant_(dice.alpha, 0.25)
    mean, deviation = values.mean(0), values.var(0, unbiased=False).sqrt()

    def expected(values):
        p = torch.sigmoid((values - mean) / deviation)
        return p * values + (1 - p) * 0.25 * values

    torch.testing.assert_close(dice(values), expected(values), rtol=1e-3, atol=1e-3)
    for _ in range(60):
        dice(values)
    dice.eval()
    torch.testing.assert_close(dice(values), expected(values), rtol=1e-2, atol=1e-2)
    # The rows beside a row do not matter any more.
    torch.testing.assert_close(dice(values[:1]), dice(values)[:1])
    assert dice.state_dict().keys() >= {"norm.running_mean", "norm.running_var"}

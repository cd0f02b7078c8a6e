"""Against RecBole's own encoder, all of whose outputs are computed and one of each row is picked."""

import copy

import pytest
import torch
import torch.nn.functional as F
from recbole.model.layers import TransformerEncoder
from torch import nn

from recbole_gserec.layers.dropout import Dropout
from recbole_gserec.layers.transformer import encode_at, use_fast_parts


def encoders(n_layers, hidden_act="gelu", dropout=0.0):
    """RecBole's encoder, and its copy with fast parts."""
    torch.manual_seed(0)
    stock = TransformerEncoder(n_layers, 2, 8, 12, dropout, dropout, hidden_act, 1e-12)
    for parameter in stock.parameters():
        nn.init.normal_(parameter, std=0.4)
    fast = copy.deepcopy(stock)
    use_fast_parts(fast)
    return stock, fast


def inputs():
    """Events, a causal mask without padded keys, and a place in each row of all lengths, the last and others."""
    torch.manual_seed(1)
    events, lengths = torch.randn(6, 6, 8), torch.arange(1, 7)
    allowed = torch.ones(6, 6, 6).tril().bool() & (torch.arange(6) < lengths.view(-1, 1, 1))
    return events, torch.where(allowed, 0.0, -10000.0).unsqueeze(1), torch.tensor([0, 0, 2, 1, 4, 3])


@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("hidden_act", ["gelu", "relu", "swish", "tanh", "sigmoid"])
def test_outputs_and_gradients(n_layers, hidden_act):
    stock, fast = encoders(n_layers, hidden_act)
    events, mask, indices = inputs()
    weights = torch.randn(6, 8)
    results = []
    for encode in (
        lambda x: stock(x, mask)[-1][torch.arange(6), indices],
        lambda x: encode_at(fast, x, mask, indices),
    ):
        given = events.clone().requires_grad_()
        output = encode(given)
        (output * weights).sum().backward()
        results.append((output, given.grad))
    gradients = [[parameter.grad for parameter in encoder.parameters()] for encoder in (stock, fast)]
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


def test_dropout_is_off_outside_of_training_and_reaches_all_parts_within():
    stock, fast = encoders(2, dropout=0.5)
    events, mask, indices = inputs()
    assert not any(isinstance(module, nn.Dropout) for module in fast.modules())
    assert [module.p for module in fast.modules() if isinstance(module, Dropout)] == [0.5] * 6
    stock.eval(), fast.eval()
    expected = stock(events, mask)[-1][torch.arange(6), indices]
    torch.testing.assert_close(encode_at(fast, events, mask, indices), expected, rtol=1e-4, atol=1e-5)
    fast.train()
    for kept in (module for module in fast.modules() if isinstance(module, Dropout)):
        for module in fast.modules():
            if isinstance(module, Dropout):
                module.p = 0.5 if module is kept else 0.0
        assert not torch.allclose(encode_at(fast, events, mask, indices), expected, rtol=1e-3)


def test_fused_activations_take_the_place_of_those_of_their_name_alone():
    kinds = {name: encoders(1, name)[1].layer[0].feed_forward.intermediate_act_fn for name in ("gelu", "swish", "relu")}
    assert kinds == {"gelu": F.gelu, "swish": F.silu, "relu": F.relu}

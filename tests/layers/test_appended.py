import pytest
import torch
from torch import nn

from recbole_gserec.layers.appended import AppendedEncoder
from recbole_gserec.layers.packing import Packing


def made(n_layers, lengths=(5, 1, 0, 4)):
    torch.manual_seed(0)
    encoder = AppendedEncoder(8, n_layers, 2, 16, 0.0, 0.0)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    return encoder, torch.randn(len(lengths), 5, 8), mask, torch.randn(len(lengths), 3, 8)


def torchs(encoder):
    """The same weights in torch's own layers."""
    layers = []
    for layer in encoder.layers:
        copy = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        copy.load_state_dict(layer.state_dict())
        layers.append(copy)
    return layers


def encoded(encoder, padded, mask, tokens):
    packing = Packing(mask)
    return encoder(tokens, encoder.memory(packing.pack(padded), packing))


def test_with_one_layer_it_is_the_bidirectional_encoder_with_the_token_at_the_end():
    encoder, padded, mask, tokens = made(1)
    (layer,) = torchs(encoder)
    result = encoded(encoder, padded, mask, tokens)
    for row in range(len(mask)):
        for number in range(3):
            sequence = torch.cat([padded[row][mask[row]], tokens[row, number].unsqueeze(0)]).unsqueeze(0)
            torch.testing.assert_close(result[row, number], layer(sequence)[0, -1])


@pytest.mark.parametrize("n_layers", [0, 2, 3])
def test_with_more_layers_the_sequence_does_not_attend_to_the_token(n_layers):
    encoder, padded, mask, tokens = made(n_layers)
    result = encoded(encoder, padded, mask, tokens)
    for row in range(len(mask)):
        for number in range(3):
            states = torch.cat([padded[row][mask[row]], tokens[row, number].unsqueeze(0)]).unsqueeze(0)
            hidden = torch.zeros(states.shape[1], states.shape[1], dtype=torch.bool)
            hidden[:-1, -1] = True
            for layer in torchs(encoder):
                states = layer(states, src_mask=hidden)
            torch.testing.assert_close(result[row, number], states[0, -1])


def test_gradients_equal_torchs():
    encoder, padded, mask, tokens = made(1, (5, 5))
    (layer,) = torchs(encoder)
    padded.requires_grad_(), tokens.requires_grad_()
    sequences = torch.cat([padded.repeat_interleave(3, 0), tokens.reshape(-1, 1, 8)], dim=1)
    results = (encoded(encoder, padded, mask, tokens).flatten(0, 1), layer(sequences)[:, -1])
    found, expected = (
        torch.autograd.grad(result.square().sum(), [padded, tokens, *module.parameters()])
        for result, module in zip(results, (encoder, layer), strict=True)
    )
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_shared_tokens_are_those_of_each_row(n_layers):
    encoder, padded, mask, tokens = made(n_layers)
    shared = encoded(encoder, padded, mask, tokens[:1])
    assert shared.shape == tokens.shape
    torch.testing.assert_close(shared, encoded(encoder, padded, mask, tokens[:1].expand_as(tokens)))


@pytest.mark.parametrize("training", [True, False])
def test_without_any_event(training):
    encoder, padded, mask, tokens = made(2, (0, 0, 0, 0))
    encoder.train(training)
    result = encoded(encoder, padded, mask, tokens)
    assert torch.isfinite(result).all()
    result.sum().backward()
    assert all(parameter.grad is None or torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())
    torch.testing.assert_close(encoded(encoder, padded * 3, mask, tokens), result)


def test_padded_places_change_nothing():
    encoder, padded, mask, tokens = made(2)
    other = padded.where(mask.unsqueeze(-1), torch.full_like(padded, 7.0))
    torch.testing.assert_close(encoded(encoder, other, mask, tokens), encoded(encoder, padded, mask, tokens))

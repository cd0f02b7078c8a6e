import copy

import torch
from torch import nn

from recbole_gserec.layers.dropout import ModuleDict, ModuleList


def pair():
    """The same two layers in torch's containers and in ours."""
    layers = [nn.Linear(3, 2), nn.Linear(3, 2)]
    stock = nn.ModuleDict({"list": nn.ModuleList(layers), "dict": nn.ModuleDict({"a": layers[0], "b": layers[1]})})
    ours = ModuleDict({"list": ModuleList(layers), "dict": ModuleDict({"a": layers[0], "b": layers[1]})})
    return stock, ours


def test_state_and_text_are_those_of_torchs_own():
    stock, ours = pair()
    assert list(stock.state_dict()) == list(ours.state_dict())
    assert repr(stock) == repr(ours)
    ours.load_state_dict(stock.state_dict())


def test_behaves_as_torchs_own():
    _, ours = pair()
    layers = ours["list"]
    assert isinstance(layers, nn.ModuleList) and isinstance(ours["dict"], nn.ModuleDict)
    assert layers[-1] is list(layers)[1] and len(layers[:1]) == 1 and layers[:1][0] is layers[0]
    assert dict(ours["dict"].items()) == {"a": layers[0], "b": layers[1]}
    copied = copy.deepcopy(ours)
    assert torch.equal(copied["list"][0].weight, layers[0].weight) and copied["list"][0] is not layers[0]

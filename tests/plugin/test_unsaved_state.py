"""What a model changes beside its weights, and nothing else, goes into a file and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recbole_gserec.plugin.resume import UnsavedState


class Counting(nn.Module):
    """Has an attribute of every kind."""

    def __init__(self, weight: float):
        super().__init__()
        self.inner = nn.Dropout(weight)
        self.weight, self.steps, self.started, self.cache, self.other = weight, 0, False, None, [1]
        self.constant, self.losses = torch.ones(3), torch.zeros(2)
        self.graph = torch.eye(2).to_sparse()
        self.order, self.names = np.arange(4), np.array([{1}, {2}])

    def train_a_bit(self) -> None:
        """One step."""
        self.steps += 1
        self.started = True
        self.losses[1] = 0.5
        self.graph = 2 * self.graph
        self.cache = torch.arange(10.0)[2:4]
        self.order[:] = self.order[::-1].copy()
        self.eval()


def test_only_what_has_changed_is_kept(tmp_path):
    model = Counting(0.5)
    state = UnsavedState(model)
    assert state.changed() == {}
    model.train_a_bit()
    torch.save(state.changed(), tmp_path / "state.pth")
    changed = torch.load(tmp_path / "state.pth", weights_only=True)
    assert set(changed) == {".steps", ".started", ".losses", ".graph", ".cache", ".order"}
    assert changed[".cache"].untyped_storage().nbytes() == 8
    # A model with other settings keeps them.
    other = Counting(0.25)
    state = UnsavedState(other)
    state.take(changed, torch.device("cpu"))
    assert (other.steps, other.started, other.weight, other.inner.p) == (1, True, 0.25, 0.25)
    assert other.losses.tolist() == [0, 0.5] and other.order.tolist() == [3, 2, 1, 0]
    assert torch.equal(other.graph.to_dense(), 2 * torch.eye(2))
    # Interrupted once more, it keeps the same.
    assert set(state.changed()) == set(changed)

"""Learned windows that divide a history into sessions, for UnifiedSSR."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.masked_softmax import masked_softmax
from recbole_gserec.layers.packing import Packing


class SessionWindows(nn.Module):
    r"""The mean state within each of K windows whose centres and widths follow from the history.

    With a history of n events on [0, 1], window k lies around its anchor :math:`a_k = (k + 0.5) / K`:

    .. math::
        [s_k, e_k] = a_k + \frac{\tanh(\Delta x_k) \mp \mathrm{relu}(\tanh(\Delta w_k + b))}{K}, \quad
        (\Delta x_k, \Delta w_k) = W\, \mathrm{relu}(\bar h_k)

    :math:`\bar h_k` is the mean state of the k-th part of the history. Windows begin with half the width that would
    leave no gap. The authors' code compares positions with the bounds, which gives W and b no gradient; here an event
    belongs to a window with :math:`\sigma((t - n s_k) / \tau)\, \sigma((n e_k - t) / \tau)`, which also never leaves a
    window empty, and n is the number of real events and not the padded length.

    Args:
        size: Embedding size d.
        n_windows: Windows K.
        softness: :math:`\tau`, in events.

    Shapes:
        - **states**: packed ``[T, d]``, result ``[B, K, d]``; 0 for rows without events.
    """

    def __init__(self, size: int, n_windows: int, softness: float):
        super().__init__()
        self.n_windows, self.softness = n_windows, softness
        self.offsets = nn.Linear(size, 2, bias=False)
        self.width_bias = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.offsets.weight)
        # tanh(b) is then 1/4.
        nn.init.constant_(self.width_bias, math.log(math.sqrt(5 / 3)))

    def forward(self, states: Tensor, packing: Packing) -> Tensor:
        padded, counts = packing.unpack(states), packing.counts.unsqueeze(1)
        windows = torch.arange(self.n_windows, device=states.device)
        positions = torch.arange(packing.mask.shape[1], device=states.device)
        # Parts overlap if n is not a multiple of K, as in adaptive average pooling, so that none is empty.
        starts = windows * counts // self.n_windows
        ends = -(-(windows + 1) * counts // self.n_windows)
        parts = ((positions >= starts.unsqueeze(2)) & (positions < ends.unsqueeze(2))).to(states.dtype)
        means = parts @ padded / parts.sum(2, keepdim=True).clamp_min(1)
        starts, ends = (bound.unsqueeze(2) * counts.unsqueeze(2) for bound in self._bounds(means))
        inside = F.logsigmoid((positions + 0.5 - starts) / self.softness)
        inside = inside + F.logsigmoid((ends - positions - 0.5) / self.softness)
        # The softmax of a logarithm divides by the sum, however small.
        return masked_softmax(inside, packing.mask.unsqueeze(1)) @ padded

    def _bounds(self, means: Tensor) -> tuple[Tensor, Tensor]:
        """Return start and end of each window as fractions of the history, ``[B, K]``, from ``[B, K, d]``."""
        shift, width = self.offsets(means.relu()).unbind(-1)
        shift, half_width = shift.tanh(), (width + self.width_bias).tanh().relu()
        anchors = torch.arange(self.n_windows, device=means.device) + 0.5
        bounds = (anchors + shift - half_width, anchors + shift + half_width)
        return tuple((bound / self.n_windows).clamp(0, 1) for bound in bounds)

"""Rows of different lengths in two flat tensors, and windows into them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Row *i* is ``values[offsets[i]:offsets[i + 1]]``.

    Shapes:
        - **values**: ``[n_values]``, any integer dtype.
        - **offsets**: ``[n_rows + 1]``, ``int64``, starts with 0.
    """

    values: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Tensor) -> Ragged:
        """Return the given rows, in the given order; ``rows`` is ``[n]``."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        within = torch.arange(int(offsets[-1]), device=offsets.device) - offsets[:-1].repeat_interleave(lengths)
        return Ragged(self.values[starts.repeat_interleave(lengths) + within], offsets)

    def to(self, device: torch.device | str) -> Ragged:
        return Ragged(self.values.to(device), self.offsets.to(device))


def last_window(starts: Tensor, ends: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last ``size`` indices of each range ``[start, end)``: oldest first, padding at the end.

    The width is that of the longest window in the batch (at least 1), so short histories need little memory.

    Args:
        starts: ``[...]`` first index of each range.
        ends: ``[...]`` index after the last.
        size: Maximum width of a window.

    Returns:
        Indices ``[..., width]`` (0 for padding), their mask ``[..., width]`` (False for padding) and the lengths
        ``[...]``.
    """
    lengths = (ends - starts).clamp(0, size)
    width = max(int(lengths.max()) if lengths.numel() else 0, 1)
    position = torch.arange(width, device=ends.device)
    mask = position < lengths.unsqueeze(-1)
    indices = (ends - lengths).unsqueeze(-1) + position
    return indices.where(mask, torch.zeros_like(indices)), mask, lengths


def gather_padded(values: Tensor, indices: Tensor, mask: Tensor) -> Tensor:
    """``values[indices]`` as ``int64``, 0 where ``mask`` is False; ``values`` may be empty."""
    if len(values) == 0:
        return torch.zeros_like(indices)
    return values[indices].long() * mask

"""Random views of sequences, for CL4SRec: crop, mask and reorder.

Sequences ``[B, N]`` hold ids, oldest first, and 0 after their ``lengths`` ``[B]``. Nothing is changed in place, and
random numbers are torch's. A sequence of a single item stays unchanged.
"""

import torch
from torch import Tensor, nn


def crop(sequences: Tensor, lengths: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Move a random segment of ``floor(ratio * length)`` items, at least one, to the front; return its length too."""
    kept = _share(lengths, ratio).maximum(lengths.clamp_max(1)).where(lengths > 1, lengths)
    positions = _positions(sequences)
    taken = (_random_start(lengths - kept) + positions).clamp_max(sequences.shape[1] - 1)
    return sequences.gather(1, taken) * (positions < kept.unsqueeze(1)), kept


def mask(sequences: Tensor, lengths: Tensor, ratio: float, token: int) -> tuple[Tensor, Tensor]:
    """Replace ``floor(ratio * length)`` random items by a token; return the unchanged length too."""
    is_padding = _positions(sequences) >= lengths.unsqueeze(1)
    draws = torch.rand(sequences.shape, device=sequences.device).masked_fill(is_padding, 2)
    ranks = draws.argsort(dim=1).argsort(dim=1)
    return sequences.masked_fill(ranks < _share(lengths, ratio).unsqueeze(1), token), lengths


def reorder(sequences: Tensor, lengths: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Shuffle a random segment of ``floor(ratio * length)`` items; return the unchanged length too."""
    moved, positions = _share(lengths, ratio), _positions(sequences)
    starts = _random_start(lengths - moved)
    is_moved = (positions >= starts) & (positions < starts + moved.unsqueeze(1))
    # Sorting by these keys shuffles the segment and keeps all other items in position.
    keys = starts + torch.rand(sequences.shape, device=sequences.device) * moved.unsqueeze(1)
    return sequences.gather(1, keys.where(is_moved, positions).argsort(dim=1, stable=True)), lengths


class SequenceAugmentation(nn.Module):
    """Creates two views of each sequence, by two different operators drawn at random.

    Args:
        crop_ratio: Share of a sequence that :func:`crop` keeps.
        mask_ratio: Share that :func:`mask` replaces.
        reorder_ratio: Share that :func:`reorder` shuffles.
        token: Token that :func:`mask` inserts.

    Shapes:
        - **sequences**: ``[B, N]``, **lengths**: ``[B]``; result two pairs of the same shapes.
    """

    def __init__(self, crop_ratio: float, mask_ratio: float, reorder_ratio: float, token: int):
        super().__init__()
        self.crop_ratio, self.mask_ratio, self.reorder_ratio = crop_ratio, mask_ratio, reorder_ratio
        self.token = token

    def forward(self, sequences: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        first = torch.randint(3, lengths.shape, device=lengths.device)
        second = (first + torch.randint(1, 3, lengths.shape, device=lengths.device)) % 3
        return self._view(first, sequences, lengths), self._view(second, sequences, lengths)

    def _view(self, operators: Tensor, sequences: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        views = (
            crop(sequences, lengths, self.crop_ratio),
            mask(sequences, lengths, self.mask_ratio, self.token),
            reorder(sequences, lengths, self.reorder_ratio),
        )
        rows = torch.arange(len(sequences), device=sequences.device)
        augmented, new_lengths = (torch.stack(part)[operators, rows] for part in zip(*views, strict=True))
        return augmented, new_lengths


def _share(lengths: Tensor, ratio: float) -> Tensor:
    """Return ``floor(ratio * length)``, 0 for a single item."""
    # 0.29 * 100 is less than 29 in floating point.
    return (lengths.double() * ratio + 1e-9).long() * (lengths > 1)


def _positions(sequences: Tensor) -> Tensor:
    return torch.arange(sequences.shape[1], device=sequences.device)


def _random_start(last: Tensor) -> Tensor:
    """Draw a whole number from 0 to ``last`` for each row, ``[B, 1]``."""
    return (torch.rand(last.shape, device=last.device) * (last + 1)).long().unsqueeze(1)

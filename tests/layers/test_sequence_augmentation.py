"""Crop, mask and reorder, one row at a time."""

import math

import pytest
import torch

from recbole_gserec.layers.sequence_augmentation import SequenceAugmentation, crop, mask, reorder

WIDTH, TOKEN = 12, 99
OPERATORS = {
    "crop": lambda sequences, lengths, ratio: crop(sequences, lengths, ratio),
    "mask": lambda sequences, lengths, ratio: mask(sequences, lengths, ratio, TOKEN),
    "reorder": lambda sequences, lengths, ratio: reorder(sequences, lengths, ratio),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def all_lengths(n=200):
    """Sequences of distinct items, ``n`` of each length from 1 to the width."""
    lengths = torch.arange(1, WIDTH + 1).repeat(n)
    sequences = torch.stack([torch.randperm(50)[:WIDTH] + 1 for _ in lengths])
    return sequences * (torch.arange(WIDTH) < lengths.unsqueeze(1)), lengths


def rows(sequences, lengths):
    """Lists of what is real; all else is padding."""
    assert not sequences[torch.arange(sequences.shape[1]) >= lengths.unsqueeze(1)].any()
    return [sequence[:length].tolist() for sequence, length in zip(sequences, lengths.tolist(), strict=True)]


def share(length, ratio):
    return 0 if length == 1 else math.floor(ratio * length + 1e-9)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_a_crop_is_a_stretch_of_its_length(ratio):
    sequences, lengths = all_lengths()
    starts = set()
    for before, after in zip(rows(sequences, lengths), rows(*crop(sequences, lengths, ratio)), strict=True):
        start = before.index(after[0])
        assert after == before[start : start + max(1, share(len(before), ratio))]
        if len(before) == WIDTH:
            starts.add(start)
    assert starts == set(range(WIDTH - max(1, share(WIDTH, ratio)) + 1))


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_a_mask_replaces_as_many_as_it_should(ratio):
    sequences, lengths = all_lengths()
    hidden = torch.zeros(WIDTH)
    for before, after in zip(rows(sequences, lengths), rows(*mask(sequences, lengths, ratio, TOKEN)), strict=True):
        is_hidden = [item == TOKEN for item in after]
        assert sum(is_hidden) == share(len(before), ratio)
        assert all(a == b for a, b, h in zip(after, before, is_hidden, strict=True) if not h)
        if len(before) == WIDTH:
            hidden += torch.tensor(is_hidden)
    # Any place is hidden as often as any other: the bound is five standard deviations.
    chance = share(WIDTH, ratio) / WIDTH
    assert (hidden / 200 - chance).abs().max() <= 5 * math.sqrt(chance * (1 - chance) / 200)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_reordering_keeps_all_items_and_moves_one_stretch(ratio):
    sequences, lengths = all_lengths()
    moved = torch.zeros(WIDTH, dtype=torch.bool)
    for before, after in zip(rows(sequences, lengths), rows(*reorder(sequences, lengths, ratio)), strict=True):
        assert sorted(after) == sorted(before)
        positions = [position for position in range(len(before)) if before[position] != after[position]]
        assert not positions or positions[-1] - positions[0] < share(len(before), ratio)
        if len(before) == WIDTH:
            moved[positions] = True
    assert moved.all() == (share(WIDTH, ratio) > 1)


def test_every_order_of_a_stretch_is_as_likely():
    sequences, lengths = torch.tensor([[1, 2, 3, 0]]).repeat(6000, 1), torch.full((6000,), 3)
    orders, counts = reorder(sequences, lengths, 1.0)[0].unique(dim=0, return_counts=True)
    assert len(orders) == 6 and (counts - 1000).abs().max() < 150


@pytest.mark.parametrize("name", OPERATORS)
def test_nothing_is_changed_in_place(name):
    sequences, lengths = all_lengths()
    before = sequences.clone(), lengths.clone()
    # A view of a larger table, as a slice of a batch is.
    result, _ = OPERATORS[name](sequences[:], lengths[:], 0.6)
    assert torch.equal(sequences, before[0]) and torch.equal(lengths, before[1])
    assert not torch.equal(result, sequences)


@pytest.mark.parametrize("name", OPERATORS)
def test_single_items_stay(name):
    sequences, lengths = torch.tensor([[7, 0, 0]] * 50), torch.ones(50, dtype=torch.long)
    result, n = OPERATORS[name](sequences, lengths, 1.0)
    assert torch.equal(result, sequences) and torch.equal(n, lengths)


def test_shares_are_those_of_decimal_numbers():
    lengths = torch.arange(2, 101)
    sequences = torch.arange(1, 101).repeat(99, 1)
    # 0.29 * 100 is 28.999999999999996.
    for percent in range(101):
        expected = (percent * lengths // 100).clamp_min(1)
        assert torch.equal(crop(sequences, lengths, percent / 100)[1], expected)


def test_views_are_made_by_two_different_operators():
    sequences, lengths = torch.arange(1, 11).repeat(6000, 1), torch.full((6000,), 10)
    augmentation = SequenceAugmentation(0.6, 0.3, 0.6, TOKEN)
    kinds = []
    for view, n in augmentation(sequences, lengths):
        cropped, masked = n == 6, (view == TOKEN).any(1)
        assert (n[~cropped] == 10).all() and not (cropped & masked).any()
        assert ((view == TOKEN).sum(1)[masked] == 3).all()
        kinds.append(torch.where(cropped, 0, torch.where(masked, 1, 2)))
    pairs, counts = torch.stack(kinds).unique(dim=1, return_counts=True)
    assert pairs.T.tolist() == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]
    assert (counts - 1000).abs().max() < 150


def test_views_follow_from_torchs_generator():
    sequences, lengths = all_lengths()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(torch.cat([view for view, _ in SequenceAugmentation(0.6, 0.3, 0.6, TOKEN)(sequences, lengths)]))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_gserec.data.events import Ragged, gather_padded, last_window


def ragged(rows):
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    return Ragged(torch.tensor(sum(rows, []), dtype=torch.int32), torch.tensor(offsets))


def lists(values):
    return [values.values[a:b].tolist() for a, b in zip(values.offsets[:-1], values.offsets[1:], strict=True)]


some_rows = st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=1, max_size=6)


@settings(deadline=None)
@given(some_rows, st.data())
def test_take_is_indexing(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    taken = ragged(rows).take(torch.tensor(chosen, dtype=torch.int64))
    assert lists(taken) == [rows[index] for index in chosen]
    assert len(taken) == len(chosen)
    assert taken.values.dtype == torch.int32 and taken.offsets.dtype == torch.int64


def test_take_of_nothing_and_of_empty_rows():
    values = ragged([[], [1, 2], []])
    assert lists(values.take(torch.tensor([], dtype=torch.int64))) == []
    assert lists(values.take(torch.tensor([2, 0]))) == [[], []]
    assert len(values) == 3


def test_to_moves_both_tensors():
    moved = ragged([[1]]).to("meta")
    assert (moved.values.device.type, moved.offsets.device.type) == ("meta", "meta")


ranges = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 7)), min_size=1, max_size=6)


@settings(deadline=None)
@given(ranges, st.integers(0, 8))
def test_a_window_is_the_end_of_its_range(ranges, size):
    starts = torch.tensor([start for start, _ in ranges])
    lengths = torch.tensor([length for _, length in ranges])
    indices, mask, kept = last_window(starts, starts + lengths, size)
    expected = [list(range(start, start + length))[max(0, length - size) :] for start, length in ranges]
    assert indices.shape == mask.shape == (len(ranges), max(1, *map(len, expected)))
    assert kept.tolist() == [len(positions) for positions in expected]
    for row, positions in enumerate(expected):
        assert indices[row, : len(positions)].tolist() == positions
        assert mask[row].tolist() == [True] * len(positions) + [False] * (mask.shape[1] - len(positions))
    assert (indices[~mask] == 0).all()


def test_windows_of_windows():
    starts = torch.tensor([[0, 4], [6, 6]])
    ends = torch.tensor([[3, 5], [6, 9]])
    indices, mask, lengths = last_window(starts, ends, 2)
    assert indices.tolist() == [[[1, 2], [4, 0]], [[0, 0], [7, 8]]]
    assert mask.tolist() == [[[True, True], [True, False]], [[False, False], [True, True]]]
    assert lengths.tolist() == [[2, 1], [0, 2]]


def test_no_rows_give_a_window_of_width_one():
    nothing = torch.zeros(0, dtype=torch.int64)
    indices, mask, lengths = last_window(nothing, nothing, 3)
    assert (indices.shape, mask.shape, lengths.shape) == ((0, 1), (0, 1), (0,))


def test_gather_pads_with_zero():
    values = torch.tensor([7, 8, 9], dtype=torch.int32)
    mask = torch.tensor([[True, True], [True, False]])
    gathered = gather_padded(values, torch.tensor([[2, 0], [1, 0]]), mask)
    assert gathered.tolist() == [[9, 7], [8, 0]]
    assert gathered.dtype == torch.int64


def test_gather_from_nothing():
    indices = torch.zeros(2, 1, dtype=torch.int64)
    gathered = gather_padded(torch.zeros(0, dtype=torch.int32), indices, torch.zeros(2, 1, dtype=torch.bool))
    assert gathered.tolist() == [[0], [0]]

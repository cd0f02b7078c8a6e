import pytest
import torch

from recbole_gserec.layers.packing import Packing

SPARSE = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])
DENSE = torch.tensor([[True, True, True], [True, True, True], [True, True, False]])


def test_sparse_rows_are_packed():
    padded = torch.arange(18.0).view(3, 3, 2) + 1
    packing = Packing(SPARSE)
    packed = packing.pack(padded)
    assert packed.tolist() == [[1, 2], [3, 4], [13, 14]]
    assert packing.rows.tolist() == [0, 0, 2] and packing.columns.tolist() == [0, 1, 0]
    torch.testing.assert_close(packing.unpack(packed)[SPARSE], padded[SPARSE])


def test_dense_rows_need_no_copy():
    padded, packing = torch.randn(3, 3, 4), Packing(DENSE)
    packed = packing.pack(padded)
    assert packed.data_ptr() == padded.data_ptr() == packing.unpack(packed).data_ptr()
    assert packing.rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and packing.columns.tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize("mask", [SPARSE, DENSE])
def test_mean_of_each_row_leaves_padding_out(mask):
    torch.manual_seed(0)
    padded, packing = torch.randn(3, 3, 4), Packing(mask)
    padded[~mask] = 1e6
    means = packing.mean(packing.pack(padded))
    for row in range(3):
        expected = padded[row, mask[row]].mean(0) if mask[row].any() else torch.zeros(4)
        torch.testing.assert_close(means[row], expected)


@pytest.mark.parametrize("mask", [SPARSE, DENSE, torch.tensor([[True], [True], [False]])])
def test_last_event_of_each_row(mask):
    torch.manual_seed(0)
    padded, packing = torch.randn(3, mask.shape[1], 4), Packing(mask)
    last = packing.last(packing.pack(padded))
    for row in range(3):
        expected = padded[row, mask[row]][-1] if mask[row].any() else torch.zeros(4)
        torch.testing.assert_close(last[row], expected)

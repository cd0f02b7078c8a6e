import torch

from recbole_gserec.layers.packing import Packing

MASK = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])


def test_round_trip_zeroes_the_padding():
    padded = torch.arange(18.0).view(3, 3, 2) + 1
    packing = Packing(MASK)
    packed = packing.pack(padded)
    assert packed.tolist() == [[1, 2], [3, 4], [13, 14]]
    assert packing.rows.tolist() == [0, 0, 2] and packing.columns.tolist() == [0, 1, 0]
    torch.testing.assert_close(packing.unpack(packed), padded * MASK.unsqueeze(-1))


def test_full_mask_needs_no_copy():
    padded = torch.randn(2, 3, 4)
    packing = Packing(torch.ones(2, 3, dtype=torch.bool))
    assert packing.pack(padded).data_ptr() == padded.data_ptr()
    torch.testing.assert_close(packing.unpack(packing.pack(padded)), padded)


def test_mean_of_each_row():
    packed = torch.tensor([[1.0, 3.0], [3.0, 5.0], [7.0, 7.0]])
    assert Packing(MASK).mean(packed).tolist() == [[2, 4], [0, 0], [7, 7]]

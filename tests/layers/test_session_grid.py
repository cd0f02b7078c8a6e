import pytest
import torch

from recbole_gserec.layers.session import SessionGrid


@pytest.mark.parametrize("length", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("counts", [[7, 0, 3, 5], [0, 0], [9], [1, 2]])
def test_sessions_are_counted_from_the_end(counts, length):
    padded = torch.arange(10) < torch.tensor(counts).unsqueeze(1)
    grid = SessionGrid(padded, length)
    assert grid.n_sessions == max(2, -(-max(counts) // length))
    for row, count in enumerate(counts):
        events = list(range(count))
        # Sessions cut off one by one from the end.
        sessions = []
        while events:
            sessions.insert(0, events[-length:])
            events = events[:-length]
        sessions = [[]] * (grid.n_sessions - len(sessions)) + sessions
        columns, mask = (part[row].view(-1, length) for part in (grid.columns, grid.mask))
        assert [column[real].tolist() for column, real in zip(columns, mask, strict=True)] == sessions
        # The most recent event of a session is its last place.
        assert all(real.tolist() == sorted(real.tolist()) for real in mask)
    assert (grid.columns >= 0).all() and (grid.columns < 10).all()


def test_width_of_the_padding_changes_nothing():
    padded = torch.arange(4) < torch.tensor([[4], [1]])
    narrow, wide = SessionGrid(padded, 3), SessionGrid(torch.nn.functional.pad(padded, (0, 5)), 3)
    assert torch.equal(narrow.mask, wide.mask) and torch.equal(narrow.columns, wide.columns)

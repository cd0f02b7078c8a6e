import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_gserec.layers.quantization import Codebook
from recbole_gserec.preprocess import codebook_metrics
from recbole_gserec.preprocess.codebook_metrics import colliding_groups, collision_rate, separate_collisions


@pytest.fixture
def codebook():
    codebook = Codebook(8, 3)
    codebook.initialise(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    return codebook


def nearest(prefixes, residuals, codebook) -> np.ndarray:
    last = codebook.nearest(residuals).numpy()
    return np.column_stack([prefixes, last]).astype(np.int64)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=30))
def test_groups_are_those_a_dictionary_finds(rows):
    codes = np.array(rows, dtype=np.int64).reshape(-1, 2)
    expected: dict[tuple, list[int]] = {}
    for index, row in enumerate(rows):
        expected.setdefault(row, []).append(index)
    blocks = colliding_groups(codes)
    found = [group for block in blocks for group in block.tolist()]
    assert sorted(found) == sorted(group for group in expected.values() if len(group) > 1)
    assert len({block.shape[1] for block in blocks}) == len(blocks)


def test_users_who_differ_are_separated(codebook):
    residuals = codebook.weight[5].detach() + 0.01 * torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    codes = nearest([[0, 1]] * 6, residuals, codebook)
    assert collision_rate(codes) == pytest.approx(5 / 6)
    before = codes.copy()
    separated = separate_collisions(codes, residuals, codebook)
    assert collision_rate(separated) == 0
    assert (separated[:, :-1] == before[:, :-1]).all()
    assert (codes == before).all()


def test_users_without_a_collision_keep_their_codes(codebook):
    residuals = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    codes = nearest(np.arange(40).reshape(-1, 1) // 4, residuals, codebook)
    colliding = np.unique(np.concatenate([block.ravel() for block in colliding_groups(codes)]))
    alone = np.setdiff1d(np.arange(40), colliding)
    assert len(alone) and len(colliding)
    separated = separate_collisions(codes, residuals, codebook, n_rounds=1)
    assert (separated[alone] == codes[alone]).all()
    assert collision_rate(separated) < collision_rate(codes)


def test_prefixes_are_coded_apart(codebook):
    generator = torch.Generator().manual_seed(2)
    residuals = codebook.weight[5].detach() + 0.01 * torch.randn(9, 3, generator=generator)
    prefixes = np.array([[0], [1], [2], [0], [1], [2], [0], [1], [0]])
    together = separate_collisions(nearest(prefixes, residuals, codebook), residuals, codebook)
    for prefix in range(3):
        rows = np.flatnonzero(prefixes[:, 0] == prefix)
        alone = separate_collisions(nearest(prefixes[rows], residuals[rows], codebook), residuals[rows], codebook)
        assert (together[rows] == alone).all()


def test_chunks_do_not_change_the_result(codebook, monkeypatch):
    residuals = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    codes = nearest(np.zeros((200, 1)) + np.arange(200)[:, None] % 20, residuals, codebook)
    whole = separate_collisions(codes, residuals, codebook, n_rounds=3)
    monkeypatch.setattr(codebook_metrics, "_DISTANCES_PER_CHUNK", 1)
    assert (separate_collisions(codes, residuals, codebook, n_rounds=3) == whole).all()


def test_equal_users_stay_on_their_nearest_code(codebook, monkeypatch):
    residuals = torch.randn(1, 3, generator=torch.Generator().manual_seed(1)).repeat(5, 1)
    codes = nearest([[3]] * 5, residuals, codebook)
    rounds = []
    monkeypatch.setattr(codebook_metrics, "colliding_groups", lambda c: rounds.append(c) or colliding_groups(c))
    assert (separate_collisions(codes, residuals, codebook) == codes).all()
    assert len(rounds) == 1


def test_equal_users_leave_room_for_a_third(codebook):
    residuals = codebook.weight[5].detach() + torch.tensor([[0.01, 0, 0], [0.01, 0, 0], [0, 0.01, 0]])
    separated = separate_collisions(nearest([[0]] * 3, residuals, codebook), residuals, codebook)
    assert separated[0, -1] == separated[1, -1] != separated[2, -1]


def test_the_result_never_has_more_collisions(codebook):
    for seed in range(5):
        # More users to a prefix than there are codes.
        residuals = torch.randn(60, 3, generator=torch.Generator().manual_seed(seed))
        codes = nearest(np.arange(60).reshape(-1, 1) % 4, residuals, codebook)
        rates = [collision_rate(separate_collisions(codes, residuals, codebook, n_rounds=n)) for n in (0, 1, 5, 20)]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] == collision_rate(codes)
        assert rates[-1] >= 1 - 4 * 8 / 60 - 1e-9


def test_no_rounds_and_no_collisions_change_nothing(codebook):
    residuals = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    crowded, lonely = nearest([[0]] * 8, residuals, codebook), nearest(np.arange(8)[:, None], residuals, codebook)
    assert (separate_collisions(crowded, residuals, codebook, n_rounds=0) == crowded).all()
    assert (separate_collisions(lonely, residuals, codebook) == lonely).all()

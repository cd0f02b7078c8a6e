from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_gserec.data.search_files import FlatSequences, check_users, user_codes
from recbole_gserec.errors import DataError

AGAIN = "Make the codes again: gserec preprocess --dataset d"


def sequences(*cells):
    lists = [cell.split() for cell in cells]
    frame = pd.DataFrame({"codes": pd.Series([code for codes in lists for code in codes], dtype="category")})
    return FlatSequences(frame, np.cumsum([0, *map(len, lists)]))


def test_codes_by_user():
    # Rows of the file are users 3, 1 and 2; user 4 has no codes.
    codes = user_codes("d.code", np.array([3, 1, 2, 4]), 5, sequences("a x", "b x", "a y", ""), "search", AGAIN)
    assert codes.codes.shape == (5, 2) and codes.codes.dtype == torch.int64
    padding, one, two, three, four = codes.codes.tolist()
    assert padding == four == [0, 0]
    assert two[0] == three[0] != one[0]
    assert one[1] == three[1] != two[1]
    # Four codes, numbered from 1 without gaps.
    assert codes.n_codes == 4
    assert codes.codes.unique().tolist() == [0, 1, 2, 3, 4]


def test_equal_names_on_different_levels_are_different_codes():
    codes = user_codes("d.code", np.array([1, 2]), 3, sequences("7 7 8", "8 7 7"), "search", AGAIN)
    first, second = codes.codes[1:].tolist()
    assert len(set(first)) == 3 and len(set(second)) == 3
    assert [a == b for a, b in zip(first, second, strict=True)] == [False, True, False]
    assert codes.n_codes == 5


def test_a_random_file_against_a_dictionary():
    rng = np.random.default_rng(0)
    cells = [" ".join(map(str, rng.integers(4, size=3))) if row % 4 else "" for row in range(30)]
    users = rng.permutation(30) + 1
    codes = user_codes("d.code", users, 31, sequences(*cells), "recommendation", AGAIN)
    ids = {}
    for user, cell in zip(users, cells, strict=True):
        for level, name in enumerate(cell.split()):
            code = codes.codes[user, level].item()
            assert ids.setdefault((level, name), code) == code
        assert cell or codes.codes[user].tolist() == [0, 0, 0]
    assert sorted(ids.values()) == list(range(1, codes.n_codes + 1))


def test_nodes_of_prefixes_by_hand():
    # Users 1 to 7; user 4 has no codes, and user 0 is padding.
    cells = ["a x p", "a x q", "a y p", "", "b x p", "c y q", "c y q"]
    codes = user_codes("d.code", np.arange(1, 8), 8, sequences(*cells), "search", AGAIN)
    nodes = codes.by_prefix()
    # Shared: (a) by 1, 2, 3; (c) by 6, 7; (a x) by 1, 2; (c y) by 6, 7; (c y q) by 6, 7.
    # Alone: (a y), (b), (b x) although others have the code x, and all of length 3 but (c y q).
    assert nodes.codes.tolist() == [
        [0, 0, 0],
        [1, 3, 0],
        [1, 3, 0],
        [1, 0, 0],
        [0, 0, 0],
        [0, 0, 0],
        [2, 4, 5],
        [2, 4, 5],
    ]
    assert nodes.n_codes == 5 and nodes.codes.dtype == torch.int64


def test_where_nobody_shares_a_prefix_there_are_no_nodes():
    nodes = user_codes("d.code", np.array([1, 2]), 3, sequences("a x", "b x"), "search", AGAIN).by_prefix()
    assert nodes.codes.tolist() == [[0, 0]] * 3 and nodes.n_codes == 0


@pytest.mark.parametrize("seed", range(5))
def test_nodes_of_prefixes_against_plain_counts(seed):
    rng = np.random.default_rng(seed)
    rows = [tuple(rng.integers(1 + seed, size=4).tolist()) if row % 4 else () for row in range(60)]
    cells = [" ".join(map(str, row)) for row in rows]
    nodes = user_codes("d.code", np.arange(1, 61), 61, sequences(*cells), "search", AGAIN).by_prefix()
    prefixes = [[row[:length] for length in range(1, 5)] if row else [()] * 4 for row in rows]
    counts = Counter(prefix for row in prefixes for prefix in row if prefix)
    ids = {}
    for row, found in zip(prefixes, nodes.codes[1:].tolist(), strict=True):
        for prefix, node in zip(row, found, strict=True):
            assert (node > 0) == (counts[prefix] > 1)
            assert not node or ids.setdefault(prefix, node) == node
    assert sorted(ids.values()) == list(range(1, nodes.n_codes + 1))


def test_a_row_of_another_length_is_named(tmp_path):
    path = tmp_path / "d.code"
    path.write_text("header\n\nu\n\nv\n")
    with pytest.raises(DataError, match="the row has 1 search codes, but others have 2. Make the codes again") as error:
        user_codes(path, np.array([1, 2]), 3, sequences("a b", "a"), "search", AGAIN)
    assert (error.value.path, error.value.line) == (path, 5)
    assert str(error.value).endswith("gserec preprocess --dataset d")


@pytest.mark.parametrize("cells", [[], ["", ""]])
def test_a_side_without_codes(cells):
    with pytest.raises(DataError, match="d.code: no recommendation codes in it. Make the codes again"):
        user_codes("d.code", np.arange(len(cells)) + 1, 3, sequences(*cells), "recommendation", AGAIN)


def check(coded, known):
    check_users("d.code", np.array(coded, bool), np.array(known, bool), np.array(["[PAD]", "u", "v", "w"]), AGAIN)


def test_users_must_be_those_of_the_dataset():
    check([0, 1, 1, 0], [0, 1, 1, 0])
    # The padding user is no user.
    check([1, 1, 1, 1], [0, 1, 1, 1])
    check([0, 1, 1, 1], [1, 1, 1, 1])
    with pytest.raises(
        DataError, match=r"d.code: 2 of the dataset's users have no codes \(first: 'v'\). Make the codes"
    ):
        check([0, 1, 0, 0], [0, 1, 1, 1])
    with pytest.raises(DataError, match=r"1 users are in neither .inter nor .search \(first: 'w'\). Make the codes"):
        check([0, 1, 1, 1], [0, 1, 1, 0])


def test_permuted_codes_are_those_of_other_users():
    cells = [f"a{user} b{user % 3}" for user in range(20)]
    codes = user_codes("d.code", np.arange(1, 22), 22, sequences(*cells, ""), "search", AGAIN)
    permuted = codes.permuted(7)
    # The padding user and the user without codes stay as they are.
    assert not permuted.codes[[0, 21]].any() and permuted.n_codes == codes.n_codes
    assert sorted(permuted.codes.tolist()) == sorted(codes.codes.tolist())
    assert (permuted.codes[1:21, 0] != codes.codes[1:21, 0]).sum() > 10
    assert torch.equal(permuted.codes, codes.permuted(7).codes)
    assert not torch.equal(permuted.codes, codes.permuted(8).codes)

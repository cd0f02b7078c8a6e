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

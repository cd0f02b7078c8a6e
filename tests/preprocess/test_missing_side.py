import pytest

from recbole_gserec.preprocess.pipeline import fill_missing, has_codes

SEARCH, REC = ["s0", None, "s2", None], ["r0", "r1", None, None]


@pytest.mark.parametrize(
    ("policy", "search", "rec"),
    [
        ("copy_rec", ["s0", "r1", "s2", ""], ["r0", "r1", "s2", ""]),
        ("empty", ["s0", "", "s2", ""], ["r0", "r1", "", ""]),
        ("no_edges", ["s0", "r1", "s2", ""], ["r0", "r1", "s2", ""]),
    ],
)
def test_texts(policy, search, rec):
    assert fill_missing(SEARCH, REC, policy) == (search, rec)


def test_an_empty_summary_is_not_a_missing_side():
    assert fill_missing([""], ["r0"], "copy_rec") == ([""], ["r0"])
    assert has_codes([""], "no_edges").tolist() == [True]


def test_only_no_edges_leaves_codes_out():
    for policy in ("copy_rec", "empty"):
        assert has_codes(SEARCH, policy).tolist() == has_codes(REC, policy).tolist() == [True] * 4
    assert has_codes(SEARCH, "no_edges").tolist() == [True, False, True, False]
    assert has_codes(REC, "no_edges").tolist() == [True, True, False, False]

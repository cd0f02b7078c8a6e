import pytest

from recbole_gserec.errors import not_none


def test_values_pass_even_those_that_count_as_false():
    for value in (0, "", [], False):
        assert not_none(value) is value


def test_none_is_a_defect():
    with pytest.raises(AssertionError):
        not_none(None)

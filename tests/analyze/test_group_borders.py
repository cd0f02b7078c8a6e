"""Groups of users by a number: what is read, and who is in which."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_gserec.analyze.group_results import Group, group_indices, parse_groups, quantile_groups
from recbole_gserec.errors import SettingError


@st.composite
def ascending_groups(draw):
    """Groups that ascend, with or without gaps, the last open or not."""
    borders = sorted(draw(st.sets(st.integers(0, 10**6), min_size=1, max_size=8)))
    groups, index = [], 0
    while index < len(borders):
        if draw(st.booleans()) and index + 1 < len(borders):
            groups.append(Group(borders[index], borders[index + 1]))
            index += 2
        else:
            groups.append(Group(borders[index], borders[index]))
            index += 1
    if draw(st.booleans()):
        groups[-1] = Group(groups[-1].fewest, None)
    return tuple(groups)


def written(group):
    if group.most is None:
        return f"{group.fewest}-"
    return f"{group.fewest}" if group.most == group.fewest else f"{group.fewest}-{group.most}"


@given(ascending_groups(), st.sampled_from([",", ", ", " ,"]))
def test_what_is_written_is_read_again(groups, comma):
    assert parse_groups(comma.join(map(written, groups))) == groups


@given(st.text(alphabet="0123456789-,+ .x", max_size=20))
def test_any_text_gives_ascending_groups_or_one_line(text):
    try:
        groups = parse_groups(text)
    except SettingError as error:
        assert "--groups" in str(error) and "\n" not in str(error)
        return
    for group in groups:
        assert group.most is None or group.fewest <= group.most
    for one, other in zip(groups, groups[1:], strict=False):
        assert one.most is not None and one.most < other.fewest


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has ''"),
        ("0,,2", "has ''"),
        ("five", "has 'five'"),
        ("5-1", "ends before it begins"),
        ("0-5,5-9", "does not come after '0-5'"),
        ("3,1", "does not come after '3'"),
        ("1-,7", "does not come after '>0'"),
        ("-5", "has '-5'"),
        ("1.5", "has '1.5'"),
    ],
)
def test_other_texts_are_refused(text, problem):
    with pytest.raises(SettingError, match=problem):
        parse_groups(text)


def test_labels():
    assert [group.label for group in parse_groups("0,1-5,6-20,21-")] == ["0", "1-5", "6-20", ">20"]
    assert Group(0, None).label == "all"


@given(ascending_groups(), st.lists(st.integers(0, 10**6 + 5), min_size=1, max_size=30))
def test_a_user_is_in_the_group_that_holds_the_number(groups, numbers):
    expected = [
        next((p for p, g in enumerate(groups) if g.fewest <= n and (g.most is None or n <= g.most)), -1)
        for n in numbers
    ]
    assert group_indices(np.array(numbers), groups).tolist() == expected


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 8))
def test_quantiles_hold_everyone_and_none_is_empty(numbers, n_groups):
    groups = quantile_groups(np.array(numbers), n_groups)
    indices = group_indices(np.array(numbers), groups)
    assert len(groups) <= n_groups and groups[0].fewest == 0 and groups[-1].most is None
    assert sorted(set(indices)) == list(range(len(groups)))
    # Groups are as large as asked for, but for users with a number in common.
    for index in range(len(groups)):
        size, largest = (indices == index).sum(), max(map(numbers.count, set(numbers)))
        assert size < len(numbers) / n_groups + 1 + largest or index == len(groups) - 1


def test_quantiles_without_ties_are_equal():
    groups = quantile_groups(np.arange(100), 4)
    assert groups == (Group(0, 24), Group(25, 49), Group(50, 74), Group(75, None))
    assert quantile_groups(np.array([7, 7, 7]), 4) == (Group(0, None),)

"""Filters against the same filters in plain Python."""

from __future__ import annotations

import dataclasses
from collections import Counter

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_converters.choices import Filters
from dataset_converters.filters import Step, apply_filters
from recbole_gserec.errors import SettingError
from tests.dataset_converters.event_tables import Interaction, Search, fill, left

KEEP_ALL = Filters(min_interactions=0, search_only_users=True)

users, items, times = (st.sampled_from(names) for names in (["a", "b", "c", "d"], ["x", "y", "z"], [0.0, 1.0, 2.5]))
interactions_drawn = st.lists(st.builds(Interaction, users, items, times), max_size=30)
searches_drawn = st.lists(
    st.builds(Search, users, st.sampled_from(["p", "q"]), times, st.lists(items, max_size=2).map(tuple)), max_size=15
)
filters_drawn = st.builds(
    Filters,
    since=st.sampled_from([None, 1.0]),
    until=st.sampled_from([None, 2.5]),
    drop_duplicates=st.booleans(),
    min_searches=st.integers(0, 3),
    k_core=st.integers(0, 3),
    min_interactions=st.integers(0, 4),
    search_only_users=st.booleans(),
)


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        yield connection


def counted(name, interactions, searches):
    return Step(
        name,
        users=len({row.user for row in [*interactions, *searches]}),
        items=len({row.item for row in interactions} | {item for row in searches for item in row.items}),
        interactions=len(interactions),
        searches=len(searches),
    )


def without_users(removed, *tables):
    return [[row for row in rows if row.user not in removed] for rows in tables]


def k_core(interactions, k, k_users):
    """One event after the other, as slowly as can be."""
    while True:
        by_user, by_item = Counter(row.user for row in interactions), Counter(row.item for row in interactions)
        bad = [row for row in interactions if by_user[row.user] < k_users or by_item[row.item] < k]
        if not bad:
            return interactions
        interactions = [row for row in interactions if row is not bad[0]]


def plainly(interactions, searches, filters):
    """The same filters without a database."""
    steps = [counted("read", interactions, searches)]

    def step(name):
        steps.append(counted(name, interactions, searches))

    if filters.since is not None:
        interactions, searches = (
            [row for row in rows if row.time >= filters.since] for rows in (interactions, searches)
        )
        step(f"since {filters.since:g}")
    if filters.until is not None:
        interactions, searches = (
            [row for row in rows if row.time < filters.until] for rows in (interactions, searches)
        )
        step(f"until {filters.until:g}")
    if filters.drop_duplicates:
        interactions, searches = list(dict.fromkeys(interactions)), list(dict.fromkeys(searches))
        step("without duplicates")
    only_search = ", or with searches only"
    if not filters.search_only_users:
        kept = {row.user for row in interactions}
        searches, only_search = [row for row in searches if row.user in kept], ""
        step("users with interactions")
    if filters.min_searches:
        enough = Counter(row.user for row in searches)
        removed = {row.user for row in [*interactions, *searches] if enough[row.user] < filters.min_searches}
        interactions, searches = without_users(removed, interactions, searches)
        step(f"users with {filters.min_searches} searches or more")
    if filters.k_core > 1:
        before = {row.user for row in interactions}
        interactions = k_core(interactions, filters.k_core, max(filters.k_core, filters.min_interactions))
        removed = before - {row.user for row in interactions}
        (searches,) = without_users(removed, searches)
        step(f"{filters.k_core}-core{only_search}")
    if filters.min_interactions > 1:
        removed = {u for u, n in Counter(row.user for row in interactions).items() if n < filters.min_interactions}
        interactions, searches = without_users(removed, interactions, searches)
        step(f"users with {filters.min_interactions} interactions or more{only_search}")
    return interactions, searches, steps


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(interactions_drawn, searches_drawn, filters_drawn)
def test_filters_do_what_plain_python_does(connection, interactions, searches, filters):
    fill(connection, interactions, searches)
    steps = apply_filters(connection, filters)
    interactions, searches, expected = plainly(interactions, searches, filters)
    assert left(connection) == (interactions, searches)
    assert steps == expected


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=120),
    st.integers(2, 4),
    st.integers(0, 5),
)
def test_core(connection, pairs, k, min_interactions):
    interactions = [Interaction(f"u{user}", f"i{item}", index) for index, (user, item) in enumerate(pairs)]
    fill(connection, interactions)
    apply_filters(connection, dataclasses.replace(KEEP_ALL, k_core=k, min_interactions=min_interactions))
    found, _ = left(connection)
    assert found == k_core(interactions, k, max(k, min_interactions))
    assert all(n >= k for field in (0, 1) for n in Counter(row[field] for row in found).values())


def test_a_core_may_be_empty(connection):
    # A chain unravels from its ends, one event a round.
    chain = [Interaction(f"u{n}", f"i{n + more}", n) for n in range(20) for more in (0, 1)]
    fill(connection, chain, [Search("u3", "q", 0, ()), Search("only searches", "q", 0, ())])
    steps = apply_filters(connection, dataclasses.replace(KEEP_ALL, k_core=2))
    assert left(connection) == ([], [Search("only searches", "q", 0, ())])
    assert steps[-1] == Step("2-core, or with searches only", users=1, items=0, interactions=0, searches=1)


def test_the_first_of_duplicates_stays(connection):
    rows = [
        Interaction("a", "x", 1),
        Interaction("a", "y", 1),
        Interaction("a", "x", 1),
        Interaction("a", "x", 2),
    ]
    searches = [
        Search("a", "q", 1, ("x", "y")),
        Search("a", "q", 1, ("y", "x")),
        Search("a", "q", 1, ("x", "y")),
        Search("a", None, 1, ()),
        Search("a", None, 1, ()),
    ]
    fill(connection, rows, searches)
    apply_filters(connection, dataclasses.replace(KEEP_ALL, drop_duplicates=True))
    indices = [
        connection.execute(f"SELECT source_row FROM {table} ORDER BY source_row").fetchall()
        for table in ("interactions", "searches")
    ]
    assert indices == [[(0,), (1,), (3,)], [(0,), (1,), (3,)]]


def test_duplicates_differ_in_further_columns(connection):
    fill(connection, [Interaction("a", "x", 1)] * 3)
    connection.execute("ALTER TABLE interactions ADD COLUMN rating DOUBLE")
    connection.execute("UPDATE interactions SET rating = CASE WHEN source_row = 1 THEN 2 END")
    apply_filters(connection, dataclasses.replace(KEEP_ALL, drop_duplicates=True))
    assert connection.execute("SELECT source_row FROM interactions ORDER BY source_row").fetchall() == [(0,), (1,)]


def test_duplicates_that_share_a_place_are_still_one(connection):
    fill(connection, [Interaction("a", "x", 1)] * 3)
    connection.execute("UPDATE interactions SET source_row = 7")
    apply_filters(connection, dataclasses.replace(KEEP_ALL, drop_duplicates=True))
    assert left(connection)[0] == [Interaction("a", "x", 1)]


def test_bounds_are_exact(connection):
    time = 1732668760.025
    fill(connection, [Interaction("a", "x", time + step) for step in (-0.001, 0, 0.001)])
    steps = apply_filters(connection, dataclasses.replace(KEEP_ALL, since=time, until=time + 0.001))
    assert left(connection)[0] == [Interaction("a", "x", time)]
    assert [step.name for step in steps] == ["read", "since 1732668760.025", "until 1732668760.026"]


def test_searches_made_from_interactions_go_with_them(connection):
    interactions = [Interaction(user, item, 1) for user in "ab" for item in "xy"] + [Interaction("a", "rare", 2)]
    searches = [Search(row.user, f"find {row.item}", row.time, (row.item,)) for row in interactions]
    for follow, expected in ((True, searches[:4]), (False, searches)):
        fill(connection, interactions, searches)
        apply_filters(connection, dataclasses.replace(KEEP_ALL, k_core=2), searches_from_interactions=follow)
        assert left(connection) == (interactions[:4], expected)


@pytest.mark.parametrize(
    ("given_filters", "problem"),
    [
        ({"since": 5.0, "until": 5.0}, "since 5 is not before until 5"),
        ({"since": float("nan")}, "since nan is not a time"),
        ({"until": float("inf")}, "until inf is not a time"),
        ({"min_searches": -1}, "min_searches -1 is negative"),
        ({"k_core": -2}, "k_core -2 is negative"),
        ({"min_interactions": -1}, "min_interactions -1 is negative"),
    ],
)
def test_filters_that_mean_nothing_are_refused(given_filters, problem):
    with pytest.raises(SettingError, match=problem):
        Filters(**given_filters)

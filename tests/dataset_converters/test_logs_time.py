"""Units and formats of times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_converters.logs_time import TimeSettings, detect, timed
from recbole_gserec.errors import SettingError

BASE = 1_700_000_000


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def read(connection, times: list[str | None], **given_settings) -> tuple[str | None, list]:
    """The kind of a column, and the seconds or the problem of each time."""
    connection.register("times", pa.table({"place": range(len(times)), "time": pa.array(times, pa.string())}))
    chosen = TimeSettings(**given_settings)
    clock = detect(connection, "times", chosen)
    rows = connection.execute(
        f"SELECT seconds, time_problem FROM ({timed('times', clock, chosen)}) ORDER BY place"
    ).fetchall()
    assert all((seconds is None) != (problem is None) for seconds, problem in rows)
    return clock and clock.kind, [seconds if problem is None else problem for seconds, problem in rows]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_units_are_found_by_magnitude(connection, unit, factor):
    kind, seconds = read(connection, [str((BASE + extra) * factor) for extra in (0, 1, 10**8)])
    assert (kind, seconds) == (unit, [BASE, BASE + 1, BASE + 10**8])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1700000000.25", BASE + 0.25), ("1.7e9", BASE), ("1700000000.0", BASE), ("+1700000000", BASE)],
)
def test_numbers_are_written_in_many_ways(connection, text, seconds):
    assert read(connection, [text]) == ("s", [seconds])


def test_small_numbers_are_positions(connection):
    assert read(connection, ["0", "1", "2", "99999999"]) == ("position", [0, 1, 2, 99999999])
    # Some of them look like dates.
    assert read(connection, ["20240131", "20240132", "20240133"])[0] == "position"


def test_dates_without_marks(connection):
    first = datetime(2024, 1, 31, tzinfo=UTC).timestamp()
    assert read(connection, ["20240131", "20240201"]) == ("compact", [first, first + 86400])
    assert read(connection, ["20240131000001"]) == ("compact", [first + 1])
    assert read(connection, ["20240131", "20240201", "20240299"])[1][2].startswith("time is in another unit")


@pytest.mark.parametrize(
    ("text", "zone", "seconds"),
    [
        ("2023-11-14T22:13:20Z", "UTC", BASE),
        ("2023-11-14 22:13:20", "UTC", BASE),
        ("2023/11/14 22:13:20,5", "UTC", BASE + 0.5),
        ("2023-11-14T22:13:20.123456789+00:00", "UTC", BASE + 0.123456),
        ("2023-11-15T06:13:20+08:00", "UTC", BASE),
        ("2023-11-15T06:13:20+0800", "Europe/Berlin", BASE),
        ("2023-11-15 06:13:20+08", "UTC", BASE),
        ("2023-11-15 06:13:20", "Asia/Shanghai", BASE),
        ("2023-11-14 22:13:20 UTC", "Asia/Shanghai", BASE),
        ("2023-11-14 22:13", "UTC", BASE - 20),
        ("2023-11-14", "UTC", BASE - 80000),
        ("2023-11-14", "America/New_York", BASE - 80000 + 5 * 3600),
        ("2023-07-01 00:00:00", "Europe/Berlin", datetime(2023, 6, 30, 22, tzinfo=UTC).timestamp()),
    ],
)
def test_dates(connection, text, zone, seconds):
    assert read(connection, [text], zone=zone) == ("date", [pytest.approx(seconds, abs=1e-6)])


def test_dates_in_a_given_format(connection):
    times = ["14/11/2023 22:13", "14/11/2023 22:14", "2023-11-14"]
    other = "time is in another unit: dates in ISO 8601, where most are dates in the given format"
    assert read(connection, times, format="%d/%m/%Y %H:%M") == ("format", [BASE - 20, BASE + 40, other])
    assert read(connection, ["15/11/2023 06:13"], format="%d/%m/%Y %H:%M", zone="Asia/Shanghai")[1] == [BASE - 20]
    assert read(connection, ["15/11/2023 06:13 +0800"], format="%d/%m/%Y %H:%M %z")[1] == [BASE - 20]
    # Where the other file has dates in ISO 8601, it is read all the same.
    assert read(connection, ["2023-11-14"], format="%d/%m/%Y %H:%M") == ("date", [BASE - 80000])


def test_a_given_unit_holds_for_all_numbers(connection):
    assert read(connection, ["5000", "1700000000000"], unit="ms") == ("ms", [5, BASE])
    assert read(connection, ["20240131"], unit="position") == ("position", [20240131])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "time is missing"),
        ("", "time is missing"),
        ("NULL", "time is missing"),
        ("nan", "time is missing"),
        ("-1", "time is negative"),
        ("1950-01-01", "time is negative"),
        ("soon", "time is no number and no date in ISO 8601"),
        ("2024-02-30", "time is no number and no date in ISO 8601"),
        ("14/11/2023", "time is no number and no date in ISO 8601"),
        ("1e400", "time is no number and no date in ISO 8601"),
        ("1e25", "time is no number and no date in ISO 8601"),
        ("inf", "time is no number and no date in ISO 8601"),
        ("1_700_000_000", "time is no number and no date in ISO 8601"),
        ("0", "time is in another unit: positions in an order, where most are seconds since 1970"),
        ("1700000000000", "time is in another unit: milliseconds since 1970, where most are seconds since 1970"),
        ("2023-11-14", "time is in another unit: dates in ISO 8601, where most are seconds since 1970"),
    ],
)
def test_bad_times(connection, text, problem):
    good = [str(BASE), str(BASE + 1)]
    assert read(connection, [*good, text]) == ("s", [BASE, BASE + 1, problem])


def test_nothing_but_bad_times(connection):
    assert read(connection, ["soon", None]) == (
        None,
        ["time is no number and no date in ISO 8601", "time is missing"],
    )


@settings(deadline=None, max_examples=15)
@given(moments=st.lists(st.datetimes(datetime(1975, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=5))
def test_all_ways_to_write_a_time_say_the_same(connection, moments):
    seconds = [(moment - datetime(1970, 1, 1)) / timedelta(seconds=1) for moment in moments]
    micros = [round(value * 1e6) for value in seconds]
    ways = {
        "date": [moment.isoformat() for moment in moments],
        "us": list(map(str, micros)),
        "ns": [str(value * 1000) for value in micros],
    }
    for way, times in ways.items():
        assert read(connection, times) == (way, pytest.approx(seconds, abs=1e-6, rel=0))


@pytest.mark.parametrize(("name", "value"), [("unit", "minutes"), ("zone", "Middle/Earth"), ("format", "%d %Q")])
def test_what_does_not_exist_is_refused(connection, name, value):
    with pytest.raises(SettingError, match=value):
        TimeSettings(**{name: value}).check(connection)

"""Units and formats of times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_converters.logs.times import TimeSettings, detect_clock, seconds_sql
from recbole_gserec.errors import SettingError

BASE = 1_700_000_000


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def read(connection, times: list[str | None], **given_settings) -> tuple[str | None, list]:
    """The kind of a column, and the seconds or the problem of each time."""
    connection.register("times", pa.table({"source_row": range(len(times)), "time": pa.array(times, pa.string())}))
    chosen = TimeSettings(**given_settings)
    clock = detect_clock(connection, "times", chosen)
    rows = connection.execute(
        f"SELECT seconds, time_problem FROM ({seconds_sql('times', clock, chosen)}) ORDER BY source_row"
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


# One moment, 2024-03-01 09:00:00 in UTC, a Friday, the 61st day of the year, as people write it.
MOMENT = datetime(2024, 3, 1, 9, tzinfo=UTC).timestamp()
WAYS = [
    *("2024-03-01 10:00:00 +0100", "2024-03-01 10:00:00 +01", "2024-03-01 10:00:00 +01:00", "2024-03-01T10:00:00+01"),
    *("2024-03-01T09:00:00z", "2024-03-01t09:00:00Z", "2024-03-01 09:00:00 Z", "2024-03-01T09:00Z", "2024-03-01T09Z"),
    *("20240301T090000Z", "20240301T100000+0100", "20240301t100000+01:00", "20240301T0900Z", "20240301T09Z"),
    *("20240301 090000Z", "20240301090000Z", "20240301100000+0100", "20240301T040000-0500", "2024-03-01T04:00:00-05"),
    *("2024-03-01T09:00:00.000Z", "2024-03-01T09:00:00,000000Z", "20240301T090000.000Z", "20240301T090000,0Z"),
    *("2024-03-01T090000Z", "20240301T09:00:00Z", "2024/3/1 9:00:00 UTC", "2024-03-01T10:00:00GMT+0100"),
    *("2024-W09-5T09:00:00Z", "2024W095T090000Z", "2024-061T09:00:00Z", "2024061T090000Z"),
    *("2024-03-01T10:00:00+01:00[Europe/Berlin]", "2024-03-01T05:30:00\N{MINUS SIGN}03:30", "2024-03-01T14:30+05:30"),
    *("2024-03-01T09:00:00", "2024-03-01 09:00", "2024-03-01  09:00:00", "20240301T0900", "2024-03-01T09"),
]


@pytest.mark.parametrize("text", WAYS)
def test_ways_to_write_a_moment(connection, text):
    assert read(connection, [text]) == ("date", [MOMENT])


def test_ways_to_write_a_moment_in_one_column(connection):
    ways = [*WAYS, "20240301090000", "202403010900", "20240301090000000"]
    assert read(connection, ways) == ("date", [MOMENT] * len(ways))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-03-01T09:00:00.25Z", 0.25),
        ("20240301T090000,5+0000", 0.5),
        ("20240301T090000.125", 0.125),
        ("2024-03-01", -9 * 3600),
        ("2024-03-01Z", -9 * 3600),
        ("2024-W09-5", -9 * 3600),
        ("2024-061", -9 * 3600),
        ("2024-02-29T24:00:00Z", -9 * 3600),
    ],
)
def test_fractions_and_days(connection, text, seconds):
    assert read(connection, [text]) == ("date", [MOMENT + seconds])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2024-13-01",
            "2024-00-10",
            "20240230T000000Z",
            "2023-W53-1",
            "2024-W09-8",
            "2024-W00-1",
            "2023-366",
            "2024-000",
        ),
        *("2024-03-01T25:00:00Z", "2024-03-01T10:60Z", "2024-03-01T10:00:00+24:00", "2024-03-01T10:00:00+01:75"),
        *(
            "2024-03-01T",
            "2024-03-01T1",
            "2024-03-01T10:00:00 CET",
            "2024-03-01-05",
            "2024-03-01-05:00",
            "20240301-0500",
        ),
        *("2024-03-0110:00", "10:00:00", "2024-03-01 10:00:00 PM", "2024-03-01T10:00:00[Europe/Berlin]", "24-03-01"),
    ],
)
def test_what_is_no_moment(connection, text):
    problem = "time is neither a number nor an ISO 8601 date"
    assert read(connection, ["2024-03-01", text])[1][1] == problem


@pytest.mark.parametrize("text", ["2024-03", "2024/03", "2024-W09", "2024W09"])
def test_what_names_no_day(connection, text):
    assert read(connection, ["2024-03-01", text])[1][1] == "time has no day"


def test_digits_are_dates_where_nothing_else_makes_sense(connection):
    assert read(connection, ["202403010900", "202403010901"]) == ("compact", [MOMENT, MOMENT + 60])
    assert read(connection, ["20240301090000250"]) == ("compact", [MOMENT + 0.25])
    assert read(connection, ["20240301", "2024-03-02", "x"])[1][:2] == [MOMENT - 9 * 3600, MOMENT + 15 * 3600]
    assert read(connection, ["19650101", "20240301"])[1] == ["time is negative", MOMENT - 9 * 3600]
    # Milliseconds of the years 1990 and 2001 are not taken for dates with a minute.
    assert read(connection, ["631152000000", "978307200000"]) == ("ms", [631152000, 978307200])


def test_seconds_that_are_real_hours_are_asked_about(connection):
    unclear = "time can be seconds since 1970 or a date with an hour"
    assert read(connection, ["2024030109", "2024030110"]) == ("unclear", [unclear] * 2)
    assert str(detect_clock(connection, "times", TimeSettings())) == "seconds since 1970, or dates with an hour"
    assert read(connection, ["2024030109"], unit="s") == ("s", [2024030109])
    assert read(connection, ["2024030109"], format="%Y%m%d%H") == ("format", [MOMENT])
    assert read(connection, ["2024030109", "2024030199"]) == ("s", [2024030109, 2024030199])


ASKED = "time is a day and a number without a known unit"


@pytest.mark.parametrize(
    ("times", "given", "kind", "expected"),
    [
        (["2024-03-01 09:00:00", "2024-03-01 09:01"], {}, "date", [MOMENT, MOMENT + 60]),
        (["2024-03-01 00:00:00 09:00:00", "2024-03-01T00:00:00.000 09:01"], {}, "date", [MOMENT, MOMENT + 60]),
        (["20240301 090000", "20240301 100000"], {}, "date", [MOMENT, MOMENT + 3600]),
        (["2024-03-01 0900", "2024-03-01 2359"], {}, "date", [MOMENT, MOMENT + 14 * 3600 + 59 * 60]),
        (["2024-03-01 10:00:00 +0100"], {}, "date", [MOMENT]),
        (["2024-03-01 32400000", "2024-03-01 32400250"], {"unit": "ms"}, "offset", [MOMENT, MOMENT + 0.25]),
        (["20240301 32400", "2024-03-01 00:00:00 32400.5"], {"unit": "s"}, "offset", [MOMENT, MOMENT + 0.5]),
        (
            ["2024-03-01 32400000", "2024-03-01 172800"],
            {"unit": "s"},
            "offset",
            ["time is more than two days after its day", MOMENT + 39 * 3600],
        ),
        (["2024-03-01 100000"], {"unit": "ms"}, "offset", [MOMENT - 9 * 3600 + 100]),
        (["2024-03-01 0"], {"unit": "ms", "zone": "Europe/Berlin"}, "offset", [MOMENT - 10 * 3600]),
        # No number says by itself what it counts.
        (["2024-03-01 32400000", "2024-03-01 7"], {}, None, [ASKED, ASKED]),
        (["2024-03-01 100000", "2024-03-01 110000"], {}, None, [ASKED, ASKED]),
        (["2024-03-01 093000", "2024-03-01 7"], {}, None, [ASKED, ASKED]),
        (["2024-03-01 093000"], {"format": "%Y-%m-%d %H%M%S"}, "format", [MOMENT + 1800]),
        (["2024-03-01 5", None], {"unit": "s"}, "offset", [MOMENT - 9 * 3600 + 5, "time is missing"]),
        (["2024-03-01 -5"], {"unit": "s"}, None, ["time is neither a number nor an ISO 8601 date"]),
    ],
)
def test_times_of_several_columns(connection, times, given, kind, expected):
    assert read(connection, times, joined=True, **given) == (kind, expected)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Shanghai", "UTC"])
def test_times_that_clocks_show_twice_or_never(connection, zone):
    """Against the zones of Python: both readings of a time differ, and going there and back changes one skipped."""
    chosen, here = TimeSettings(zone=zone), ZoneInfo(zone)
    start = datetime(2024, 1, 1)
    moments = [start + timedelta(minutes=30 * step) for step in range(2 * 24 * 366)]
    texts = [moment.isoformat(sep=" ") for moment in moments]
    readings = [[moment.replace(tzinfo=here, fold=fold).timestamp() for fold in (0, 1)] for moment in moments]
    skipped = [
        datetime.fromtimestamp(one, here).replace(tzinfo=None, fold=0) != moment
        for (one, _), moment in zip(readings, moments, strict=True)
    ]
    repeated = [one != two and not never for (one, two), never in zip(readings, skipped, strict=True)]
    kind, seconds = read(connection, texts, zone=zone)
    assert kind == "date"
    assert seconds == [one if never else two for (one, two), never in zip(readings, skipped, strict=True)]
    clock = detect_clock(connection, "times", chosen)
    reported = {change.kind: (change.rows, change.example) for change in clock.changes}
    expected = {
        name: (sum(which), texts[which.index(True)])
        for name, which in (("repeated", repeated), ("skipped", skipped))
        if any(which)
    }
    assert reported == expected
    assert len(clock.warnings("searches")) == len(expected)
    assert all(zone in warning and " of searches" in warning for warning in clock.warnings("searches"))


def test_times_that_name_their_zone_are_clear(connection):
    times = ["2024-10-27 02:30:00+01:00", "2024-10-27T02:30:00Z", "2024-10-27 12:00:00"]
    connection.register("times", pa.table({"source_row": range(3), "time": times}))
    assert detect_clock(connection, "times", TimeSettings(zone="Europe/Berlin")).changes == ()


def test_dates_in_a_given_format(connection):
    times = ["14/11/2023 22:13", "14/11/2023 22:14", "2023-11-14"]
    other = "time is in another unit: dates in ISO 8601, but most are dates in the requested format"
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
        ("soon", "time is neither a number nor an ISO 8601 date"),
        ("2024-02-30", "time is neither a number nor an ISO 8601 date"),
        ("14/11/2023", "time is neither a number nor an ISO 8601 date"),
        ("1e400", "time is neither a number nor an ISO 8601 date"),
        ("1e25", "time is neither a number nor an ISO 8601 date"),
        ("inf", "time is neither a number nor an ISO 8601 date"),
        ("1_700_000_000", "time is neither a number nor an ISO 8601 date"),
        ("0", "time is in another unit: positions in an order, but most are seconds since 1970"),
        ("1700000000000", "time is in another unit: milliseconds since 1970, but most are seconds since 1970"),
        ("2023-11-14", "time is in another unit: dates in ISO 8601, but most are seconds since 1970"),
    ],
)
def test_bad_times(connection, text, problem):
    good = [str(BASE), str(BASE + 1)]
    assert read(connection, [*good, text]) == ("s", [BASE, BASE + 1, problem])


def test_nothing_but_bad_times(connection):
    assert read(connection, ["soon", None]) == (
        None,
        ["time is neither a number nor an ISO 8601 date", "time is missing"],
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

"""The options that all conversions share, on a command of the tests' own."""

from __future__ import annotations

import dataclasses
import re
import sys
from datetime import UTC, datetime
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from dataset_converters.choices import Filters, Options
from recbole_gserec.cli.convert import with_options
from recbole_gserec.cli.main import main
from recbole_gserec.errors import SettingError

DEFAULTS = Options(filters=Filters(since=1.5, k_core=5, drop_duplicates=True), words="spaces", memory="1GB")
# 2024-01-31 00:00 UTC, as `date -d 2024-01-31Z +%s` has it.
JANUARY = 1706659200


def command_with(defaults=None):
    """A command beside another, and what it was called with."""
    app, calls = typer.Typer(), []

    @with_options(defaults)
    def logs(
        *,
        name: Annotated[str, typer.Option(help="Name of the new dataset.")] = "toy",
        seed: Annotated[int, typer.Option(help="Of the draws.")],
        options: Options,
    ) -> None:
        """Make a dataset."""
        calls.append((name, seed, options))

    app.command("logs")(logs)
    app.command("other")(lambda: None)
    return app, calls


def called(*arguments, defaults=None):
    app, calls = command_with(defaults)
    result = CliRunner().invoke(app, ["logs", "--seed", "3", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    ((name, seed, options),) = calls
    assert (name, seed) == ("toy", 3)
    return options


@pytest.mark.parametrize("defaults", [None, Options(), DEFAULTS])
def test_options_not_given_are_the_defaults(defaults):
    assert called(defaults=defaults) == (defaults or Options())


def test_every_option_reaches_the_command():
    given = "--since 10 --until 20.5 --drop-duplicates --min-searches 1 --k-core 5 --min-interactions 4 "
    given += "--search-only-users --all-items --words spaces --bad-rows skip --memory 4GB --threads 3"
    filters = Filters(10.0, 20.5, True, 1, 5, 4, True)
    options = Options(filters, words="spaces", bad_rows="skip", all_items=True, memory="4GB", threads=3)
    assert called(*given.split()) == options
    # None of them is a default, so none has been overlooked.
    for made, plain in ((options, Options()), (filters, Filters())):
        assert all(getattr(made, field.name) != getattr(plain, field.name) for field in dataclasses.fields(plain))


def test_a_default_can_be_switched_off():
    options = called("--no-drop-duplicates", "--k-core", "0", defaults=DEFAULTS)
    assert options == dataclasses.replace(
        DEFAULTS, filters=dataclasses.replace(DEFAULTS.filters, drop_duplicates=False, k_core=0)
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-01-31", JANUARY),
        ("2024-01-31T00:00:00Z", JANUARY),
        ("2024-01-31 01:00", JANUARY + 3600),
        ("2024-01-31T01:00:00.5", JANUARY + 3600.5),
        ("2024-01-31T08:00+08:00", JANUARY),
        ("1706659200", JANUARY),
        ("1706659200.25", JANUARY + 0.25),
        ("0", 0),
        ("-5", -5),
        ("2024", 2024),
        ("1e9", 1e9),
    ],
)
def test_dates_and_seconds(text, seconds):
    filters = called(f"--since={text}").filters
    assert filters.since == seconds
    assert called(f"--until={text}", "--since=-9").filters.until == seconds


def test_dates_are_of_utc_wherever_one_is(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    if hasattr(__import__("time"), "tzset"):
        __import__("time").tzset()
    try:
        assert called("--since", "2024-01-31").filters.since == datetime(2024, 1, 31, tzinfo=UTC).timestamp()
    finally:
        monkeypatch.undo()
        if hasattr(__import__("time"), "tzset"):
            __import__("time").tzset()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["--since", "2024-13-01"],
            "since '2024-13-01' is not a date. Give a date like 2024-01-31, or seconds since 1970.",
        ),
        (["--until", "yesterday"], "until 'yesterday' is not a date"),
        (["--since", ""], "since '' is not a date"),
        (["--since", "20240131"], "since 20240131 can be a date or a number of seconds"),
        (["--since", "nan"], "since nan is not a time"),
        (["--until", "inf"], "until inf is not a time"),
        (["--since", "2024-02-01", "--until", "2024-01-31"], "since 1706745600 is not before until 1706659200"),
        (["--k-core", "-1"], "k_core -1 is negative"),
        (["--min-searches=-2"], "min_searches -2 is negative"),
    ],
)
def test_values_that_mean_nothing(arguments, problem):
    app, calls = command_with()
    with pytest.raises(SettingError) as error:
        CliRunner().invoke(app, ["logs", "--seed", "3", *arguments], catch_exceptions=False)
    assert str(error.value).startswith(problem) and "\n" not in str(error.value)
    assert calls == []


def test_bounds_of_the_error_are_reported_exactly():
    app, _ = command_with()
    with pytest.raises(SettingError, match="since 1706745600 is not before until 1706659200"):
        arguments = ["logs", "--seed", "3", "--since", "2024-02-01", "--until", "2024-01-31"]
        CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize("arguments", [["--k-core", "five"], ["--threads", "1.5"], ["--all-items=yes"], ["--kcore=5"]])
def test_values_of_another_type(arguments):
    app, calls = command_with()
    assert CliRunner().invoke(app, ["logs", "--seed", "3", *arguments]).exit_code == 2
    assert calls == []


def shown(app):
    result = CliRunner().invoke(app, ["logs", "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"})
    assert result.exit_code == 0, result.output
    return result.output


def test_help_shows_every_option_and_its_default():
    app, _ = command_with(DEFAULTS)
    help_text = shown(app)
    own, *panels = re.split(r"─ (What to keep|Machine) ─", help_text)
    fields = [field.name for field in (*dataclasses.fields(Options), *dataclasses.fields(Filters))]
    for name in {*fields, "name", "seed"} - {"filters"}:
        assert f"--{name.replace('_', '-')} " in help_text, name
    assert "--options" not in help_text and "--filters" not in help_text
    assert panels[0::2] == ["What to keep", "Machine"]
    for default in ("[default: 1.5]", "[default: 5]", "[default: spaces]", "[default: 1GB]", "[default: error]"):
        assert default in help_text, default
    assert all(option in own for option in ("--name", "--seed", "--words", "--bad-rows"))
    assert all(option in panels[1] for option in ("--since", "--k-core", "--all-items"))
    assert all(option in panels[3] for option in ("--memory", "--threads"))


def test_errors_of_the_command_are_one_line(monkeypatch, capsys, tmp_path):
    arguments = ["convert", "ml-100k", "--output", str(tmp_path / "dataset")]
    for more, problem in (
        (["--since", "31.01.2024"], "error: since '31.01.2024' is not a date."),
        (["--words", "letters"], "error: words must be text or spaces, not 'letters'."),
        (["--bad-rows", "ignore"], "error: bad_rows must be error or skip, not 'ignore'."),
        (["--memory", "lots"], "error: memory 'lots' is invalid."),
        (["--threads", "0"], "error: threads 0 is invalid."),
        (["--k-core", "9999"], f"error: {tmp_path / 'dataset' / 'ml-100k-search'}: no interactions are left"),
        (["--kcore", "5"], ("error: No such option: --kcore", "error: No such option '--kcore'")),
    ):
        monkeypatch.setattr(sys, "argv", ["gserec", *arguments, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        output, errors = capsys.readouterr()
        assert (ended.value.code, output) == (2, "")
        assert errors.startswith(problem) and errors.count("\n") == 1, errors
    assert not (tmp_path / "dataset").exists()


def test_filters_of_the_command_line_are_recorded(monkeypatch, capsys, tmp_path):
    """The whole way: MovieLens of its first months, with the times of the ratings."""
    arguments = ["convert", "ml-100k", "--output", str(tmp_path), "--until", "1997-10-01", "--min-searches", "2"]
    monkeypatch.setattr(sys, "argv", ["gserec", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output, errors = capsys.readouterr()
    folder = tmp_path / "ml-100k-search"
    assert (ended.value.code, output) == (0, f"{folder}\n")
    assert "until 875664000" in errors and "users with 2 searches or more" in errors
    times = [float(line.split("\t")[3]) for line in (folder / f"{folder.name}.inter").read_text().splitlines()[1:]]
    assert max(times) < datetime(1997, 10, 1, tzinfo=UTC).timestamp()

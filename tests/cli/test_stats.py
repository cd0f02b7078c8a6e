"""Statistics of a dataset as files."""

import pandas as pd
from typer.testing import CliRunner

from recbole_gserec.cli.main import app
from recbole_gserec.errors import DataError, SettingError
from tests.conftest import random_files, write_dataset


def run(*arguments):
    return CliRunner().invoke(app, ["analyze", "stats", *map(str, arguments)], env={"COLUMNS": "200"})


def test_users_by_number_of_searches(tmp_path):
    data = write_dataset(tmp_path / "dataset", "toy", **random_files())
    result = run("--dataset", "toy", "--data-path", data, "--output", tmp_path / "out", "--groups", "0,4")
    assert result.exit_code == 0, result.output
    counts = pd.Series([row[0] for row in random_files()["search"]]).value_counts()
    groups = pd.read_csv(tmp_path / "out" / "toy.statistics.csv").set_index("label")["users"]
    assert groups.to_dict() == {"0": 41 - len(counts), "1-4": (counts <= 4).sum(), ">4": (counts > 4).sum()}
    assert result.output.rstrip().endswith("toy.statistics.md")
    suffixes = {path.name.removeprefix("toy.statistics") for path in (tmp_path / "out").iterdir()}
    assert suffixes == {".json", ".md", ".png", ".pdf", ".csv"}


def test_bad_input(tmp_path):
    for groups in ("a", "5,1", "-1,3", ""):
        assert isinstance(run("--dataset", "toy", f"--groups={groups}").exception, SettingError)
    assert isinstance(run("--dataset", "a/b").exception, SettingError)
    assert isinstance(run("--dataset", "toy", "--data-path", tmp_path).exception, DataError)

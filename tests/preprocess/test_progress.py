import io
import sys

import pytest

from recbole_gserec.preprocess.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(monkeypatch, stream, *, total, steps, show=True, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(show, total=total, desc="Work", unit="piece", **options) as bar:
        for step in steps:
            bar.set_postfix(loss="0.5", refresh=False)
            bar.update(step)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("total", "steps", "percents"),
    [
        (500, [1] * 500, range(10, 101, 10)),
        (3, [1] * 3, [33, 67, 100]),
        (40, [25, 15], [62, 100]),
        (500, [1] * 260, range(10, 51, 10)),  # ended early
        (0, [], []),
    ],
)
def test_a_file_gets_a_line_for_each_tenth(monkeypatch, total, steps, percents):
    text = written(monkeypatch, io.StringIO(), total=total, steps=steps)
    assert "\r" not in text and "\n\n" not in text
    lines = text.splitlines()
    assert all(line.startswith("Work:") and len(line) <= 100 for line in lines)
    assert [int(line.split("%")[0].removeprefix("Work:")) for line in lines] == list(percents)


def test_work_done_before_is_shown_once(monkeypatch):
    text = written(monkeypatch, io.StringIO(), total=10, steps=[1] * 4, initial=6)
    assert text.count("60%") == 1 and len(text.splitlines()) == 5


def test_a_terminal_has_a_bar(monkeypatch):
    assert "\r" in written(monkeypatch, Terminal(), total=4, steps=[1] * 4)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_nothing_is_shown_on_request(monkeypatch, stream):
    assert written(monkeypatch, stream(), total=4, steps=[1] * 4, show=False) == ""

"""Lines longer than the bound: refused with their place, in every reader, before they are in memory."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import textwrap

import pytest

from dataset_converters import text_lines
from dataset_converters.text_lines import batched_lines, limit_line_length
from recbole_gserec.errors import DataError

MEGABYTE = b"a" * (1 << 20)


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, as decompressing does."""

    def read(self, size=-1):
        return super().read(min(size, 7) if size >= 0 else 7)


@pytest.mark.parametrize("stream", [io.BytesIO, Trickle])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("before", [0, 1, 5])
def test_the_line_is_reported(tmp_path, monkeypatch, stream, end, before):
    monkeypatch.setattr(text_lines, "LONGEST_LINE", 100)
    good = (b"b" * 90 + end) * before
    # A carriage return before the end counts.
    longest = good + b"c" * (101 - len(end)) + end + b"d"
    assert limit_line_length(stream(longest), tmp_path).read() == longest
    with pytest.raises(DataError, match="a line longer than 0 MiB") as error:
        limit_line_length(stream(good + b"c" * 102 + end + b"d"), tmp_path / "log.csv").read()
    assert (error.value.line, error.value.path) == (before + 1, tmp_path / "log.csv")


def test_lines_are_taken_by_number_and_by_length(monkeypatch):
    monkeypatch.setattr(text_lines, "_CHARACTERS_AT_ONCE", 10)
    lines = ["a\n"] * 7 + ["b" * 30 + "\n", "c" * 12 + "\n"] + ["d\n"] * 3
    batches = list(batched_lines(lines, 4))
    assert [line for batch in batches for line in batch] == lines
    assert [len(batch) for batch in batches] == [4, 4, 1, 3]
    assert list(batched_lines([], 4)) == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Files of a few hundred kilobytes with a line of 512 MiB each, and honest ones beside them."""
    folder = tmp_path_factory.mktemp("hostile")

    def write(name, *parts):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with gzip.open(path, "wb", compresslevel=1) as file:
            for part in parts:
                for _ in range(512 if part is MEGABYTE else 1):
                    file.write(part)

    write("log.csv.gz", b"user,item,time\nu,a,1700000000\nu,", MEGABYTE, b",1700000001\n")
    write(
        "log.jsonl.gz", b'{"user":"u","item":"a","time":1700000000}\n{"user":"u","item":"', MEGABYTE, b'","time":1}\n'
    )
    write("header.csv.gz", b"user,item,time", MEGABYTE, b"\nu,a,1\n")
    write("searches.csv.gz", b"user,query,time,items\nu,shoe,1700000001,a\n")
    review = b'{"reviewerID":"u","asin":"a","overall":5.0,"unixReviewTime":1400000000,"verified":true}\n'
    write("amazon/Toys_5.json.gz", review * 3)
    write("amazon/meta_Toys.json.gz", b'{"asin":"a"}\n{"asin":"b","title":"', MEGABYTE, b'"}\n')
    write("kuaisar/rec_inter.csv.gz", b"user_id,item_id,timestamp,click\n1,1,1684000000000,1\n1,", MEGABYTE, b",1,1\n")
    write("kuaisar/src_inter.csv.gz", b"user_id\n")
    write("kuaisar/item_features.csv.gz", b"item_id\n")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="needs the system's count of memory")
@pytest.mark.parametrize(
    ("call", "file", "line"),
    [
        ("convert_logs(out, 'x', here / 'log.csv.gz', here / 'searches.csv.gz')", "log.csv.gz", 3),
        ("convert_logs(out, 'x', here / 'log.jsonl.gz', here / 'searches.csv.gz')", "log.jsonl.gz", 2),
        ("convert_logs(out, 'x', here / 'header.csv.gz', here / 'searches.csv.gz')", "header.csv.gz", 1),
        ("convert_amazon(here / 'amazon', out)", "meta_Toys.json.gz", 2),
        ("convert_kuaisar(out, here / 'kuaisar')", "rec_inter.csv.gz", 3),
    ],
)
def test_a_line_of_gigabytes_is_not_read(hostile, tmp_path, call, file, line):
    """The peak of the process, measured by the system, hardly grows."""
    script = f"""
        import pathlib, re, sys
        from dataset_converters.amazon.amazon import convert_amazon
        from dataset_converters.kuaisar.kuaisar import convert_kuaisar
        from dataset_converters.logs.logs import convert_logs
        here, out = map(pathlib.Path, sys.argv[1:])

        def peak():
            # What getrusage tells begins with the peak of the parent.
            return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text()).group(1))

        before = peak()
        try:
            {call}
        except Exception as error:
            print(error)
        print(peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(hostile), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    *_, printed, kilobytes = done.stdout.splitlines()
    assert f"{file}, line {line}: a line longer than 16 MiB" in printed
    assert int(kilobytes) < 250 << 10
    assert list(tmp_path.iterdir()) == []

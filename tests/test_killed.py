"""Killed at random moments and started again, a command comes to the results of one that was not.

Converting, the offline stage and sweeps have such tests beside their own.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from recbole_gserec.runs.run_store import read_run

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

# Few epochs of everything; the codes are made on the way.
SMALL = ["--embedding_size=16", "--rq_epochs=5", "--rq_warmup_epochs=0", "--codebook_size=8", "--show_progress=False"]
N_KILLS = 1


def command(module, *arguments):
    return [sys.executable, "-c", f"from recbole_gserec.cli.{module} import main; main()", *arguments, *SMALL]


def start(arguments, folder):
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(arguments, folder):
    process = start(arguments, folder)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


def kill_now_and_then(arguments, folder, seconds):
    """Start a command and kill it, and nothing that it has started, at some moment of the ``seconds`` that it takes."""
    moments = [random.uniform(0.1, 0.95) * seconds for _ in range(N_KILLS)]
    print("killed after", moments, "of", seconds, "s")
    for moment in moments:
        process = start(arguments, folder)
        time.sleep(moment)
        process.kill()
        # All that write to this pipe have ended.
        process.communicate(timeout=10)


@pytest.fixture
def folders(tmp_path, write_files, random_rows):
    """Two folders with a copy of the toy dataset each, without codes."""
    rows = {suffix: random_rows[suffix] for suffix in ("inter", "search", "query", "item")}
    for name in ("whole", "killed"):
        write_files(tmp_path / name / "dataset", "toy", **rows)
    return tmp_path / "whole", tmp_path / "killed"


def test_training(folders):
    whole, killed = folders
    arguments = command("run_recbole", "--model=GSERec", "--dataset=toy", "--epochs=4")
    started = time.monotonic()
    expected = finish(arguments, whole).splitlines()[-7:]
    kill_now_and_then(arguments, killed, time.monotonic() - started)
    assert finish(arguments, killed).splitlines()[-7:] == expected
    assert any("ndcg@10" in line for line in expected)
    codes = [(folder / "dataset" / "toy" / "toy.code").read_bytes() for folder in folders]
    assert codes[0] == codes[1]
    # What a killed training left under a checkpoint's name is a whole one.
    for file in (killed / "saved").glob("[!.]*.pth"):
        torch.load(file, weights_only=True)


def results(folder: Path) -> dict:
    """Of each finished run its metrics and the rank of each user's target."""
    found = {}
    for file in (folder / "benchmark" / "runs").glob("*/*/*/run.json"):
        record = read_run(file.parent)
        assert record["status"] == "finished", record["error"]
        ranks = pq.read_table(file.parent / "ranks.parquet").to_pydict()
        losses = json.dumps(record["epochs"]["trained"])
        found[record["model"]] = (record["valid"], record["test"], losses, ranks)
    return found


def test_benchmark(folders):
    whole, killed = folders
    arguments = command("main", "benchmark", "--dataset=toy", "--model=GSERec,LightGCN", "--seeds=1", "--epochs=4")
    started = time.monotonic()
    finish(arguments, whole)
    kill_now_and_then(arguments, killed, time.monotonic() - started)
    finish(arguments, killed)
    expected = results(whole)
    assert expected.keys() == {"GSERec", "LightGCN"}
    assert results(killed) == expected

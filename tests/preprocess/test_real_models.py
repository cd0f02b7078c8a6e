"""The offline stage with a real language model and a real encoder, as a user runs it. Minutes on a CPU."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FAST = ["--llm_max_tokens=40", "--llm_batch_size=16", "--codebook_size=8", "--rq_epochs=30", "--rq_warmup_epochs=5"]


@pytest.fixture
def preprocess(tmp_path, few_users, minilm, smollm2):
    """Runs ``gserec preprocess`` on a copy of the data; returns the finished or running process and the folder."""

    def run(name, *options, wait=True):
        data_path = tmp_path / name
        if not data_path.is_dir():
            shutil.copytree(few_users, data_path)
        command = [Path(sys.executable).with_name("gserec"), "preprocess", "--dataset", "ml-100k-search"]
        command += ["--data_path", data_path, "--llm", smollm2, "--encoder", f"sentence-transformers:{minilm}"]
        process = subprocess.Popen(
            [*map(str, command), *FAST, *options],
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if wait:
            output, _ = process.communicate(timeout=500)
            assert process.returncode == 0, output
        return process, data_path / "ml-100k-search"

    return run


def codes(folder):
    return (folder / "ml-100k-search.code").read_text()


def summaries(folder):
    connection = sqlite3.connect(folder / "ml-100k-search.preprocess.sqlite3")
    return dict(connection.execute("SELECT input, text FROM summaries"))


def test_vllm_killed_three_times_comes_to_the_same_codes(preprocess):
    pytest.importorskip("vllm")
    _, whole = preprocess("whole", "--summarizer=vllm")
    n_killed, least = 0, 0
    while n_killed < 3:
        process, folder = preprocess("killed", "--summarizer=vllm", wait=False)
        store = folder / "ml-100k-search.preprocess.sqlite3"
        least += 16
        while process.poll() is None and not (store.is_file() and len(_stored(store)) >= least):
            time.sleep(0.2)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        n_killed += 1
    assert n_killed == 3
    preprocess("killed", "--summarizer=vllm")
    assert summaries(folder) == summaries(whole)
    assert codes(folder) == codes(whole)


def _stored(store):
    try:
        return sqlite3.connect(store).execute("SELECT input FROM summaries").fetchall()
    except sqlite3.OperationalError:
        return []


def test_another_title_is_all_that_is_made_anew(preprocess):
    pytest.importorskip("vllm")
    _, folder = preprocess("d", "--summarizer=vllm")
    before = summaries(folder)
    items = folder / "ml-100k-search.item"
    text = items.read_text(encoding="utf-8")
    assert text.count("Fargo") == 1
    items.write_text(text.replace("Fargo", "Groundhog Day"), encoding="utf-8")
    _, folder = preprocess("d", "--summarizer=vllm")
    after = summaries(folder)
    assert before.items() <= after.items()
    assert 1 <= len(after) - len(before) <= 30


def test_workers_on_ray_give_the_same(preprocess):
    pytest.importorskip("vllm")
    _, alone = preprocess("alone", "--summarizer=vllm")
    _, together = preprocess("together", "--summarizer=vllm", "--ray", "--ray-workers=2")
    assert summaries(together) == summaries(alone)
    assert codes(together) == codes(alone)


def test_transformers(preprocess):
    _, folder = preprocess("d", "--summarizer=transformers", "--llm_max_tokens=24")
    made = json.loads((folder / "ml-100k-search.code.json").read_text())
    assert made["summarizer"]["name"] == "transformers" and made["summarizer"]["settings"]["content"]
    assert len(codes(folder).splitlines()) == 37

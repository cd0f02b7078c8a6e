"""Killed at any moment and started again, the offline stage repeats a batch at most and comes to the same codes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

# Stand-ins for a language model and an encoder that take their time and note what they are asked.
CHILD = """
import hashlib, sys, time
import numpy as np
import recbole_gserec
from recbole_gserec.preprocess.encoders.known_encoders import ENCODERS
from recbole_gserec.preprocess.run import preprocess_dataset
from recbole_gserec.preprocess.summarizers.known_summarizers import SUMMARIZERS
from recbole_gserec.preprocess.summarizers.base import Completion

data_path, log, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])

def note(kind, texts):
    time.sleep(pause)
    with open(log, "a") as file:
        file.write("".join(f"{kind} {hashlib.md5(text.encode()).hexdigest()}\\n" for text in texts))

class Summarizer:
    name, settings, batch_size, speaks_json, failure = "slow", {}, 4, True, None
    def shorten(self, text, length):
        return text
    def complete(self, prompts, attempt):
        note("prompt", [prompt.text for prompt in prompts])
        # As with a real model, what comes out depends on the whole batch.
        batch = hashlib.md5("".join(prompt.text for prompt in prompts).encode()).hexdigest()
        return [Completion('{"summary": "likes %s %s"}' % (batch, len(prompt.text))) for prompt in prompts]
    def close(self):
        pass

class Encoder:
    name, settings, is_fitted = "slow", {}, False
    def encode(self, texts, max_length=None):
        note("text", texts)
        seeds = [int(hashlib.md5((text + str(len(texts))).encode()).hexdigest()[:8], 16) for text in texts]
        vectors = np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds]).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

import recbole_gserec.preprocess.pipeline as pipeline
import recbole_gserec.preprocess.vectors as vectors
vectors.TEXTS_PER_BATCH = 5
train = pipeline.train_rqvae
def slow_train(*args, progress, **kwargs):
    def slow(*reported):
        time.sleep(pause / 4)
        progress(*reported)
    return train(*args, progress=slow, save_every_s=0, **kwargs)
pipeline.train_rqvae = slow_train

if __name__ == "__main__":
    SUMMARIZERS["openai"] = lambda settings: Summarizer()
    ENCODERS["flag"] = lambda settings, name: Encoder()
    settings = {"data_path": data_path, "summarizer": "openai", "llm": "x", "llm_base_url": "x", "encoder": "flag:x",
                "codebook_size": 8, "rq_epochs": 12, "rq_warmup_epochs": 2, "show_progress": False, "use_gpu": False}
    preprocess_dataset("toy", settings)
    print("finished")
"""


@pytest.fixture
def start(tmp_path, write_files, random_rows):
    """Starts the offline stage of a copy of the toy dataset in a process of its own."""
    (tmp_path / "child.py").write_text(CHILD)
    rows = {suffix: random_rows[suffix] for suffix in ("inter", "search", "query")}

    def run(name, pause):
        if not (tmp_path / name).is_dir():
            write_files(tmp_path / name, "toy", **rows)
        arguments = [tmp_path / name, tmp_path / f"{name}.log", pause]
        return subprocess.Popen(
            [sys.executable, tmp_path / "child.py", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


def test_killed_again_and_again(start, tmp_path):
    whole = start("whole", 0)
    output, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0, output
    files = {file.name for file in (tmp_path / "whole" / "toy").iterdir()}

    kills, chance = 0, random.Random(1)
    log = tmp_path / "killed.log"
    while True:
        child = start("killed", 0.05)
        begun = log.stat().st_size if log.is_file() else 0
        # Not before it has come further than the last one: else it would never come to an end.
        while child.poll() is None and (not log.is_file() or log.stat().st_size == begun) and kills < 4:
            time.sleep(0.01)
        if kills < 4:
            time.sleep(chance.uniform(0, 0.8))
            child.send_signal(signal.SIGKILL)
        output, _ = child.communicate(timeout=120)
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, output
        kills += 1
    assert kills >= 3

    assert {file.name for file in (tmp_path / "killed" / "toy").iterdir()} >= files
    one, other = ((tmp_path / name / "toy" / "toy.code").read_bytes() for name in ("whole", "killed"))
    assert one == other
    one, other = (json.loads((tmp_path / name / "toy" / "toy.code.json").read_text()) for name in ("whole", "killed"))
    # The checksum is of the whole record, the time too.
    assert {**one, "made": 0, "checksum": 0} == {**other, "made": 0, "checksum": 0}
    asked = Counter(log.read_text().splitlines())
    expected = Counter((tmp_path / "whole.log").read_text().splitlines())
    assert asked.keys() == expected.keys()
    repeated = sum(count - 1 for count in asked.values())
    assert repeated <= 5 * kills, "more than the batch in flight was asked again"

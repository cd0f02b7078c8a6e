import io
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from recbole_gserec.errors import InterruptedWorkError
from recbole_gserec.preprocess import rqvae, rqvae_training
from recbole_gserec.preprocess.rqvae_training import train_rqvae
from recbole_gserec.settings.offline import PreprocessSettings

DEFAULTS = PreprocessSettings().rqvae_settings()
# The warm-up ends after epoch 3; checks are at 5, 10, 12.
SMALL = {
    "n_codebooks": 3,
    "codebook_size": 16,
    "code_dim": 8,
    "hidden_sizes": (24, 16),
    "epochs": 12,
    "warmup_epochs": 3,
    "batch_size": 64,
    "learning_rate": 5e-3,
    "check_every": 5,
}
SETTINGS = replace(DEFAULTS, **SMALL)


def make_vectors(n_users: int = 150) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 12))[rng.integers(20, size=n_users)]
    return [(centres + 0.3 * rng.standard_normal(centres.shape)).astype(np.float32) for _ in range(2)]


def assert_same(result, expected):
    for name in ("search_codes", "rec_codes", "search_latents", "rec_latents"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    assert result.history == expected.history and result.metrics == expected.metrics
    assert result.best_epoch == expected.best_epoch
    assert result.state_dict.keys() == expected.state_dict.keys()
    assert all(torch.equal(result.state_dict[name], value) for name, value in expected.state_dict.items())


def saved_epoch(path):
    return torch.load(path, weights_only=True)["epoch"]


class Stop(Exception):
    pass


def train_until(last_epoch, path, vectors, settings=SETTINGS, **options):
    """Train, and be interrupted after ``last_epoch``."""

    def progress(epoch, *_):
        if epoch == last_epoch:
            raise Stop

    with pytest.raises(Stop):
        train_rqvae(*vectors, settings, progress=progress, checkpoint=path, **{"save_every_s": 0.0} | options)


@pytest.fixture(scope="module")
def vectors():
    return make_vectors()


@pytest.fixture(scope="module")
def expected(vectors):
    return train_rqvae(*vectors, SETTINGS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "toy.rqvae.pth"


@pytest.mark.parametrize("epoch", [1, 2, 3, 4, 5, 6, 10, 11, 12])
def test_interrupted_training_goes_on_to_the_same_result(vectors, expected, path, epoch):
    train_until(epoch, path, vectors)
    assert saved_epoch(path) == epoch
    assert_same(train_rqvae(*vectors, SETTINGS, checkpoint=path), expected)


def test_interrupted_at_every_epoch(vectors, expected, path):
    heard = []

    def progress(epoch, *_):
        heard.append(epoch)
        # A call that goes on first hears of the epoch that it goes on from.
        if heard.count(epoch) == 1:
            raise Stop

    for _ in range(SETTINGS.epochs):
        with pytest.raises(Stop):
            train_rqvae(*vectors, SETTINGS, checkpoint=path, save_every_s=0.0, progress=progress)
    assert_same(train_rqvae(*vectors, SETTINGS, checkpoint=path), expected)
    assert heard == [1, *(epoch for last in range(1, 12) for epoch in (last, last + 1))]


@pytest.mark.parametrize(
    "settings",
    [{"sinkhorn": False, "kmeans_init": False}, {"keep_best": False}, {"lambda_rq_cl": 0.0, "weight_decay": 0.1}],
    ids=str,
)
def test_other_ways_of_training_go_on_too(vectors, path, settings):
    settings = replace(DEFAULTS, **SMALL | settings)
    train_until(7, path, vectors, settings)
    assert_same(train_rqvae(*vectors, settings, checkpoint=path), train_rqvae(*vectors, settings))


@pytest.mark.parametrize("epoch", [4, 5, 7, 9, 10])
def test_training_that_ends_early_goes_on_to_the_same_end(vectors, path, monkeypatch, epoch):
    settings = replace(SETTINGS, stopping_checks=1, stopping_changed=2.0, stopping_improvement=2.0)
    expected = train_rqvae(*vectors, settings)
    assert expected.history[-1]["epoch"] == 10
    train_until(epoch, path, vectors, settings)
    assert_same(train_rqvae(*vectors, settings, checkpoint=path, save_every_s=1e9), expected)
    # The last epoch is saved whatever the time, and not trained again.
    assert saved_epoch(path) == 10
    monkeypatch.setattr(rqvae_training, "_train_epoch", None)
    assert_same(train_rqvae(*vectors, settings, checkpoint=path), expected)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_killed_processes(tmp_path, path):
    # Long enough that each process is killed while it trains.
    settings, vectors = SMALL | {"epochs": 90, "warmup_epochs": 30}, make_vectors()
    np.save(tmp_path / "vectors.npy", vectors)
    script = f"""
        from pathlib import Path
        import numpy as np
        from dataclasses import replace
        from recbole_gserec.preprocess.rqvae_training import train_rqvae
        from recbole_gserec.settings.offline import PreprocessSettings
        train_rqvae(
            *np.load({str(tmp_path / "vectors.npy")!r}), replace(PreprocessSettings().rqvae_settings(), **{settings!r}),
            checkpoint=Path({str(path)!r}), save_every_s=0.0, progress=lambda epoch, *_: print(epoch, flush=True),
        )
    """
    search_path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": search_path, "OMP_NUM_THREADS": "1"}
    for last in (random.randint(1, 20), random.randint(35, 70)):
        command = [sys.executable, "-c", textwrap.dedent(script)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
            limit = threading.Timer(120, child.kill)
            limit.start()
            for line in child.stdout:
                if int(line) >= last:
                    # Anywhere within an epoch, or while its state is written.
                    time.sleep(random.uniform(0.0, 0.02))
                    child.send_signal(signal.SIGKILL)
                    break
            limit.cancel()
        assert child.returncode == -signal.SIGKILL
        assert last <= saved_epoch(path) < 90
    settings = replace(DEFAULTS, **settings)
    assert_same(train_rqvae(*vectors, settings, checkpoint=path), train_rqvae(*vectors, settings))


def test_nothing_is_done_twice(vectors, expected, path, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError

    train_until(11, path, vectors)
    monkeypatch.setattr(rqvae_training, "kmeans_centres", forbidden)
    assert_same(train_rqvae(*vectors, SETTINGS, checkpoint=path), expected)
    # The last epoch is saved whatever the time, and only the codes are read off again.
    monkeypatch.setattr(rqvae_training, "_train_epoch", forbidden)
    written = path.read_bytes()
    assert_same(train_rqvae(*vectors, SETTINGS, checkpoint=path), expected)
    assert path.read_bytes() == written


def test_progress_starts_with_the_saved_epoch(vectors, path):
    heard, again = [], []
    train_rqvae(*vectors, SETTINGS, progress=lambda *values: heard.append(values))
    train_until(8, path, vectors)
    train_rqvae(*vectors, SETTINGS, checkpoint=path, progress=lambda *values: again.append(values))
    assert again == heard[7:]
    train_rqvae(*vectors, SETTINGS, checkpoint=path, progress=lambda *values: again.append(values))
    assert again[-1] == heard[-1]


def test_saves_are_as_far_apart_as_asked(vectors, path, monkeypatch):
    clock, saved = [100.0], []
    monkeypatch.setattr(rqvae.time, "monotonic", lambda: clock[0])

    def progress(epoch, *_):
        saved.append(saved_epoch(path) if path.exists() else 0)
        clock[0] += 10

    train_rqvae(*vectors, SETTINGS, checkpoint=path, save_every_s=40.0, progress=progress)
    assert saved == [0, 0, 0, 0, 5, 5, 5, 5, 9, 9, 9, 12]


def test_nothing_is_written_without_a_checkpoint(vectors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_rqvae(*vectors, SETTINGS, save_every_s=0.0)
    assert list(tmp_path.iterdir()) == []


def test_only_the_file_is_written(vectors, tmp_path, path):
    train_rqvae(*vectors, SETTINGS, checkpoint=path, save_every_s=0.0)
    assert list(tmp_path.iterdir()) == [path]


def test_file_is_plain_data(vectors, path):
    def kinds(value):
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return {type(value)}.union(*map(kinds, children))

    train_until(6, path, vectors)
    state = torch.load(path, weights_only=True)
    assert kinds(state) <= {dict, list, tuple, torch.Tensor, str, int, float, bool, type(None)}
    assert state["epoch"] == 6 and state["best_epoch"] == 5 and len(state["run_hash"]) == 64


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"epochs": 13}, None),
        ({"seed": 1}, None),
        ({"hidden_sizes": (24,)}, None),
        ({}, lambda search, rec: (rec, search)),
        ({}, lambda search, rec: (search[:-1], rec[:-1])),
        ({}, lambda search, rec: (np.nextafter(search, np.float32(9)), rec)),
    ],
)
def test_file_of_another_run_is_overwritten(vectors, path, caplog, settings, change):
    train_until(8, path, vectors)
    given = change(*vectors) if change else vectors
    settings = replace(DEFAULTS, **SMALL | settings)
    with caplog.at_level(logging.INFO):
        result = train_rqvae(*given, settings, checkpoint=path)
    (record,) = caplog.records
    assert record.levelname == "INFO" and "other settings, vectors or versions" in record.message
    assert_same(result, train_rqvae(*given, settings))
    assert saved_epoch(path) == settings.epochs


@pytest.mark.parametrize("part", ["torch", "recbole_gserec"])
def test_file_of_another_version_is_overwritten(vectors, expected, path, monkeypatch, caplog, part):
    train_until(8, path, vectors)
    monkeypatch.setattr(getattr(rqvae, part), "__version__", "0.0.0")
    with caplog.at_level(logging.INFO):
        assert_same(train_rqvae(*vectors, SETTINGS, checkpoint=path), expected)
    assert "other settings, vectors or versions" in caplog.text


def flip_a_bit(content: bytes) -> bytes:
    weights = torch.load(io.BytesIO(content), weights_only=True)["model"]["search.encoder.0.weight"]
    position = content.index(weights.numpy().tobytes()) + 100
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not a checkpoint",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[1000:],
        flip_a_bit,
    ],
    ids=["empty", "text", "half", "one byte short", "no start", "one bit"],
)
def test_damaged_file_costs_only_time(vectors, expected, path, caplog, damage):
    train_until(8, path, vectors)
    path.write_bytes(damage(path.read_bytes()))
    assert_same(train_rqvae(*vectors, SETTINGS, checkpoint=path), expected)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and f"{path} is damaged" in record.message
    assert saved_epoch(path) == 12


@pytest.mark.parametrize("content", [[1, 2], {"weights": torch.zeros(3)}, np.zeros(3)], ids=["list", "dict", "pickle"])
def test_foreign_file_costs_only_time(vectors, expected, path, content):
    torch.save(content, path)
    assert_same(train_rqvae(*vectors, SETTINGS, checkpoint=path), expected)


@pytest.mark.parametrize("is_hidden", [False, True])
def test_full_disk_is_reported_and_the_saved_state_kept(vectors, expected, path, monkeypatch, is_hidden):
    def full(*_):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            if is_hidden:
                # As torch's own writer does.
                raise RuntimeError("unexpected pos")  # noqa: B904
            raise

    train_until(8, path, vectors)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(InterruptedWorkError, match=r"cannot be saved to .*toy\.rqvae\.pth \(No space left"):
            train_rqvae(*vectors, SETTINGS, checkpoint=path)
    assert saved_epoch(path) == 8 and len(list(path.parent.iterdir())) == 1
    assert_same(train_rqvae(*vectors, SETTINGS, checkpoint=path), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_goes_on_where_the_model_is_on_a_gpu(vectors, path):
    first, second = (train_rqvae(*vectors, SETTINGS, device="cuda") for _ in range(2))
    assert_same(first, second)
    train_until(7, path, vectors, device="cuda")
    assert_same(train_rqvae(*vectors, SETTINGS, device="cuda", checkpoint=path), first)
    # Where training goes on decides its rounding.
    assert torch.load(path, weights_only=True)["run_hash"] != rqvae.training_hash(
        SETTINGS, {"search": torch.from_numpy(vectors[0]), "rec": torch.from_numpy(vectors[1])}
    )

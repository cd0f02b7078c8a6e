"""Whatever bit of a file changes, what is read is what was written, or nothing."""

from __future__ import annotations

import json
import random
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recbole_gserec.errors import DataError
from recbole_gserec.files import stored
from recbole_gserec.files.stored import PARQUET_METADATA, PLACE, read_json, verify, write_json, written_with_checksum
from recbole_gserec.preprocess.vector_files import read_vectors, write_vectors
from recbole_gserec.runs.record import write_ranks
from recbole_gserec.runs.run_store import read_test_ranks

STATE = {
    "epoch": 3,
    "weights": {"a": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([], dtype=torch.int8)},
    "scores": [0.25, None, "best"],
}
RECORD = {
    "format": 1,
    "text": 'a "quoted" 词\n',
    "numbers": [0, -1, 1.5e-7, 1e22, True, None],
    "empty": {},
    "nested": {"b": {"a": []}, "a": "checksum"},
}
IDS = ["a", "b c", "词", ""]
VECTORS = {"text": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)}


class Tokens:
    """The part of a dataset that knows original ids."""

    uid_field, iid_field = "user", "item"
    field2id_token = {"user": ["[PAD]", "u1", "u2", "u3"], "item": ["[PAD]", "i1", "i2", "i3"]}


def save_ranks(path):
    frame = pd.DataFrame({"user": [1, 2, 3], "item": [3, 1, 2], "rank": [1, 100, 7]})
    write_ranks(path, {"valid": frame.assign(rank=1), "test": frame}, Tokens)


def load_ranks(path):
    ranks = read_test_ranks(path)
    return ranks.users.to_pylist(), ranks.items.to_pylist(), ranks.ranks.tolist()


def load_torch(path):
    # Told of tensors all that a reader could see.
    state = stored.load_tensors(path, "Bring it back")
    return repr([state, {name: (part.dtype, part.shape) for name, part in state["weights"].items()}])


def load_vectors(path):
    file = read_vectors(path)
    return file.ids, {name: array.tolist() for name, array in file.vectors.items()}, file.description


def load_json(path):
    return repr(read_json(path, "Bring it back"))


KINDS = {
    "weights.pth": (lambda path: stored.save_tensors(STATE, path), load_torch),
    "ranks.parquet": (save_ranks, load_ranks),
    "item.vectors.parquet": (lambda path: write_vectors(path, IDS, VECTORS, RECORD), load_vectors),
    "run.json": (lambda path: write_json(path, RECORD), load_json),
}


@pytest.fixture(params=KINDS)
def written(request, tmp_path):
    """A file of each kind, and what reads it."""
    save, load = KINDS[request.param]
    save(tmp_path / request.param)
    return tmp_path / request.param, load


def outcome(load, path):
    """What is read; None where the file is refused in one line that names it."""
    try:
        return load(path)
    except DataError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return None


def test_what_was_written_is_read(written):
    path, load = written
    expected = {
        "weights.pth": repr([STATE, {n: (part.dtype, part.shape) for n, part in STATE["weights"].items()}]),
        "ranks.parquet": (["u1", "u2", "u3"], ["i3", "i1", "i2"], [1, 100, 7]),
        "item.vectors.parquet": (IDS, {"text": VECTORS["text"].tolist()}, RECORD),
        "run.json": repr(RECORD),
    }
    assert load(path) == expected[path.name]


def test_the_same_content_gives_the_same_bytes(written, tmp_path):
    path, _ = written
    before = path.read_bytes()
    KINDS[path.name][0](path)
    assert path.read_bytes() == before


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(written):
    path, load = written
    whole, generator = path.read_bytes(), random.Random(0)
    expected, n_refused = load(path), 0
    for index in range(len(whole)):
        data = bytearray(whole)
        data[index] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        found = outcome(load, path)
        assert found is None or found == expected, index
        n_refused += found is None
    # What is harmless: what stands before the checksum in Parquet, and what stands between the values of JSON.
    n_harmless = {".pth": 0, ".parquet": len(PLACE), ".json": sum(whole.count(byte) for byte in b" \n")}
    assert n_refused >= len(whole) - n_harmless[path.suffix]


def test_a_part_of_a_file_is_refused(written):
    path, load = written
    whole = path.read_bytes()
    expected = load(path)
    for length in [*range(0, len(whole) - 70, 23), *range(len(whole) - 70, len(whole))]:
        path.write_bytes(whole[:length])
        try:
            # The line end of a text file may be missing.
            assert outcome(load, path) in (None, expected if whole[length:] == b"\n" else None), length
        except Exception as error:
            # Where nothing is left of the checksum, torch has the word; its callers take anything for damage.
            assert path.suffix == ".pth" and not isinstance(error, AssertionError), error


def test_a_file_with_something_behind_it_is_refused(written):
    path, load = written
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    assert outcome(load, path) is None


def test_two_halves_of_different_files_are_refused(tmp_path):
    """As a copy leaves it that was interrupted and began again after the file was written anew."""
    for name, weights in (("old.pth", torch.zeros(9999)), ("new.pth", torch.ones(9999))):
        stored.save_tensors({"weights": weights}, tmp_path / name)
    old, new = (tmp_path / "old.pth").read_bytes(), (tmp_path / "new.pth").read_bytes()
    (tmp_path / "new.pth").write_bytes(new[: len(new) // 2] + old[len(old) // 2 :])
    with pytest.raises(DataError, match="new.pth: damaged: its checksum does not match. Train again"):
        stored.load_tensors(tmp_path / "new.pth", "Train again")


# ---- other readers and writers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mmap", [True, False])
def test_torch_alone_reads_the_file(tmp_path, mmap):
    stored.save_tensors(STATE, tmp_path / "a.pth")
    assert repr(torch.load(tmp_path / "a.pth", weights_only=True, mmap=mmap)) == repr(STATE)
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        assert archive.testzip() is None and archive.comment.startswith(PLACE[:-64])


def test_files_of_torch_alone_are_read_and_their_parts_compared(tmp_path):
    """So are checkpoints of earlier versions."""
    path = tmp_path / "a.pth"
    torch.save(STATE, path)
    assert repr(stored.load_tensors(path, "Train again")) == repr(STATE)
    data = path.read_bytes()
    weights = STATE["weights"]["a"].numpy().tobytes()
    assert data.count(weights) == 1
    path.write_bytes(data.replace(weights, weights[:-1] + b"\x7f"))
    with pytest.raises(DataError, match="a.pth: damaged: 'a/data/0' in it does not match its checksum. Train again"):
        stored.load_tensors(path, "Train again")


def test_a_checksum_needs_no_pandas_or_pyarrow_of_ours(tmp_path):
    save_ranks(tmp_path / "ranks.parquet")
    frame = pd.read_parquet(tmp_path / "ranks.parquet")
    assert list(frame.columns) == ["part", "user", "item", "rank"] and frame["rank"].tolist() == [1, 1, 1, 1, 100, 7]


def test_json_is_known_by_its_values(tmp_path):
    """Line ends and indents change on the way through other programs; files made by hand have no checksum."""
    path = tmp_path / "run.json"
    write_json(path, RECORD)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert list(content) == [*RECORD, "checksum"]
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_json(path, "") == RECORD
    path.write_text(json.dumps(content, sort_keys=True))
    assert read_json(path, "") == RECORD
    path.write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(DataError, match="run.json: damaged: its checksum does not match. Run it again"):
        read_json(path, "Run it again")
    path.write_text(json.dumps({**RECORD, "format": 2}))
    assert read_json(path, "")["format"] == 2
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json", "")


def test_a_long_file_is_compared_too(tmp_path):
    """Longer than what is held in memory at once, with the checksum before its last block."""
    path = tmp_path / "long.parquet"
    table = pa.table({"a": np.random.default_rng(0).random(500_000)})
    with written_with_checksum(path) as temporary:
        pq.write_table(table.replace_schema_metadata(PARQUET_METADATA), temporary)
    assert verify(path, "") and pq.read_table(path).equals(table)
    data = bytearray(path.read_bytes())
    assert len(data) > 3_000_000
    for index in (3_000_000, 100, len(data) - 100):
        data[index] ^= 1
        path.write_bytes(data)
        with pytest.raises(DataError):
            verify(path, "")
        data[index] ^= 1
    path.write_bytes(data)
    assert verify(path, "")


def test_a_writer_that_leaves_no_place_is_a_defect(tmp_path):
    with (
        pytest.raises(ValueError, match="without space for its checksum"),
        written_with_checksum(tmp_path / "a") as temporary,
    ):
        temporary.write_text("text")
    assert not list(tmp_path.iterdir())

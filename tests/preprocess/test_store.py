import itertools
import multiprocessing
import os
import random
import signal
import sqlite3
import stat
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_gserec.errors import DataError
from recbole_gserec.preprocess.answers import STATUSES, Summary
from recbole_gserec.preprocess.store import VERSION, Store, _checksum, maker_hash, text_hash

counts = st.one_of(st.none(), st.integers(0, 2**15))
summaries = st.builds(Summary, st.sampled_from(list(STATUSES)), st.text(), st.integers(1, 9), counts, counts, counts)
# A child that is forked has nothing to import.
forked = multiprocessing.get_context("fork")


def keys(*names):
    return [text_hash(str(name)) for name in names]


def write_batches(path, name, n_batches, report=lambda batch: None):
    with Store(path) as store:
        maker = store.add_maker("summarizer", {"name": "the same"})
        for batch in range(n_batches):
            inputs = keys(*(f"{name} {batch} {index}" for index in range(20)))
            # Long enough that a batch takes many pages, and their writing some time.
            store.add_summaries({key: Summary("json", f"{batch} " * 1000) for key in inputs}, maker)
            store.add_vectors(inputs, np.full((20, 300), batch, dtype=np.float32), maker)
            report(batch)


def stored_batches(path, name, n_batches):
    """Numbers of the batches whose summaries, and whose vectors, are there; each must be complete and right."""
    found = [], []
    with Store(path) as store:
        maker = maker_hash({"name": "the same"})
        for batch in range(n_batches):
            inputs = keys(*(f"{name} {batch} {index}" for index in range(20)))
            texts, vectors = store.summaries(inputs, maker), store.vectors(inputs, maker)
            assert len(texts) in (0, 20)
            assert len(vectors) in (0, 20)
            assert {summary.text for summary in texts.values()} <= {f"{batch} " * 1000}
            assert all(np.array_equal(vector, np.full(300, batch)) for vector in vectors.values())
            for batches, entries in zip(found, (texts, vectors), strict=True):
                batches += [batch] if entries else []
    return found


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "new" / "toy.sqlite3") as store:
        yield store


@pytest.fixture
def filled(tmp_path):
    """A closed store of some pages, with what is in it."""
    path = tmp_path / "toy.sqlite3"
    texts = {key: Summary("json", f"summary {key} of some length") for key in keys(*range(200))}
    vectors = dict(zip(texts, np.arange(200 * 16, dtype=np.float32).reshape(200, 16), strict=True))
    with Store(path) as store:
        maker = store.add_maker("any", {"name": "a"})
        store.add_summaries(texts, maker)
        store.add_vectors(list(vectors), np.stack(list(vectors.values())), maker)
    return path, texts, vectors


def read_all(path, inputs):
    with Store(path) as store:
        maker = maker_hash({"name": "a"})
        return store.summaries(inputs, maker), store.vectors(inputs, maker)


@pytest.fixture(scope="module")
def many_makers(tmp_path_factory):
    """The path of a store, and descriptions of makers that it does not know yet."""
    return tmp_path_factory.mktemp("store") / "toy.sqlite3", ({"number": number} for number in itertools.count())


@given(entries=st.dictionaries(st.text().map(text_hash), summaries))
@settings(max_examples=50, deadline=None)
def test_summaries_come_back_as_they_were(many_makers, entries):
    path, makers = many_makers
    with Store(path) as store:
        maker = store.add_maker("summarizer", next(makers))
        store.add_summaries(entries, maker)
        assert store.summaries([*entries, *keys("unknown")], maker) == entries
    with Store(path) as store:
        assert store.summaries(list(entries), maker) == entries


def test_vectors_come_back_as_they_were(store):
    maker = store.add_maker("encoder", {"name": "a"})
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    vectors[0, :3] = [-0.0, np.inf, 1e-42]
    # Every second column, turned round: as no file has it.
    store.add_vectors(keys("a", "b", "c"), np.asfortranarray(vectors)[:, ::-2], maker)
    found = store.vectors(keys("c", "unknown", "a", "b"), maker)
    assert sorted(found) == sorted(keys("a", "b", "c"))
    for key, vector in zip(keys("a", "b", "c"), vectors, strict=True):
        assert found[key].dtype == np.float32
        assert found[key].tobytes() == vector[::-2].tobytes()


def test_entries_are_found_by_their_own_maker_only(store):
    descriptions = [{"name": "a"}, {"name": "a", "seed": 1}, {"name": "a", "seed": 2}]
    makers = [store.add_maker("summarizer", description) for description in descriptions]
    for index, maker in enumerate(makers[:2]):
        store.add_summaries({text_hash("p"): Summary("json", f"by {index}")}, maker)
        store.add_vectors(keys("p"), np.full((1, 2), index), maker)
    found = [[summary.text for summary in store.summaries(keys("p"), maker).values()] for maker in makers]
    assert found == [["by 0"], ["by 1"], []]
    assert [[*map(list, store.vectors(keys("p"), maker).values())] for maker in makers] == [[[0, 0]], [[1, 1]], []]


def test_a_maker_s_entry_is_never_another_s(store):
    """Where a damaged index leads to the entry of another maker, of the very same prompt or text."""
    makers = [store.add_maker("summarizer", {"name": name}) for name in "ab"]
    for maker in makers:
        store.add_summaries({text_hash("p"): Summary("json", f"by {maker}")}, maker)
        store.add_vectors(keys("p"), np.zeros((1, 2)), maker)
    for table in ("summaries", "vectors"):
        store._open.execute(f"DELETE FROM {table} WHERE maker = ?", (makers[0],))
        store._open.execute(f"UPDATE {table} SET maker = ?", (makers[0],))
    for read in (store.summaries, store.vectors):
        with Store(store.path) as again, pytest.raises(DataError, match="damaged: the .* has changed"):
            getattr(again, read.__name__)(keys("p"), makers[0])


def test_entries_of_earlier_versions_are_read(store):
    """Their checksums do not tell the maker."""
    maker = store.add_maker("summarizer", {"name": "a"})
    entry = (text_hash("p"), "json", "text", 1, None, 3, None)
    row = (*entry[:1], maker, *entry[1:], _checksum(*entry))
    store._open.execute("INSERT INTO summaries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    assert store.summaries(keys("p"), maker) == {text_hash("p"): Summary(*entry[1:])}


def test_a_maker_is_known_by_its_settings_in_any_order(store):
    first = store.add_maker("summarizer", {"name": "a", "seed": 1, "arguments": {"x": [1], "y": "\u978b"}})
    assert store.add_maker("summarizer", {"arguments": {"y": "\u978b", "x": [1]}, "seed": 1, "name": "a"}) == first
    assert store.add_maker("summarizer", {"name": "a", "seed": 1, "arguments": {"x": [2], "y": "\u978b"}}) != first


def test_makers_are_described_in_the_file(store):
    store.add_maker("encoder", {"seed": 1, "name": "\u978b"})
    rows = sqlite3.connect(store.path).execute("SELECT kind, description FROM makers").fetchall()
    assert rows == [("encoder", '{"name": "\u978b", "seed": 1}')]


def test_an_entry_is_replaced(store):
    maker = store.add_maker("summarizer", {"name": "a"})
    store.add_summaries({key: Summary("truncated", "no") for key in keys("a", "b")}, maker)
    store.add_summaries({text_hash("b"): Summary("json", "yes", 2)}, maker)
    found = store.summaries(keys("a", "b"), maker)
    assert [found[key].text for key in keys("a", "b")] == ["no", "yes"]
    store.add_vectors(keys("a", "a"), np.array([[1, 2], [3, 4]]), maker)
    assert store.vectors(keys("a"), maker)[text_hash("a")].tolist() == [3, 4]


@pytest.mark.parametrize("n_entries", [0, 1, 499, 500, 501, 1700])
def test_any_number_of_entries_is_found(store, n_entries):
    maker = store.add_maker("summarizer", {"name": "a"})
    entries = {key: Summary("json", key) for key in keys(*range(n_entries))}
    store.add_summaries(entries, maker)
    store.add_vectors(list(entries), np.arange(n_entries)[:, None], maker)
    assert store.summaries([*entries, *keys("x")], maker) == entries
    vectors = store.vectors([*keys("x"), *entries], maker)
    assert [float(vectors[key][0]) for key in entries] == list(range(n_entries))


def test_a_batch_with_an_entry_that_cannot_be_stored_leaves_nothing(store):
    maker = store.add_maker("summarizer", {"name": "a"})
    with pytest.raises(UnicodeEncodeError):
        store.add_summaries(
            dict(zip(keys(1, 2), [Summary("json", "a"), Summary("json", "\ud83d")], strict=True)), maker
        )
    with pytest.raises(ValueError, match="zip"):
        store.add_vectors(keys(1, 2, 3), np.zeros((2, 2)), maker)
    assert (store.summaries(keys(1, 2), maker), store.vectors(keys(1, 2), maker)) == ({}, {})
    store.add_summaries({text_hash("1"): Summary("json", "a")}, maker)
    assert len(store.summaries(keys(1, 2), maker)) == 1


# ---- damage ---------------------------------------------------------------------------------------------------------


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def zero_the_middle(path):
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(size // 4)
        file.write(bytes(size // 2))


def scramble_the_header(path):
    with open(path, "r+b") as file:
        file.write(b"\xff" * 15)


def make_a_newer_version(path):
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


def replace(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def drop_a_table(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE vectors")


def put_another_database(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE movies (id INTEGER)")


def put_another_database_with_a_version(path):
    put_another_database(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION}")


def put_a_text(path):
    path.write_text("user_id:token\n")


def put_a_long_text(path):
    path.write_text("user_id:token\n" * 10_000)


def put_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "damaged"),
        (zero_the_middle, "damaged"),
        (scramble_the_header, "damaged"),
        (make_a_newer_version, f"store format {VERSION + 1}; this version reads format {VERSION}"),
        (drop_a_table, "damaged (no such table: vectors)"),
        (partial(replace, old=b"CREATE TABLE vectors", new=b"CREATE T\xd6BLE vectors"), "damaged"),
        (partial(replace, old=b"vectors (", new=b"vectors '"), "damaged"),
        (partial(replace, old=b"vector BLOB", new=b"vectos BLOB"), "damaged (no such column: vector)"),
        (put_another_database, "not a store of summaries and vectors"),
        (put_another_database_with_a_version, "not a store of summaries and vectors"),
        (put_a_text, "damaged"),
        (put_a_long_text, "damaged"),
        (put_a_folder, "cannot be read or written"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(filled, damage, message):
    path, entries, _ = filled
    damage(path)
    with pytest.raises(DataError) as caught:
        read_all(path, list(entries))
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_database_is_left_as_it_is(filled):
    path, *_ = filled
    put_another_database(path)
    before = path.read_bytes()
    with pytest.raises(DataError):
        Store(path)
    assert path.read_bytes() == before


def test_a_file_in_the_folder_s_place_is_named(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(DataError, match=r"folder/toy\.sqlite3: cannot be read or written"):
        Store(tmp_path / "folder" / "toy.sqlite3")


def test_a_read_only_file_is_named(filled):
    path, *_ = filled
    path.chmod(0o444)
    path.parent.chmod(0o555)
    for parent in path.parents[1:]:
        if not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(0o755)
    is_root = os.geteuid() == 0
    if is_root:  # whom no permission binds
        os.seteuid(65534)
    try:
        with pytest.raises(DataError) as caught, Store(path) as store:
            store.add_maker("any", {"name": "b"})
    finally:
        if is_root:
            os.seteuid(0)
        path.parent.chmod(0o755)
    assert str(caught.value).startswith(f"{path}: cannot be read or written (attempt to write a readonly database)")


@pytest.mark.parametrize("sort", ["summaries", "vectors"])
# The last makes a byte that is no UTF-8.
@pytest.mark.parametrize("bit", [0x01, 0x10, 0x80])
def test_a_flipped_bit_in_an_entry_is_found_when_it_is_read(filled, sort, bit):
    path, texts, vectors = filled
    index = list(texts)[100]
    content = texts[index].text.encode() if sort == "summaries" else vectors[index].tobytes()
    data = bytearray(path.read_bytes())
    (start,) = [at for at in range(len(data)) if data.startswith(content, at)]
    data[start + 9] ^= bit
    path.write_bytes(data)
    others = [key for key in texts if key != index]
    with Store(path) as store:
        maker = maker_hash({"name": "a"})
        assert store.summaries(others, maker) == {key: texts[key] for key in others}
        assert len(store.vectors(others, maker)) == len(others)
        with pytest.raises(DataError, match=f"damaged: the (summary|vector) of (prompt|text) {index[:12]} has changed"):
            getattr(store, sort)(list(texts), maker)


def test_whatever_byte_is_flipped_nothing_wrong_is_read(filled):
    path, texts, vectors = filled
    whole, generator = path.read_bytes(), random.Random(0)
    n_noticed = 0
    for _ in range(400):
        data = bytearray(whole)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        try:
            found_texts, found_vectors = read_all(path, list(texts))
        except DataError as error:
            n_noticed += 1
            assert "\n" not in str(error)
            continue
        assert found_texts.items() <= texts.items()
        assert all(np.array_equal(vector, vectors[key]) for key, vector in found_vectors.items())
    # In most places a byte is part of an entry, or of what leads to one.
    assert n_noticed > 40


# ---- several processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(5))
def test_a_killed_process_leaves_whole_batches(tmp_path, attempt):
    path = tmp_path / "toy.sqlite3"
    receiver, sender = forked.Pipe(duplex=False)
    writer = forked.Process(target=write_batches, args=(path, "writer", 100_000, sender.send), daemon=True)
    writer.start()
    noted = receiver.recv()
    time.sleep(random.Random(attempt).random() * 0.3)
    writer.kill()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    while receiver.poll():
        noted = receiver.recv()
    in_summaries, in_vectors = stored_batches(path, "writer", noted + 3)
    assert in_summaries == list(range(len(in_summaries)))
    assert in_vectors == list(range(len(in_vectors)))
    # What was stored before the last note is there; between storing and noting, the kill may have come.
    assert noted < len(in_vectors) <= len(in_summaries) <= noted + 2


class Deadly(dict):
    """Entries that kill who has read the last of them."""

    def items(self):
        yield from super().items()
        os.kill(os.getpid(), signal.SIGKILL)


def write_and_die(path, inputs):
    with Store(path) as store:
        store.add_summaries(
            Deadly({key: Summary("text", "new " * 100_000) for key in inputs}), maker_hash({"name": "a"})
        )


def test_a_process_killed_amid_a_batch_leaves_nothing_of_it(filled):
    path, texts, _ = filled
    size, added = path.stat().st_size, keys(*(f"new {index}" for index in range(20)))
    writer = forked.Process(target=write_and_die, args=(path, [*list(texts)[:3], *added]))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    # More than SQLite keeps in memory: part of the batch is in the file.
    assert path.stat().st_size > size + 1_000_000
    found, vectors = read_all(path, [*texts, *added])
    assert found == texts
    assert len(vectors) == len(texts)


def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "toy.sqlite3"
    writers = {name: forked.Process(target=write_batches, args=(path, name, 15)) for name in ("first", "second")}
    for writer in writers.values():
        writer.start()
    for writer in writers.values():
        writer.join(120)
        assert writer.exitcode == 0
    for name in writers:
        assert stored_batches(path, name, 15) == (list(range(15)), list(range(15)))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recbole_gserec.errors import DataError
from recbole_gserec.preprocess import vector_files
from recbole_gserec.preprocess.vector_files import read_vectors, write_vectors

IDS = ["u1", "7", "", "用户"]
DESCRIPTION = {"encoder": {"name": "tfidf", "dim": 3}, "text": "übung", "version": None}


def some_vectors(n=4):
    random = np.random.default_rng(0)
    return {
        "search": random.normal(size=(n, 3)).astype(np.float32),
        "recommendation": random.normal(size=(n, 2)).astype(np.float32),
    }


def column(values, size=2):
    return pa.array(values, type=pa.list_(pa.float32(), size))


def write_table(path, columns, metadata=None):
    """A file that another tool wrote."""
    metadata = {b"recbole_gserec": b"{}"} if metadata is None else metadata
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some" / "data.user.vectors.parquet"


def test_what_is_written_is_read(path):
    vectors = some_vectors()
    write_vectors(path, IDS, vectors, DESCRIPTION)
    ids, read, description = read_vectors(path)
    assert ids == IDS
    assert description == DESCRIPTION
    assert list(read) == list(vectors)
    for name, array in read.items():
        assert array.dtype == np.float32
        assert array.flags.writeable
        assert np.array_equal(array, vectors[name])


def test_rows_in_several_groups(path, monkeypatch):
    monkeypatch.setattr(vector_files, "_ROWS_AT_ONCE", 7)
    vectors, ids = some_vectors(40), [str(index) for index in range(40)]
    write_vectors(path, ids, vectors, {})
    assert pq.ParquetFile(path).num_row_groups == 6
    read = read_vectors(path)
    assert read.ids == ids
    assert all(np.array_equal(read.vectors[name], array) for name, array in vectors.items())


def test_no_row(path):
    write_vectors(path, [], {"text": np.zeros((0, 5))}, {})
    ids, vectors, _ = read_vectors(path)
    assert ids == []
    assert vectors["text"].shape == (0, 5)


def test_the_layout_is_the_documented_one(path):
    write_vectors(path, IDS, some_vectors(), DESCRIPTION)
    schema = pq.read_schema(path)
    assert schema.names == ["id", "search", "recommendation"]
    assert schema.types == [pa.string(), pa.list_(pa.float32(), 3), pa.list_(pa.float32(), 2)]
    assert b'"name": "tfidf"' in schema.metadata[b"recbole_gserec"]


def test_arrays_of_any_layout_and_number_format(path):
    array = np.arange(24, dtype=np.float64).reshape(6, 4).T
    write_vectors(path, IDS, {"text": array}, {})
    assert np.array_equal(read_vectors(path).vectors["text"], array)


def test_a_file_of_another_tool_is_read(path, tmp_path):
    other = write_table(tmp_path / "other.parquet", {"id": ["a", "b"], "text": column([[1, 2], [3, 4]])})
    assert np.array_equal(read_vectors(other).vectors["text"], [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "ids, vectors",
    [
        (["a", "a"], {"text": np.zeros((2, 3))}),
        (["a", "b"], {}),
        (["a", "b"], {"id": np.zeros((2, 3))}),
        (["a", "b"], {"text": np.zeros((3, 3))}),
        (["a", "b"], {"text": np.zeros(2)}),
        (["a", "b"], {"text": np.zeros((2, 0))}),
        (["a", "b"], {"text": np.array([[1.0], [np.nan]])}),
        (["a", "b"], {"text": np.array([[1.0], [np.inf]])}),
    ],
)
def test_nothing_is_written_that_would_not_be_read(path, ids, vectors):
    with pytest.raises(ValueError):
        write_vectors(path, ids, vectors, {})
    assert not path.exists()


def test_a_failed_write_leaves_the_old_file(path):
    write_vectors(path, IDS, some_vectors(), DESCRIPTION)
    with pytest.raises(TypeError):
        write_vectors(path, IDS, some_vectors(), {"not JSON": object()})
    assert read_vectors(path).description == DESCRIPTION
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_file(path):
    with pytest.raises(DataError, match="data.user.vectors.parquet: there is no such file. .*gserec preprocess"):
        read_vectors(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet file at all, but text\n" * 9])
def test_something_else(tmp_path, content):
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match="x.parquet: damaged, or not a Parquet file") as caught:
        read_vectors(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file(path):
    write_vectors(path, IDS, some_vectors(), DESCRIPTION)
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="damaged"):
            read_vectors(path)


def test_a_changed_byte_never_gives_other_content(path):
    vectors = some_vectors()
    write_vectors(path, IDS, vectors, DESCRIPTION)
    content, n_told = path.read_bytes(), 0
    positions = range(0, len(content), 3)
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            read = read_vectors(path)
        except DataError:
            n_told += 1
        else:
            assert (read.ids, read.description, list(read.vectors)) == (IDS, DESCRIPTION, list(vectors))
            assert all(np.array_equal(read.vectors[name], array) for name, array in vectors.items())
    # What may change unseen is the name of the writing program and the like.
    assert n_told > 0.5 * len(positions)


@pytest.mark.parametrize(
    "columns, problem",
    [
        ({"text": column([[1, 2]])}, "no column 'id'"),
        ({"id": [1], "text": column([[1, 2]])}, "no column 'id' of strings"),
        ({"id": ["a"]}, "no column of vectors"),
        ({"id": ["a"], "text": [[1.0, 2.0]]}, "column 'text' is list<"),
        ({"id": ["a"], "text": ["1 2"]}, "column 'text' is string; it must be"),
        ({"id": ["a"], "text": pa.array([[1, 2]], type=pa.list_(pa.float64(), 2))}, "column 'text' is fixed_size_list"),
        ({"id": ["a", "b", "a"], "text": column([[1, 2]] * 3)}, "has the id 'a' more than once"),
        ({"id": ["a", "b"], "text": column([[1, 2], [3, float("nan")]])}, "column 'text' has NaN .* at id 'b'"),
        ({"id": ["a", "b"], "text": column([[1, 2], [3, None]])}, "column 'text' has NaN .* at id 'b'"),
        ({"id": ["a", "b"], "text": column([[1, 2], [float("-inf"), 3]])}, "at id 'b'"),
        ({"id": ["a", None], "text": column([[1, 2], [3, 4]])}, "rows without an id or a vector"),
        ({"id": ["a", "b"], "text": column([[1, 2], None])}, "rows without an id or a vector|lists to be of size=2"),
    ],
)
def test_wrong_content_is_reported(tmp_path, columns, problem):
    path = write_table(tmp_path / "wrong.parquet", columns)
    with pytest.raises(DataError, match=problem) as caught:
        read_vectors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metadata", [{}, {b"recbole_gserec": b"{"}, {b"recbole_gserec": b"[1]"}])
def test_a_file_that_does_not_say_what_made_it(tmp_path, metadata):
    path = write_table(tmp_path / "x.parquet", {"id": ["a"], "text": column([[1, 2]])}, metadata)
    with pytest.raises(DataError, match="does not say what made its vectors"):
        read_vectors(path)

"""Errors come whole out of other processes."""

import pickle

from recbole_gserec.errors import DataError


def test_an_error_about_a_file_survives_pickling():
    error = DataError("toy.inter", "no such column", "Check the header", line=3)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is DataError
    assert (str(copy), copy.path, copy.line) == (str(error), error.path, 3)

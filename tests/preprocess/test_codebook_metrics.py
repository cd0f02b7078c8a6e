import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_gserec.preprocess import codebook_metrics as module
from recbole_gserec.preprocess.codebook_metrics import (
    code_tuples,
    codebook_metrics,
    collision_rate,
    level_usage,
    reconstruction_error,
)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=40))
def test_tuples_are_numbered_as_a_dictionary_would(rows):
    numbers, counts = code_tuples(np.array(rows))
    assert len(counts) == len(set(rows))
    members = {row: {number for other, number in zip(rows, numbers, strict=True) if other == row} for row in rows}
    assert all(len(found) == 1 for found in members.values())
    assert all(counts[numbers[index]] == rows.count(row) for index, row in enumerate(rows))
    assert collision_rate(np.array(rows)) == pytest.approx(1 - len(set(rows)) / len(rows))


def test_many_large_levels_do_not_overflow():
    # As numbers in base 65536 the first two differ by 2**80, which is 0 in 64 bits.
    codes = np.zeros((3, 6), dtype=np.int64)
    codes[1, 0], codes[2] = 1, 65_535
    assert collision_rate(codes) == 0
    assert collision_rate(np.repeat(codes, 2, axis=0)) == pytest.approx(0.5)


def test_usage_of_known_codes():
    usage = level_usage(np.array([0, 0, 3, 3]), codebook_size=8)
    assert usage == {"perplexity": pytest.approx(2.0), "used_codes": 2, "dead_codes": 6}
    skewed = level_usage(np.array([1, 1, 1, 2]), codebook_size=4)
    assert skewed["perplexity"] == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    assert level_usage(np.arange(8), codebook_size=8)["perplexity"] == pytest.approx(8)


def test_reconstruction_error_is_the_unexplained_share_of_variance(monkeypatch):
    monkeypatch.setattr(module, "ROWS_PER_CHUNK", 7)
    generator = torch.Generator().manual_seed(0)
    # A mean far larger than the spread must not hide the error.
    vectors = torch.randn(20, 6, generator=generator) + 10
    table = torch.randn(20, 6, generator=generator) + 10
    codes = torch.arange(20).unsqueeze(1)
    expected = (vectors - table).square().sum() / (vectors - vectors.mean(0)).square().sum()
    assert reconstruction_error(vectors, codes, lambda c: table[c[:, 0]]) == pytest.approx(expected.item(), rel=1e-5)
    assert reconstruction_error(vectors, codes, lambda c: vectors[c[:, 0]]) == 0
    mean = vectors.mean(0)
    assert reconstruction_error(vectors, codes, lambda c: mean.expand(len(c), -1)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("row", [[0.0, 0.0, 0.0], [0.1, -0.7, 1 / 3]])
def test_reconstruction_error_without_spread_is_absolute(row):
    vectors, codes = torch.tensor([row]).repeat(5, 1), torch.zeros(5, 1, dtype=torch.int64)
    assert reconstruction_error(vectors, codes, lambda _: vectors) == 0
    assert reconstruction_error(vectors, codes, lambda _: vectors + 1) == pytest.approx(3)


def test_metrics_of_both_sides_survive_json():
    search, rec = np.array([[0, 1], [0, 1], [2, 1], [2, 0]]), np.array([[0, 0], [1, 1], [2, 2], [3, 3]])
    metrics = codebook_metrics(search, rec, (4, 6), search_error=0.5)
    assert json.loads(json.dumps(metrics)) == metrics
    assert metrics["search"]["collision_rate"] == 0.25
    assert metrics["rec"]["collision_rate"] == 0
    assert metrics["collision_rate"] == 0.125
    assert metrics["search"]["reconstruction_error"] == 0.5 and metrics["rec"]["reconstruction_error"] is None
    assert [level["used_codes"] for level in metrics["search"]["levels"]] == [2, 2]
    assert [level["dead_codes"] for level in metrics["rec"]["levels"]] == [0, 2]
    assert [level["perplexity"] for level in metrics["rec"]["levels"]] == pytest.approx([4, 4])

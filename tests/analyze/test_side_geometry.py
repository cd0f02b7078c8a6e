"""Numbers of two sides, against plain formulas and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from recbole_gserec.analyze import tsne as module
from recbole_gserec.analyze.tsne import side_geometry


def two_sides(seed=0, n=23, apart=0.0):
    generator = np.random.default_rng(seed)
    search = generator.normal(size=(n, 5)).astype(np.float32)
    return search, (search + 0.3 * generator.normal(size=(n, 5)) + apart).astype(np.float32)


def plain(search, recommendation):
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (search, recommendation)]
    alignment = np.mean([np.sum((x - y) ** 2) for x, y in zip(*unit, strict=True)])
    uniformity = [
        np.log(np.mean([np.exp(-2 * np.sum((x - y) ** 2)) for i, x in enumerate(side) for y in side[:i]]))
        for side in unit
    ]
    means = [side.mean(0) for side in (search, recommendation)]
    spread = [np.sum((x - mean) ** 2) for side, mean in zip((search, recommendation), means, strict=True) for x in side]
    labels = np.repeat([0, 1], len(search))
    return {
        "silhouette": silhouette_score(np.concatenate([search, recommendation]), labels),
        "separation": np.linalg.norm(means[0] - means[1]) / np.sqrt(np.mean(spread)),
        "alignment": alignment,
        "cosine": np.mean([x @ y for x, y in zip(*unit, strict=True)]),
        "uniformity_search": uniformity[0],
        "uniformity_recommendation": uniformity[1],
    }


@pytest.mark.parametrize("apart", [0.0, 0.5, 20.0])
def test_against_plain_formulas(apart):
    sides = two_sides(apart=apart)
    assert side_geometry(*sides)._asdict() == pytest.approx(plain(*sides), rel=1e-5, abs=1e-6)


def test_blocks_change_nothing(monkeypatch):
    sides = two_sides()
    whole = side_geometry(*sides)
    monkeypatch.setattr(module, "_ELEMENTS", 70)
    assert side_geometry(*sides)._asdict() == pytest.approx(whole._asdict(), rel=1e-7)


def test_sides_far_apart_equal_ones_and_turned_ones():
    search, _ = two_sides()
    assert side_geometry(search, search + 1000).silhouette > 0.99
    same = side_geometry(search, search)
    # A vector's twin on the other side is at distance 0, which draws it there a little.
    assert same.alignment == pytest.approx(0, abs=1e-12) and same.cosine == pytest.approx(1) and same.separation == 0
    assert -0.2 < same.silhouette < 0
    turned = side_geometry(search, -search)
    assert turned.alignment == pytest.approx(4) and turned.cosine == pytest.approx(-1)


def test_one_point_is_not_uniform_and_no_vector_is_no_error():
    one = np.ones((4, 3), dtype=np.float32)
    found = side_geometry(one, one)
    assert found.uniformity_search == pytest.approx(0, abs=1e-12) and found.silhouette == 0
    assert np.isfinite(side_geometry(np.zeros((4, 3), dtype=np.float32), one)).all()

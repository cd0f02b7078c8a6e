import io

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_gserec.plugin.checkpoint import PortableArray, PortableMatrix


def round_trip(value):
    file = io.BytesIO()
    torch.save({"value": value}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)["value"]


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.asmatrix([[1, 2], [3, 4]])])
def test_arrays(array):
    restored = round_trip(PortableArray(array))
    assert type(restored) is type(array) and restored.dtype == array.dtype
    np.testing.assert_array_equal(restored, array)


@pytest.mark.parametrize("kind", ["csr", "csc", "lil", "coo", "dok"])
def test_sparse_matrices(kind):
    matrix = sp.random(5, 4, density=0.4, random_state=0).asformat(kind)
    restored = round_trip(PortableMatrix(matrix))
    assert restored.format == kind and restored.shape == (5, 4)
    np.testing.assert_array_equal(restored.toarray(), matrix.toarray())


@pytest.mark.usefixtures("random_dataset")
@pytest.mark.parametrize("model", ["EASE", "ItemKNN", "SLIMElastic", "DIN"])
def test_models_that_keep_more_than_weights_reload_their_checkpoints(make_config, model, monkeypatch):
    import sys

    from recbole.quick_start import run_recbole

    make_config()
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    settings = {"epochs": 1, "show_progress": False, "data_path": "dataset"}
    if model == "DIN":
        settings["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
    result = run_recbole(model=model, dataset="toy", config_dict=settings)
    assert 0 <= result["test_result"]["ndcg@5"] <= 1

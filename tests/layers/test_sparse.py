import copy

import numpy as np
import scipy.sparse as sp
import torch

from recbole_gserec.layers.graph import ConstantMatrix, SparseProduct


def test_products_and_gradients_are_those_of_the_dense_matrix():
    torch.manual_seed(0)
    matrix = sp.random(5, 7, density=0.4, random_state=0, format="csr", dtype=np.float64)
    dense = torch.from_numpy(matrix.toarray()).float()
    there, back = ConstantMatrix(matrix), ConstantMatrix(matrix.T.tocsr())
    values, weights = torch.randn(7, 3, requires_grad=True), torch.randn(5, 3)
    result = SparseProduct.apply(there, back, values)
    torch.testing.assert_close(result, dense @ values)
    (gradient,) = torch.autograd.grad((result * weights).sum(), values)
    torch.testing.assert_close(gradient, dense.T @ weights)


def test_a_matrix_can_be_copied_and_leaves_no_trace_in_checkpoints():
    matrix = ConstantMatrix(sp.eye(4, format="csr"))
    assert torch.equal(copy.deepcopy(matrix)(torch.eye(4)), torch.eye(4))
    assert matrix.state_dict() == {}


def test_empty_rows_and_an_empty_matrix_give_0():
    matrix = sp.csr_matrix(([2.0], ([1], [0])), (3, 2))
    assert torch.equal(ConstantMatrix(matrix)(torch.ones(2, 4)), torch.tensor([[0.0], [2.0], [0.0]]).expand(3, 4))
    assert torch.equal(ConstantMatrix(sp.csr_matrix((3, 2)))(torch.ones(2, 4)), torch.zeros(3, 4))

"""Products with a sparse matrix that is not learnt."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn


class ConstantMatrix(nn.Module):
    """A sparse matrix that moves with its module; RecBole copies models, and sparse tensors cannot be copied."""

    starts: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, matrix: sp.csr_matrix):
        super().__init__()
        matrix.sort_indices()
        self.shape = matrix.shape
        for name, values, dtype in (
            ("starts", matrix.indptr, np.int64),
            ("columns", matrix.indices, np.int64),
            ("values", matrix.data, np.float32),
        ):
            self.register_buffer(name, torch.from_numpy(values.astype(dtype)), persistent=False)

    def forward(self) -> Tensor:
        with warnings.catch_warnings():
            # "Sparse CSR tensor support is in beta state": said once per process, of no use to users.
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(self.starts, self.columns, self.values, self.shape, check_invariants=False)


class SparseProduct(torch.autograd.Function):
    """``matrix @ dense`` for a constant matrix whose transpose is at hand; torch would transpose it at every step."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
        ctx.transposed = transposed
        # Sparse products know no mixed precision.
        with torch.autocast(dense.device.type, enabled=False):
            return matrix @ dense.to(matrix.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ gradient

r"""Products with a sparse matrix that is not learnt.

Message passing over a bipartite user-code graph (Eq. 7 and 8 of GSERec).

LightGCN on the joint graph of users and codes, rearranged. With :math:`A` the normalised users x codes matrix, and
:math:`U^{(k)}, C^{(k)}` the layers of users and codes,

.. math::
    C^{(1)} = A^\top U^{(0)}, \quad C^{(k+2)} = A^\top A\, C^{(k)}, \quad U^{(k+1)} = A\, C^{(k)} .

So all user vectors are read once, whatever the number of layers; :math:`A^\top A` is a constant codes x codes matrix;
and users beyond the first layer are needed for the batch alone, where they are sums over their own few codes.

:class:`LGConvUserCodeGraph` computes the same layer by layer on the joint graph, as LightGCN is written.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.errors import CheckpointError, not_none
from recbole_gserec.layers.light_graph_conv import LightGraphConv

_SPARSE = 0.3
"""Share of entries below which a sparse product is faster; measured for 1,025 and 4,097 rows on one thread of a CPU."""
_MOST_DENSE = 8192
"""Rows of the largest dense product, which takes 256 MB."""


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

    def forward(self, dense: Tensor) -> Tensor:
        """Compute ``matrix @ dense``, for ``dense`` ``[n_columns, d]``; see :class:`SparseProduct` for gradients."""
        # Sparse products know no mixed precision.
        with torch.autocast(dense.device.type, enabled=False):
            # Sums of rows, which torch computes three times as fast as products with its sparse tensors.
            return F.embedding_bag(
                self.columns,
                dense.to(self.values.dtype),
                self.starts,
                mode="sum",
                per_sample_weights=self.values,
                include_last_offset=True,
            )


class SparseProduct(torch.autograd.Function):
    """``matrix @ dense`` for a constant matrix whose transpose is at hand."""

    @staticmethod
    def forward(ctx: Any, matrix: ConstantMatrix, transposed: ConstantMatrix, dense: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix(dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed(gradient)


class CodeLayers(NamedTuple):
    """Propagated codes, all that a batch needs of the graph.

    Shapes:
        - **final**: ``[n_codes + 1, d]`` mean over layers 0 to K (Eq. 8); row 0 is padding.
        - **messages**: ``[n_codes + 1, d]`` sum of layers 0 to K - 1: what users receive.
        - **users**: ``[n_users, d]`` mean over layers 0 to K of all users, if computed.
    """

    final: Tensor
    messages: Tensor
    users: Tensor | None = None


class UserCodeGraph(nn.Module):
    """One side's graph.

    Args:
        codes: ``[n_users, L]`` codes of each user, or other nodes that users share; 0 for none. A user's are distinct.
        n_codes: Number of codes, not counting 0.
        n_layers: LightGCN layers K.
    """

    codes: Tensor
    weights: Tensor
    code_to_code: Tensor | ConstantMatrix

    def __init__(self, codes: Tensor, n_codes: int, n_layers: int):
        super().__init__()
        self.n_layers = n_layers
        # Kept in checkpoints: what is learnt belongs to these codes.
        self.register_buffer("codes", codes)
        self.register_load_state_dict_pre_hook(_refuse_other_codes)
        self._build(codes, n_codes)

    def _build(self, codes: Tensor, n_codes: int) -> None:
        """Work out what :meth:`propagate` and :meth:`users_at` multiply with."""
        present = codes > 0
        user_degree = present.sum(1)
        code_degree = torch.bincount(codes[present], minlength=n_codes + 1)
        weights = 1 / (user_degree.unsqueeze(1) * code_degree[codes]).clamp_min(1).sqrt() * present
        users = torch.arange(len(codes)).unsqueeze(1).expand_as(codes)[present]
        matrix = sp.csr_matrix(
            (weights[present].numpy(), (users.numpy(), codes[present].numpy())), (len(codes), n_codes + 1)
        )
        self.register_buffer("weights", weights.float(), persistent=False)
        self.users_from_codes = ConstantMatrix(matrix)
        self.codes_from_users = ConstantMatrix(matrix.T.tocsr())
        # A sparse product: entries are counted, and a dense matrix is made, only of what it found.
        code_to_code = (matrix.T @ matrix).tocsr()
        n_nodes = code_to_code.shape[0]
        if n_nodes > _MOST_DENSE or code_to_code.nnz < _SPARSE * n_nodes**2:
            self.code_to_code = ConstantMatrix(code_to_code)
        else:
            dense = torch.from_numpy(code_to_code.toarray().astype(np.float32))
            self.register_buffer("code_to_code", dense, persistent=False)

    def propagate(self, users: Tensor, codes: Tensor) -> CodeLayers:
        """Propagate layer-0 embeddings of all users ``[n_users, d]`` and all codes ``[n_codes + 1, d]``."""
        layers = [codes]
        if self.n_layers >= 1:
            layers.append(SparseProduct.apply(self.codes_from_users, self.users_from_codes, users))
        for layer in range(2, self.n_layers + 1):
            layers.append(self._code_to_code(layers[layer - 2]))
        messages = torch.zeros_like(codes) if self.n_layers == 0 else sum(layers[1:-1], layers[0])
        return CodeLayers((messages + layers[-1]) / (self.n_layers + 1), messages)

    def _code_to_code(self, codes: Tensor) -> Tensor:
        if isinstance(self.code_to_code, Tensor):
            return self.code_to_code @ codes
        # The matrix is symmetric.
        return SparseProduct.apply(self.code_to_code, self.code_to_code, codes)

    def users_at(self, users: Tensor, embeddings: Tensor, code_layers: CodeLayers) -> Tensor:
        """Final vectors (Eq. 8) of the given users.

        Args:
            users: ``[n]`` user ids.
            embeddings: ``[n, d]`` their layer-0 embeddings.
            code_layers: Result of :meth:`propagate`.

        Returns:
            ``[n, d]``. A user without codes ends as ``embeddings / (K + 1)``.
        """
        received = (self.weights[users].unsqueeze(-1) * code_layers.messages[self.codes[users]]).sum(1)
        return (embeddings + received) / (self.n_layers + 1)


class LGConvUserCodeGraph(UserCodeGraph):
    """The same numbers, up to rounding, by PyTorch Geometric's ``LGConv`` on the joint graph of users and codes."""

    def _build(self, codes: Tensor, n_codes: int) -> None:
        # Imported here, because it takes seconds and the default does not need it.
        from torch_geometric.data import HeteroData
        from torch_geometric.transforms import ToUndirected

        users, positions = (codes > 0).nonzero(as_tuple=True)
        graph = HeteroData()
        graph["user"].num_nodes, graph["code"].num_nodes = len(codes), n_codes + 1
        graph["user", "has", "code"].edge_index = torch.stack([users, codes[users, positions]])
        joint = ToUndirected()(graph).to_homogeneous()
        self.conv = LightGraphConv(joint.edge_index, joint.num_nodes)

    def propagate(self, users: Tensor, codes: Tensor) -> CodeLayers:
        """As in the parent class; the result includes the final vectors of all users."""
        layers = [torch.cat([users, codes])]
        for _ in range(self.n_layers):
            layers.append(self.conv(layers[-1]))
        final_users, final = torch.stack(layers).mean(0).split([len(users), len(codes)])
        messages = sum((layer[len(users) :] for layer in layers[:-1]), torch.zeros_like(codes))
        return CodeLayers(final, messages, final_users)

    def users_at(self, users: Tensor, embeddings: Tensor, code_layers: CodeLayers) -> Tensor:
        """As of the parent."""
        return not_none(code_layers.users)[users]


def _refuse_other_codes(graph: UserCodeGraph, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    codes = state.get(f"{prefix}codes")
    if codes is not None and not torch.equal(codes.cpu(), graph.codes.cpu()):
        raise CheckpointError(
            "the checkpoint was trained with other codes than the dataset has now, or with other code_nodes. "
            "Train again, or restore the .code file and the setting of the training"
        )

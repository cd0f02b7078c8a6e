"""LightGCN's convolution by PyTorch Geometric: what :mod:`sparse` is held against, for those who choose it."""

import torch
from torch import Tensor, nn

GRAPH_CONVS = ("spmm", "lgconv")
"""Values of the setting ``graph_conv``: sparse products of this package, or PyTorch Geometric's ``LGConv``."""


class LightGraphConv(nn.Module):
    r"""One layer, :math:`D^{-1/2} A D^{-1/2} X`, by ``LGConv`` (He et al., SIGIR 2020).

    Args:
        edge_index: ``[2, E]`` edges, each in both directions; one that comes twice counts twice.
        n_nodes: Number of nodes.
    """

    edge_index: Tensor
    edge_weight: Tensor

    def __init__(self, edge_index: Tensor, n_nodes: int):
        super().__init__()
        # Imported here, because it takes seconds and only models with this convolution need it.
        from torch_geometric.nn import LGConv
        from torch_geometric.nn.conv.gcn_conv import gcn_norm

        # Normalised once: LGConv would do so in each step.
        edge_index, edge_weight = gcn_norm(edge_index, None, n_nodes, add_self_loops=False, dtype=torch.float32)
        self.register_buffer("edge_index", edge_index, persistent=False)
        self.register_buffer("edge_weight", edge_weight, persistent=False)
        self.conv = LGConv(normalize=False)

    def forward(self, nodes: Tensor) -> Tensor:
        """The next layer ``[n_nodes, d]`` of nodes ``[n_nodes, d]``; 0 for a node without edges."""
        return self.conv(nodes, self.edge_index, self.edge_weight)

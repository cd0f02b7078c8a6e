"""The hybrid-expert adaptor of KAR, which converts text vectors to a recommender's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recbole_gserec.layers.containers import ModuleDict, ModuleList
from recbole_gserec.layers.dropout import Dropout


class HybridExpertAdaptor(nn.Module):
    r"""Experts shared by all tasks and experts of each task, mixed by the task's gate.

    .. math::
        g_k = \mathrm{softmax}(W_k x_k + b_k), \quad v_k = \sum_j g_{k,j}\, E_j(x_k)

    A task's experts :math:`E_j` are the shared ones followed by its own. The result for a missing text (a zero
    vector) is 0, which the experts' biases would otherwise change.

    Args:
        tasks: Names of the tasks.
        input_size: Size of the vectors of texts.
        n_shared: Experts shared by all tasks.
        n_specific: Experts of each task.
        hidden_sizes: Sizes of an expert's layers; the last is that of the result.
        dropout: Dropout probability, after each ReLU.

    Shapes:
        - **vectors**: ``[n, input_size]``, result ``[n, output_size]``.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        input_size: int,
        n_shared: int,
        n_specific: int,
        hidden_sizes: Sequence[int],
        dropout: float,
    ):
        super().__init__()
        self.output_size = hidden_sizes[-1]
        self.shared_experts = Experts(n_shared, input_size, hidden_sizes, dropout)
        self.experts = ModuleDict({task: Experts(n_specific, input_size, hidden_sizes, dropout) for task in tasks})
        self.gates = ModuleDict({task: nn.Linear(input_size, n_shared + n_specific) for task in tasks})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset gates to Xavier-normal weights and zero biases; experts reset themselves."""
        for gate in self.gates.values():
            nn.init.xavier_normal_(gate.weight)
            nn.init.zeros_(gate.bias)

    def forward(self, task: str, vectors: Tensor) -> Tensor:
        gate = self.gates[task](vectors).softmax(-1)
        experts = torch.cat([self.shared_experts(vectors), self.experts[task](vectors)])
        has_text = vectors.any(1, keepdim=True)
        return torch.einsum("ne,end->nd", gate, experts) * has_text


class Experts(nn.Module):
    """MLPs side by side, each with ReLU and dropout after all of its layers.

    Shapes:
        - **vectors**: ``[n, input_size]``, result ``[n_experts, n, output_size]``.
    """

    def __init__(self, n_experts: int, input_size: int, hidden_sizes: Sequence[int], dropout: float):
        super().__init__()
        sizes = [input_size, *hidden_sizes]
        self.layers = ModuleList(_ExpertLayers(n_experts, *pair) for pair in zip(sizes, sizes[1:], strict=False))
        self.dropout = Dropout(dropout)

    def forward(self, vectors: Tensor) -> Tensor:
        for layer in self.layers:
            vectors = self.dropout(layer(vectors).relu())
        return vectors


class _ExpertLayers(nn.Module):
    """One linear layer of each expert."""

    def __init__(self, n_experts: int, input_size: int, output_size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_experts, input_size, output_size))
        self.bias = nn.Parameter(torch.empty(n_experts, 1, output_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Each expert is a separate layer.
        for weight in self.weight:
            nn.init.xavier_normal_(weight)
        nn.init.zeros_(self.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors @ self.weight + self.bias

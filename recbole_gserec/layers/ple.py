"""Progressive layered extraction: experts shared by two tasks and separate experts, for UniSAR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.containers import ModuleDict, ModuleList
from recbole_gserec.layers.dropout import Dropout


class ProgressiveLayeredExtraction(nn.Module):
    r"""One level of PLE and a tower for each task.

    .. math::
        E_k = \mathrm{ReLU}(W_k z + b_k), \quad g^t = \mathrm{softmax}(G^t z + c^t), \quad
        o^t = \mathrm{Tower}^t\Bigl(\sum_k g^t_k E_k\Bigr)

    A task's experts are the shared ones followed by its own, and :math:`z` is the user's vector followed by the
    candidate's. All experts of a kind are one linear layer: rows ``k * expert_size`` to ``(k + 1) * expert_size`` of
    its weight are expert *k*. Only what a task needs is computed, and the user's part once however many candidates
    there are, as in :class:`PredictionMLP`.

    Args:
        tasks: Names of the tasks.
        user_size: Size of the vector a user has.
        candidate_size: Size of the vector a (user, candidate) pair has.
        n_shared: Experts shared by all tasks.
        n_specific: Experts of each task.
        expert_size: Size of an expert.
        tower_sizes: Sizes of the layers of a tower.
        dropout: Dropout probability, after each ReLU.

    Shapes:
        - **user**: ``[B, user_size]``, **candidates**: ``[B, C, candidate_size]``, result ``[B, C, output_size]``.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        user_size: int,
        candidate_size: int,
        n_shared: int,
        n_specific: int,
        expert_size: int,
        tower_sizes: list[int],
        dropout: float,
    ):
        super().__init__()
        self.user_size, self.n_experts, self.expert_size = user_size, n_shared + n_specific, expert_size
        size, sizes = user_size + candidate_size, [expert_size, *tower_sizes]
        self.output_size = sizes[-1]
        self.shared_experts = nn.Linear(size, n_shared * expert_size)
        self.experts = ModuleDict({task: nn.Linear(size, n_specific * expert_size) for task in tasks})
        self.gates = ModuleDict({task: nn.Linear(size, self.n_experts) for task in tasks})
        self.towers = ModuleDict(
            {task: ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False)) for task in tasks}
        )
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
        # Each expert is a separate layer.
        for layer in (self.shared_experts, *self.experts.values()):
            for expert in layer.weight.split(self.expert_size):
                nn.init.xavier_normal_(expert)

    def forward(self, task: str, user: Tensor, candidates: Tensor) -> Tensor:
        layers = (self.shared_experts, self.experts[task], self.gates[task])
        weight, bias = (torch.cat([getattr(layer, part) for layer in layers]) for part in ("weight", "bias"))
        hidden = F.linear(candidates, weight[:, self.user_size :], bias)
        hidden = hidden + F.linear(user, weight[:, : self.user_size]).unsqueeze(1)
        experts, gate = hidden.split([self.n_experts * self.expert_size, self.n_experts], dim=-1)
        experts = self.dropout(experts.relu()).unflatten(-1, (self.n_experts, self.expert_size))
        output = (gate.softmax(-1).unsqueeze(-2) @ experts).squeeze(-2)
        for layer in self.towers[task]:
            output = self.dropout(layer(output).relu())
        return output

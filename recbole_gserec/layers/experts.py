"""Mixtures of experts: KAR's hybrid-expert adaptor and UniSAR's progressive layered extraction.

KAR's recommender weighs a history by its interest in the candidate.

"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_gserec.layers.dropout import Dropout, ModuleDict, ModuleList


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


MAX_PRODUCTS = 1 << 24
"""Maximum size of the products of events and candidates outside of training: 64 MiB."""


class InterestAttention(nn.Module):
    r"""The sum of a history's events, each weighted by an MLP over the event and the candidate.

    .. math::
        a_j = \mathrm{MLP}([t, h_j, t - h_j, t \circ h_j]), \quad w = \sum_j a_j h_j

    Weights are not normalised: the more of a history is similar to the candidate, the longer the vector.

    The first layer is applied to the parts separately, with the same sum. The parts of only the candidate or the event
    are computed once for each of them, and only the product is computed for each pair.

    Args:
        size: Embedding size d.
        hidden_sizes: Sizes of the MLP's hidden layers.
        dropout: Dropout probability, after each activation.
        activation: ``dice`` or ``prelu``.

    Shapes:
        - **history**: ``[B, N, d]``, **mask**: ``[B, N]``, True on real events.
        - **candidates**: ``[B, C, d]``, or ``[1, C, d]`` when all rows share them.
        - result ``[B, C, d]``; 0 for rows without events.
    """

    def __init__(self, size: int, hidden_sizes: Sequence[int], dropout: float, activation: str):
        super().__init__()
        sizes = [4 * size, *hidden_sizes, 1]
        self.layers = ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False))
        make_activation: Callable[[int], nn.Module] = {"dice": Dice, "prelu": nn.PReLU}[activation]
        self.activations = ModuleList(make_activation(hidden_size) for hidden_size in hidden_sizes)
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset to Xavier-normal weights and zero biases; activations reset themselves."""
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        if self.training:
            # All at once, because Dice computes its statistics over all pairs.
            return self._pool(history, mask, candidates)
        step = max(1, MAX_PRODUCTS // max(1, history.numel()))
        return torch.cat([self._pool(history, mask, part) for part in candidates.split(step, dim=1)], dim=1)

    def _pool(self, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        rows, columns = mask.nonzero(as_tuple=True)
        events = history[rows, columns]
        of_candidate, of_event, of_difference, of_product = self.layers[0].weight.chunk(4, dim=1)
        from_candidates = F.linear(candidates, of_candidate + of_difference, self.layers[0].bias)
        from_events = F.linear(events, of_event - of_difference)
        if len(candidates) > 1:
            candidates, from_candidates = candidates[rows], from_candidates[rows]
        products = F.linear(candidates * events.unsqueeze(1), of_product)
        # From here on, only pairs of real events: [T, C, ...] for T events, flat.
        hidden = (from_candidates + from_events.unsqueeze(1) + products).flatten(0, 1)
        for activation, layer in zip(self.activations, self.layers[1:], strict=True):
            hidden = layer(self.dropout(activation(hidden)))
        # In mixed precision, the MLP's dtype differs from the history's.
        weights = hidden.new_zeros(*mask.shape, candidates.shape[1])
        weights = weights.index_put((rows, columns), hidden.view(len(events), candidates.shape[1]))
        return weights.transpose(1, 2) @ history


class Dice(nn.Module):
    r"""DIN's activation :math:`p \circ x + (1 - p) \circ \alpha x` with :math:`p = \sigma((x - E[x]) / \sqrt{V[x]})`.

    As in batch normalisation, mean and variance are those of the batch in training, and running ones otherwise. A row's
    score thus does not depend on the other rows.

    Shapes:
        - **values**: ``[n, size]``, result ``[n, size]``.
    """

    def __init__(self, size: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(size, affine=False)
        self.alpha = nn.Parameter(torch.zeros(size))

    def forward(self, values: Tensor) -> Tensor:
        # A single value has no variance.
        is_batch = self.training and len(values) > 1
        normed = F.batch_norm(values, self.norm.running_mean, self.norm.running_var, training=is_batch)
        p = normed.sigmoid()
        return p * values + (1 - p) * self.alpha * values

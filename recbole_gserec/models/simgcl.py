r"""SimGCL: Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation.

Yu et al., SIGIR 2022, https://doi.org/10.1145/3477495.3531937.
"""

from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.general_recommender.lightgcn import LightGCN
from torch import Tensor

from recbole_gserec.layers import GRAPH_CONVS, ConstantMatrix, LightGraphConv, SparseProduct, info_nce
from recbole_gserec.settings import check_choice, check_negatives, check_positive, check_some_layers


class SimGCL(LightGCN):
    r"""LightGCN that learns similar users and items in two propagations with different noise.

    With :math:`\hat A` the normalised matrix of the training interactions, layers and result are

    .. math::
        E^{(l)} = \hat A E^{(l-1)}, \quad E = \frac{1}{L} \sum_{l=1}^{L} E^{(l)}, \quad s(u, i) = e_u^\top e_i

    without layer 0 in the mean. A view adds noise to every layer, on top of what it receives of the noise of the layers
    before:

    .. math::
        E'^{(l)} = \hat A E'^{(l-1)} + \Delta^{(l)}, \quad
        \Delta^{(l)} = \epsilon \, \mathrm{sign}(\hat A E'^{(l-1)}) \odot \bar X^{(l)}, \quad
        X^{(l)} \sim U(0, 1),

    with rows of :math:`\bar X` of length 1.

    Settings: ``properties/model/SimGCL.yaml``. Data: any RecBole dataset; searches are not read.
    """

    restore_user_e: Tensor | None
    restore_item_e: Tensor | None

    def __init__(self, config: Config, dataset: Dataset):
        self._check(config)
        super().__init__(config, dataset)
        self.lambda_cl, self.eps, self.tau = config["lambda_cl"], config["eps"], config["tau"]
        self.cl_reduction = config["cl_reduction"]
        self.conv = self._lgconv() if config["graph_conv"] == "lgconv" else None

    @staticmethod
    def _check(config: Config) -> None:
        check_choice("cl_reduction", config["cl_reduction"], ("mean", "sum"))
        # Checkpoints of earlier versions do not have it.
        check_choice("graph_conv", config["graph_conv"] or "spmm", GRAPH_CONVS)
        check_some_layers(config)
        check_positive(config, "tau")
        check_negatives(config, "BPR")

    def get_norm_adj_mat(self) -> ConstantMatrix:
        """Build LightGCN's matrix without a loop over interactions, in a form that multiplies faster."""
        # A repeated pair is one edge.
        edges = self.interaction_matrix.tocsr().astype(bool).astype(np.float32)
        matrix = sp.block_array([[None, edges], [edges.T, None]], format="csr")
        # Added as in LightGCN, for nodes without an edge.
        shares = sp.diags_array((np.diff(matrix.indptr) + 1e-7) ** -0.5)
        return ConstantMatrix((shares @ matrix @ shares).tocsr())

    def _lgconv(self) -> LightGraphConv:
        """The same graph for PyTorch Geometric."""
        matrix = self.norm_adj_matrix
        rows = torch.arange(self.n_users + self.n_items, device=matrix.starts.device)
        edges = torch.stack([rows.repeat_interleave(matrix.starts.diff()), matrix.columns])
        return LightGraphConv(edges, len(rows))

    def train(self, mode: bool = True) -> Self:
        """Switch the mode as any module; drop cached propagation, because weights may have changed."""
        self.restore_user_e = self.restore_item_e = None
        return super().train(mode)

    # ---- propagation --------------------------------------------------------------------------------------------

    def forward(self, *, perturbed: bool = False) -> tuple[Tensor, Tensor]:
        """Compute users ``[n_users, d]`` and items ``[n_items, d]``, optionally with noise."""
        embeddings, layers, matrix = self.get_ego_embeddings(), [], self.norm_adj_matrix
        for _ in range(self.n_layers):
            # The matrix equals its transpose.
            embeddings = self.conv(embeddings) if self.conv else SparseProduct.apply(matrix, matrix, embeddings)
            if perturbed:
                embeddings = self.perturb(embeddings)
            layers.append(embeddings)
        return torch.stack(layers).mean(0).split([self.n_users, self.n_items])

    def perturb(self, embeddings: Tensor) -> Tensor:
        r"""Add noise of length :math:`\epsilon` to each row, within its own orthant."""
        noise = F.normalize(torch.rand_like(embeddings), dim=1)
        return embeddings + self.eps * embeddings.sign() * noise

    # ---- scores and losses --------------------------------------------------------------------------------------

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, ...]:
        """Compute LightGCN's loss, BPR with the penalty on layer 0, and the weighted contrastive loss."""
        loss = super().calculate_loss(interaction)
        if self.lambda_cl == 0:
            return (loss,)
        return loss, self.lambda_cl * self.contrast(interaction)

    def contrast(self, interaction: Interaction) -> Tensor:
        """Compute InfoNCE between two views: among a batch's distinct users, and among its distinct positives."""
        nodes = interaction[self.USER_ID].unique(), interaction[self.ITEM_ID].unique()
        views = zip(self.forward(perturbed=True), self.forward(perturbed=True), strict=True)
        of_users, of_items = (
            info_nce(first[ids], second[ids], self.tau, self.cl_reduction)
            for ids, (first, second) in zip(nodes, views, strict=True)
        )
        return of_users + of_items

    def predict(self, interaction: Interaction) -> Tensor:
        """Compute logits ``[B]`` of each row's own item; the graph is propagated once, as for ranking all items."""
        if self.restore_user_e is None or self.restore_item_e is None:
            self.restore_user_e, self.restore_item_e = self.forward()
        users, items = self.restore_user_e[interaction[self.USER_ID]], self.restore_item_e[interaction[self.ITEM_ID]]
        return (users * items).sum(1)

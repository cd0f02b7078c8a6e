"""GSERec in the plainest form, to measure the package's against: same weights, same numbers, none of its savings.

A row's histories are repeated for each of its candidates and encoded with their padding by torch's own Transformer
layers; the whole user-code graphs are propagated in each step as one sparse matrix; contrastive losses hold all pairs.

Example: python benchmarks/plain_gserec.py --data dataset --dataset ml-100k-search
prints the seconds of a training step of both, and how far their losses lie apart without dropout.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDES = ("search", "recommendation")


class PlainGSERec(nn.Module):
    """Shares the tables and small layers of a :class:`recbole_gserec.models.gserec.GSERec`; see the module's text.

    Args:
        model: The package's model, with its default choices in ``his_cl``, ``cl_similarity`` and ``cl_negatives``.
        dropout: Of all Transformer layers and the MLP.
    """

    def __init__(self, model: nn.Module, dropout: float):
        super().__init__()
        self.items, self.users, self.dropout = model.item_embedding, model.user_embedding, dropout
        self.session = model.session_embedding
        self.codes, self.mlp = model.code_embedding, model.mlp.layers
        self.positions = nn.ModuleDict({side: model.encoder[side].positions for side in SIDES})
        self.pooling = nn.ParameterDict({side: model.attention[side].weight for side in SIDES})
        encoder, decoder = nn.TransformerEncoderLayer, nn.TransformerDecoderLayer
        self.encoders = nn.ModuleDict({side: self._layers(model.encoder[side].layers, encoder) for side in SIDES})
        self.decoders = nn.ModuleDict({side: self._layers(model.fusion[side].layers, decoder) for side in SIDES})
        self.similarity = nn.ModuleDict({"user": model.user_similarity, **model.history_similarity})
        self.temperature = nn.ModuleDict({"user": model.user_temperature, **model.history_temperature})
        self.weights = {"user": model.lambda_u_cl, "history": model.lambda_his_cl}
        self.n_graph_layers = model.graph["search"].n_layers
        self.user_codes = {side: model.graph[side].codes for side in SIDES}
        self.adjacency = {side: self._adjacency(side) for side in SIDES}
        self.training_candidates, self.item_field = model.training_candidates, model.ITEM_SEQ

    def _layers(self, layers: nn.ModuleList, kind: type[nn.Module]) -> nn.ModuleList:
        """The same weights in torch's own layers."""
        copies = nn.ModuleList()
        for layer in layers:
            sizes = (layer.linear2.out_features, layer.self_attn.num_heads, layer.linear1.out_features)
            copies.append(kind(*sizes, self.dropout, batch_first=True))
            copies[-1].load_state_dict(layer.state_dict())
        return copies

    def _adjacency(self, side: str) -> Tensor:
        """The symmetrically normalised graph of users and codes as one sparse matrix."""
        codes = self.user_codes[side]
        rows, places = (codes > 0).nonzero(as_tuple=True)
        columns, size = codes[rows, places] + len(codes), len(codes) + self.codes[side].num_embeddings
        edges = torch.cat([torch.stack([rows, columns]), torch.stack([columns, rows])], dim=1)
        degrees = torch.bincount(edges[0], minlength=size).clamp_min(1).float()
        values = degrees[edges[0]].rsqrt() * degrees[edges[1]].rsqrt()
        return torch.sparse_coo_tensor(edges, values, (size, size)).coalesce()

    def calculate_loss(self, batch) -> tuple[Tensor, Tensor, Tensor]:
        """The three weighted terms of Eq. 17, as the package's model gives them."""
        candidates = self.training_candidates(batch)
        n_rows, n_candidates = candidates.shape
        users, tables = batch["user_id"], {side: self._propagate(side) for side in SIDES}
        states = {side: self._encode(batch, side, n_candidates) for side in SIDES}
        targets, everyone = self.items(candidates.flatten()), users.repeat_interleave(n_candidates)
        parts = [tables[side][0][everyone] for side in SIDES]
        for side in SIDES:
            history, mask = states[side]
            codes = self.user_codes[side][everyone]
            fused = history
            for layer in self.decoders[side]:
                fused = layer(
                    fused,
                    tables[side][1][codes],
                    tgt_key_padding_mask=_hidden(mask),
                    memory_key_padding_mask=codes == 0,
                )
            logits = ((fused @ self.pooling[side]) @ targets.unsqueeze(-1)).squeeze(-1)
            weights = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1) * mask
            parts.append((weights.unsqueeze(1) @ fused).squeeze(1))
        hidden = torch.cat([*parts, targets], dim=1)
        for place, layer in enumerate(self.mlp):
            hidden = layer(F.dropout(hidden.relu(), self.dropout, self.training) if place else hidden)
        labels = torch.zeros(n_rows, n_candidates)
        labels[:, 0] = 1
        recommendation = F.binary_cross_entropy_with_logits(hidden.view(n_rows, n_candidates), labels)

        first = torch.stack([(users == user).nonzero()[0, 0] for user in users.unique()])
        pair = [tables[side][0][users[first]] for side in SIDES]
        user_loss = self._contrast("user", *pair, users[first])
        history_loss = 0.0
        for side in SIDES:
            history, mask = (part[::n_candidates] for part in states[side])
            codes = self.user_codes[side][users]
            rows = mask.any(1) & (codes > 0).any(1)
            views = (_mean(history, mask)[rows], _mean(tables[side][1][codes], codes > 0)[rows])
            history_loss = history_loss + self._contrast(side, *views, users[rows])
        return recommendation, self.weights["user"] * user_loss, self.weights["history"] * history_loss

    def _propagate(self, side: str) -> tuple[Tensor, Tensor]:
        layers = [torch.cat([self.users.weight, self.codes[side].weight])]
        for _ in range(self.n_graph_layers):
            layers.append(torch.sparse.mm(self.adjacency[side], layers[-1]))
        return torch.stack(layers).mean(0).split([self.users.num_embeddings, self.codes[side].num_embeddings])

    def _encode(self, batch, side: str, n_candidates: int) -> tuple[Tensor, Tensor]:
        if side == "recommendation":
            ids = batch[self.item_field].repeat_interleave(n_candidates, 0)
            events, mask = self.items(ids), ids > 0
        else:
            queries = batch["search_query_id_list"].repeat_interleave(n_candidates, 0)
            clicks = batch["search_item_ids_list"].repeat_interleave(n_candidates, 0)
            lengths = batch["search_length"].repeat_interleave(n_candidates)
            mask = torch.arange(queries.shape[1]) < lengths.unsqueeze(1)
            words = self.session.query_embedding(queries.flatten()).view(*queries.shape, -1)
            events = words + _mean(self.items(clicks), clicks > 0)
        states = events + self.positions[side].weight[: events.shape[1]]
        for layer in self.encoders[side]:
            states = layer(states, src_key_padding_mask=_hidden(mask))
        return states, mask

    def _contrast(self, name: str, first: Tensor, second: Tensor, users: Tensor) -> Tensor:
        """NT-Xent over both views, rows of one user left out."""
        views, owners = torch.cat([first, second]), users.repeat(2)
        logits = (views @ self.similarity[name].weight @ views.T).tanh() / self.temperature[name]()
        n_rows = len(first)
        partners = torch.arange(2 * n_rows).roll(n_rows)
        is_partner = F.one_hot(partners, 2 * n_rows).bool()
        left_out = (owners.unsqueeze(1) == owners) & ~is_partner
        return F.cross_entropy(logits.masked_fill(left_out, -torch.inf), partners)


def _mean(vectors: Tensor, mask: Tensor) -> Tensor:
    return (vectors * mask.unsqueeze(-1)).sum(-2) / mask.sum(-1, keepdim=True).clamp_min(1)


def _hidden(mask: Tensor) -> Tensor:
    """Padding; torch gives NaN to rows with nothing else, so the first place of these is shown. It is not pooled."""
    hidden = ~mask
    hidden[:, 0] &= mask.any(1)
    return hidden


def prepare(data: str, dataset: str, history: int, dropout: float):
    """The package's model, its trainer and its training data."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    import recbole_gserec  # noqa: F401

    settings = {"data_path": data, "show_progress": False, "use_gpu": False, "hidden_dropout_prob": dropout}
    settings |= {"attn_dropout_prob": dropout, "MAX_ITEM_LIST_LENGTH": history, "MAX_SEARCH_LIST_LENGTH": history}
    config = Config("GSERec", dataset, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train, *_ = data_preparation(config, create_dataset(config))
    model = get_model("GSERec")(config, train._dataset)
    return model, get_trainer(config["MODEL_TYPE"], "GSERec")(config, model), train


def seconds_of_steps(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list) -> float:
    """Median CPU seconds of a training step, after a first one."""
    model.train()
    seconds = []
    for batch in batches:
        start = time.process_time()
        optimizer.zero_grad()
        sum(model.calculate_loss(batch)).backward()
        optimizer.step()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="dataset", help="folder of all datasets")
    parser.add_argument("--dataset", default="ml-100k-search")
    parser.add_argument("--history", type=int, default=20, help="events kept of each history")
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    sys.argv = sys.argv[:1]
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)

    model, _, train = prepare(args.data, args.dataset, args.history, dropout=0.0)
    plain, batch = PlainGSERec(model, 0.0), next(iter(train))
    with torch.no_grad():
        losses = zip(model.calculate_loss(batch), plain.calculate_loss(batch), strict=True)
        apart = [float((a - b).abs() / a.abs()) for a, b in losses]
    print("relative difference of the three losses: " + ", ".join(f"{value:.1e}" for value in apart))

    model, trainer, train = prepare(args.data, args.dataset, args.history, dropout=0.1)
    batches = [batch for batch, _ in zip(train, range(args.steps), strict=False)]
    ours = seconds_of_steps(model, trainer.optimizer, batches)
    plain = PlainGSERec(model, 0.1)
    theirs = seconds_of_steps(plain, torch.optim.Adam(plain.parameters(), weight_decay=1e-5), batches)
    print(f"a step of {len(batches[0])} rows, CPU seconds of one thread: {ours:.3f}, plain {theirs:.3f}", end="; ")
    print(f"{theirs / ours:.1f} times as fast")


if __name__ == "__main__":
    main()

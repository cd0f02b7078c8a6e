"""A plain implementation of GSERec, as a reference for speed: same weights and numbers, but no optimisation.

A row's histories are repeated for each of its candidates and encoded with their padding by torch's own Transformer
layers. Each step propagates both whole user-code graphs as one sparse matrix. Contrastive losses hold all pairs.
Evaluation scores pairs of user and item, 4,096 at a time, as RecBole does. Message passing happens once for all users,
and is measured separately.

Example: python benchmarks/plain_gserec.py --data dataset --dataset ml-100k-search
prints the CPU seconds of a training step and the users per second in evaluation of both implementations, with one
thread, and the differences of their losses and scores without dropout.
"""

from __future__ import annotations

from itertools import islice

import torch
import torch.nn.functional as F
from loading import Loaded, arguments, cpu_seconds, load, peak_gib, quiet_single_thread, report
from torch import Tensor, nn
from training import seconds_of_steps

PAIRS = 4096  # RecBole's default eval_batch_size.
SIDES = ("search", "recommendation")


class PlainGSERec(nn.Module):
    """Plain GSERec with the tables and small layers of a :class:`recbole_gserec.models.gserec.GSERec`.

    Args:
        model: The package's model, with its default choices in ``his_cl``, ``cl_similarity`` and ``cl_negatives``.
        dropout: Dropout of all Transformer layers and of the MLP.
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
        """Copy the weights into torch's own layers."""
        copies = nn.ModuleList()
        for layer in layers:
            sizes = (layer.linear2.out_features, layer.self_attn.num_heads, layer.linear1.out_features)
            copies.append(kind(*sizes, self.dropout, batch_first=True))
            copies[-1].load_state_dict(layer.state_dict())
        return copies

    def _adjacency(self, side: str) -> Tensor:
        """Return the symmetrically normalised graph of users and codes as one sparse matrix."""
        codes = self.user_codes[side]
        rows, positions = (codes > 0).nonzero(as_tuple=True)
        columns, size = codes[rows, positions] + len(codes), len(codes) + self.codes[side].num_embeddings
        edges = torch.cat([torch.stack([rows, columns]), torch.stack([columns, rows])], dim=1)
        degrees = torch.bincount(edges[0], minlength=size).clamp_min(1).float()
        values = degrees[edges[0]].rsqrt() * degrees[edges[1]].rsqrt()
        return torch.sparse_coo_tensor(edges, values, (size, size)).coalesce()

    def calculate_loss(self, batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three weighted terms of Eq. 17, as the package's model does."""
        candidates = self.training_candidates(batch)
        n_rows, n_candidates = candidates.shape
        users, tables = batch["user_id"], self.propagate()
        states = {side: self._encode(batch, side, n_candidates) for side in SIDES}
        logits = self._logits(users.repeat_interleave(n_candidates), candidates.flatten(), states, tables)
        labels = torch.zeros(n_rows, n_candidates)
        labels[:, 0] = 1
        recommendation = F.binary_cross_entropy_with_logits(logits.view(n_rows, n_candidates), labels)

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

    def predict(self, batch, candidates: Tensor, tables: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Return logits ``[B, C]`` of candidates ``[B, C]``, with the tables from :meth:`propagate`."""
        states = {side: self._encode(batch, side, candidates.shape[1]) for side in SIDES}
        users = batch["user_id"].repeat_interleave(candidates.shape[1])
        return self._logits(users, candidates.flatten(), states, tables).view(candidates.shape)

    def _logits(self, users: Tensor, items: Tensor, states: dict, tables: dict) -> Tensor:
        """Return logits ``[P]`` of pairs of user and item, each with a copy of the user's histories."""
        targets, parts = self.items(items), [tables[side][0][users] for side in SIDES]
        for side in SIDES:
            history, mask = states[side]
            codes = self.user_codes[side][users]
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
        for index, layer in enumerate(self.mlp):
            hidden = layer(F.dropout(hidden.relu(), self.dropout, self.training) if index else hidden)
        return hidden.squeeze(1)

    def propagate(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return users and codes after message passing on both graphs."""
        return {side: self._propagate(side) for side in SIDES}

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
        """NT-Xent over both views; rows of the same user are no negatives."""
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
    """Mask of padding. Empty rows show their first position, because torch would return NaN; it is not pooled."""
    hidden = ~mask
    hidden[:, 0] &= mask.any(1)
    return hidden


@torch.no_grad()
def evaluate(plain: PlainGSERec, batch, candidates: Tensor, tables: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Return scores ``[B, C]`` of rows, computed for 4,096 pairs at a time."""
    scores = []
    if candidates.shape[1] <= PAIRS:
        n_rows = PAIRS // candidates.shape[1]
        for start in range(0, len(candidates), n_rows):
            part = slice(start, start + n_rows)
            scores.append(plain.predict(batch[part], candidates[part], tables))
        return torch.cat(scores)
    for row in range(len(candidates)):
        parts = candidates[row : row + 1].split(PAIRS, dim=1)
        scores.append(torch.cat([plain.predict(batch[row : row + 1], part, tables) for part in parts], dim=1))
    return torch.cat(scores)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference, relative to the standard deviation of the expected numbers."""
    return float((ours - theirs).abs().max() / ours.std())


def compare_training(loaded: Loaded, steps: int) -> dict[str, float]:
    """Compare the losses without dropout and the seconds of a step."""
    train, model = loaded.loader("train"), loaded.model()
    batches = list(islice(train, steps + 1))
    model.eval()
    with torch.no_grad():
        losses = zip(model.calculate_loss(batches[0]), PlainGSERec(model, 0.0).calculate_loss(batches[0]), strict=True)
        apart = max(float((a - b).abs() / a.abs()) for a, b in losses)
    ours = seconds_of_steps(model, loaded.trainer(model).optimizer, batches)
    plain = PlainGSERec(model, loaded.config["hidden_dropout_prob"])
    theirs = seconds_of_steps(plain, torch.optim.Adam(plain.parameters(), weight_decay=1e-5), batches)
    return {
        "step_seconds": ours,
        "plain_step_seconds": theirs,
        "training_times_as_fast": theirs / ours,
        "losses_apart": apart,
    }


def compare_evaluation(loaded: Loaded, n_sampled: int, n_full: int) -> dict[str, float]:
    """Compare users per second and scores, among sampled items and among all items."""
    model = loaded.model().eval()
    plain, tables = PlainGSERec(model, 0.0).eval(), {}
    with torch.no_grad():
        # The package's model keeps what it propagates until its weights change.
        measured = {
            "propagation_seconds": cpu_seconds(model.propagate),
            "plain_propagation_seconds": cpu_seconds(lambda: tables.update(plain.propagate())),
        }
    sampled = next(iter(loaded.loader("test", n_sampled)))
    every = torch.arange(model.n_items).unsqueeze(0)
    for mode, batch, candidates in (
        ("sampled", sampled.interaction, sampled.candidates),
        ("full", sampled.interaction[:n_full], every.expand(n_full, -1)),
    ):
        kept: dict[str, Tensor] = {}

        @torch.no_grad()
        def score(name: str, batch=batch, candidates=candidates, kept=kept, mode=mode) -> None:
            if name == "plain":
                kept[name] = evaluate(plain, batch, candidates, tables)
            elif mode == "sampled":
                kept[name] = model.score_candidates(batch, candidates)
            else:
                kept[name] = model.full_sort_predict(batch)

        ours, theirs = (cpu_seconds(lambda name=name, score=score: score(name)) for name in ("package", "plain"))
        measured |= {
            f"{mode}_users_per_second": len(candidates) / ours,
            f"plain_{mode}_users_per_second": len(candidates) / theirs,
            f"{mode}_times_as_fast": theirs / ours,
            f"{mode}_scores_apart": largest_difference(kept["package"][:, 1:], kept["plain"][:, 1:]),
        }
    return measured


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=4, help="steps after the first; the median is reported")
    parser.add_argument("--sampled-users", type=int, default=200, help="users to evaluate among 99 sampled items")
    parser.add_argument("--full-users", type=int, default=8, help="users to evaluate among all items")
    args = parser.parse_args()
    quiet_single_thread()
    loaded = load("GSERec", args.dataset, args.data, history=args.history, train_batch_size=1024, train_rows="targets")
    measured = compare_training(loaded, args.steps) | compare_evaluation(loaded, args.sampled_users, args.full_users)
    report({**measured, "peak_gib": peak_gib()}, args.json)


if __name__ == "__main__":
    main()

"""Makes checkpoints of models with weights far from zero, and what they must recommend, by plain loops."""

import os
from contextlib import chdir
from pathlib import Path

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_gserec.settings.config import without_arguments
from recbole_gserec.settings.defaults import model_settings
from recbole_gserec.settings.model_table import MODELS
from recbole_gserec.settings.names import known_settings

# Short lists, so that histories are cut off; small sizes, so that it is quick.
SETTINGS = {
    "embedding_size": 8,
    "hidden_size": 8,
    "inner_size": 8,
    "mlp_hidden_size": [8],
    "MAX_ITEM_LIST_LENGTH": 10,
    "MAX_SEARCH_LIST_LENGTH": 4,
    "MAX_CLICK_LIST_LENGTH": 2,
    "eval_batch_size": 100,
}
PADDED = torch.iinfo(torch.int64).max


def store_model(data_path, model="GSERec", dataset="toy", seed=0, **settings) -> Path:
    """Save a model with random weights, as a trainer would, beside ``data_path``; returns its checkpoint."""
    # RecBole writes logs into the current folder.
    with chdir(Path(data_path).parent):
        return _store_model(data_path, model, dataset, seed, settings)


def _store_model(data_path, model, dataset, seed, settings):
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    folder = Path(data_path).parent
    own = model_settings(model) if model in MODELS else known_settings(model)
    requested = {name: value for name, value in SETTINGS.items() if name in own or name.startswith(("MAX_", "eval_"))}
    here = {"data_path": str(data_path), "checkpoint_dir": str(folder / "saved"), "use_gpu": False}
    with without_arguments():
        config = Config(model, dataset, config_dict={**here, "show_progress": False, **requested, **settings})
    init_seed(config["seed"], config["reproducibility"])
    built = create_dataset(config)
    loaders = data_preparation(config, built)
    init_seed(config["seed"], config["reproducibility"])
    made = get_model(config["model"])(config, loaders[0]._dataset)
    randomise(made, seed)
    if model == "Pop":
        # It has no weights, and counts when it is trained.
        for batch in loaders[0]:
            made.calculate_loss(batch)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, made)
    trainer.saved_model_file = os.path.join(folder, f"{model}-{dataset}-{seed}.pth")
    trainer._save_checkpoint(0, verbose=False)
    return Path(trainer.saved_model_file)


def randomise(model, seed) -> None:
    """Large random weights; rows of padding stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    padded = {
        id(layer.weight): layer.padding_idx
        for layer in model.modules()
        if isinstance(layer, torch.nn.Embedding) and layer.padding_idx is not None
    }
    with torch.no_grad():
        for weights in model.parameters():
            before = weights.detach().clone()
            weights.copy_(torch.randn(weights.shape, generator=generator) * 0.5)
            row = padded.get(id(weights))
            if row is not None:
                weights[row] = before[row]


class Plain:
    """A dataset's rows in original ids, and what a model makes of them, one user at a time."""

    def __init__(self, checkpoint, rows):
        from recbole.quick_start import load_data_and_model

        with chdir(Path(checkpoint).parent):
            self.config, self.model, self.dataset, *_ = load_data_and_model(checkpoint)
        self.model.eval()
        self.rows = rows
        self.items = {token: item for item, token in enumerate(self.dataset.field2id_token["item_id"])}
        self.users = {token: user for user, token in enumerate(self.dataset.field2id_token["user_id"])}
        self.is_ours = self.config["model"] in MODELS

    def interactions_of(self, user):
        return sorted((row for row in self.rows["inter"] if row[0] == user), key=lambda row: row[2])

    def searches_of(self, user):
        return sorted((row for row in self.rows["search"] if row[0] == user), key=lambda row: row[2])

    def seen_by(self, user):
        clicked = {item for row in self.searches_of(user) for item in row[3].split()}
        return {row[1] for row in self.interactions_of(user)} | clicked

    def candidates(self):
        """Items with an interaction, in the order of their ids."""
        return sorted({row[1] for row in self.rows["inter"]}, key=self.items.get)

    def batch(self, user):
        """One row, unpadded but to the width that RecBole's models want."""
        interactions, config = self.interactions_of(user), self.config
        size = config["MAX_ITEM_LIST_LENGTH"]
        items = [self.items[row[1]] for row in interactions]
        row = {"user_id": torch.tensor([self.users.get(user, 0)]), "item_id": torch.tensor([0])}
        row["timestamp"] = torch.tensor([float(interactions[-1][2])]) if interactions else torch.zeros(1)
        if not self.is_ours:
            kept = items[-size:]
            row["item_id_list"] = torch.tensor([kept + [0] * (size - len(kept))])
            times = [float(row[2]) for row in interactions][-size:]
            row["timestamp_list"] = torch.tensor([times + [0.0] * (size - len(kept))])
            row["item_length"] = torch.tensor([len(kept)])
            return Interaction(row)
        queries = {token: query for query, token in enumerate(self.dataset.field2id_token["query_id"])}
        searches = self.searches_of(user)
        # An interaction comes before a search of the same moment.
        order = [(row[2], 0, index) for index, row in enumerate(interactions)]
        order = sorted(order + [(row[2], 1, index) for index, row in enumerate(searches)])
        index = {event[1:]: number for number, event in enumerate(order)}
        n, n_clicks = config["MAX_SEARCH_LIST_LENGTH"], config["MAX_CLICK_LIST_LENGTH"]
        first, first_search = max(0, len(items) - size), max(0, len(searches) - n)
        clicks = [[self.items[item] for item in row[3].split()][-n_clicks:] for row in searches[first_search:]]
        row |= {
            "item_id_list": torch.tensor([items[first:] or [0]]),
            "item_length": torch.tensor([len(items[first:])]),
            "item_place_list": torch.tensor([[index[0, p] for p in range(first, len(items))] or [PADDED]]),
            "search_query_id_list": torch.tensor([[queries[row[1]] for row in searches[first_search:]] or [0]]),
            "search_item_ids_list": torch.tensor([[part + [0] * (n_clicks - len(part)) for part in clicks or [[]]]]),
            "search_place_list": torch.tensor([[index[1, p] for p in range(first_search, len(searches))] or [PADDED]]),
            "search_length": torch.tensor([len(searches[first_search:])]),
        }
        return Interaction(row)

    @torch.no_grad()
    def scores(self, user, items):
        """Pair by pair, as ``predict`` scores."""
        batch = self.batch(user)
        ids = torch.tensor([self.items[item] for item in items])
        pairs = batch.repeat_interleave(len(ids))
        pairs.update(Interaction({"item_id": ids}))
        return self.model.predict(self.dataset.join(pairs)).view(-1).numpy()

    def best(self, user, k, *, exclude_seen=True, items=None):
        """The k best items with their scores, by sorting all of them."""
        items = self.candidates() if items is None else items
        seen = self.seen_by(user) if exclude_seen else set()
        scores = self.scores(user, items)
        order = sorted(range(len(items)), key=lambda index: (-scores[index], index))
        return [(items[index], scores[index]) for index in order if items[index] not in seen][:k]


def by_user(tables):
    """Recommendations as ``{user: [(item, score), ...]}``; checks that ranks count from 1."""
    result = {}
    for _, table in tables:
        for row in table.to_pylist():
            entries = result.setdefault(row["user"], [])
            entries.append((row["item"], row["score"]))
            assert row["rank"] == len(entries)
    return result


def assert_same(first, second, tolerance=1e-4):
    """The same items in the same order with the same scores; items of almost equal scores may change places."""
    assert [len(entries) for entries in (first, second)] == [len(first)] * 2
    scores = [np.array([score for _, score in entries]) for entries in (first, second)]
    np.testing.assert_allclose(*scores, rtol=tolerance, atol=tolerance)
    for (item, score), (other, _) in zip(first, second, strict=True):
        if item != other:
            near = [entry[1] for entry in second if entry[0] == item]
            cut = abs(score - second[-1][1]) <= tolerance * max(1, abs(score))
            assert cut if not near else abs(near[0] - score) <= tolerance * max(1, abs(score))

"""Vectors of users and items whose dot products are a model's scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor, nn

from recbole_gserec.models.search_recommender import SearchRecommender
from recbole_gserec.recommend.scores import CandidateScores
from recbole_gserec.recommend.trained import Trained
from recbole_gserec.recommend.users import Users

_N_PROBED = 16
_NOW = "users after their last event"
_FINAL = "final vectors"


@dataclass(frozen=True)
class Factors:
    """Vectors of users and items.

    Attributes:
        users: Vectors of the users ``[B]``, ``[B, d]``.
        items: Vectors of all items, ``[n_items, d]``; row 0 is padding.
        users_meaning: What the users' vectors are.
        items_meaning: What the items' vectors are.
    """

    users: Callable[[Tensor], Tensor]
    items: Tensor
    users_meaning: str
    items_meaning: str


@torch.no_grad()
def score_factors(trained: Trained, users: Users) -> Factors | None:
    """Return the vectors of a model that scores by dot products; None for other models.

    This is found by trial: vectors are accepted if their dot products equal the model's scores, for some users and all
    items.

    Args:
        trained: The model.
        users: Users of its dataset.
    """
    with_history = users.has_history[1:].nonzero()[0] + 1
    # A sample from the first to the last user.
    step = max(1, len(with_history) // _N_PROBED)
    probed = torch.from_numpy(with_history[::step][:_N_PROBED])
    # Models with propagation have their vectors only after scoring.
    scores = _scores(trained, users, probed)
    for factors in _guesses(trained, users):
        try:
            products = factors.users(probed) @ factors.items[1 : trained.dataset.item_num].T
        except (TypeError, ValueError, RuntimeError, KeyError, AttributeError, IndexError):
            continue  # A model with another forward pass.
        if products.shape == scores.shape and torch.allclose(products, scores, rtol=1e-4, atol=1e-5):
            return factors
    return None


def _scores(trained: Trained, users: Users, chosen: Tensor) -> Tensor:
    """Return the model's scores of all items, ``[B, n_items - 1]``."""
    scorer = CandidateScores(trained, torch.arange(1, trained.dataset.item_num))
    parts = (users.batch(part) for part in chosen.split(scorer.max_rows))
    return torch.cat([torch.cat([scores for _, scores in scorer.score(batch)], dim=1) for batch in parts])


def _guesses(trained: Trained, users: Users) -> Iterator[Factors]:
    model, device = trained.model, trained.config["device"]

    def by_history(encode: Callable[[Interaction], Tensor], items: Tensor, meaning: str) -> Factors:
        return Factors(lambda chosen: encode(users.batch(chosen).to(device)), items, _NOW, meaning)

    if isinstance(model, SearchRecommender):
        if (items := model.item_factors()) is not None:
            yield by_history(model.user_factors, *items)
        return
    item_table = getattr(model, "item_embedding", None)
    if trained.config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        if isinstance(item_table, nn.Embedding):
            yield by_history(
                lambda batch: model.forward(batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN]),
                item_table.weight,
                "items, as learnt (item_embedding)",
            )
        return
    of_users, of_items = getattr(model, "restore_user_e", None), getattr(model, "restore_item_e", None)
    if isinstance(of_users, Tensor) and isinstance(of_items, Tensor):
        yield Factors(
            lambda chosen: of_users[chosen.to(device)],
            of_items,
            f"{_FINAL} of users, after propagation",
            f"{_FINAL} of items, after propagation",
        )
    user_table = getattr(model, "user_embedding", None)
    if isinstance(user_table, nn.Embedding) and isinstance(item_table, nn.Embedding):
        yield Factors(
            lambda chosen: user_table(chosen.to(device)),
            item_table.weight,
            "users, as learnt (user_embedding)",
            "items, as learnt (item_embedding)",
        )

"""Whether a model can recommend to users that it was not trained on."""

from __future__ import annotations

import torch
from recbole.utils import ModelType

from recbole_gserec.recommend.scores import CandidateScores
from recbole_gserec.recommend.trained import Trained
from recbole_gserec.recommend.users import Users

_N_ITEMS = 64


def takes_unknown_users(trained: Trained, users: Users) -> bool:
    """Return whether a user without an embedding or features can be scored by history alone.

    Search-aware models can: their user tables hold zeros for the padding user, who has no codes and no text. RecBole's
    sequential models can if scores do not depend on the user, which is tested with one history of two users. All other
    models know users only by id.
    """
    if trained.is_ours:
        return True
    with_history = users.has_history[1 : users.n_known].nonzero()[0] + 1
    if trained.config["MODEL_TYPE"] != ModelType.SEQUENTIAL or len(with_history) < 2:
        return False
    scorer = CandidateScores(trained, torch.arange(1, min(trained.dataset.item_num, 1 + _N_ITEMS)))
    one = users.batch(torch.as_tensor(with_history[:1]))
    other = users.batch(torch.as_tensor(with_history[1:2]))
    of_user = [trained.dataset.uid_field]
    if trained.dataset.user_feat is not None:
        of_user += list(trained.dataset.user_feat.columns)
    scores = []
    for stranger in (one, other):
        batch = one[[0]]
        for field in of_user:
            batch.interaction[field] = stranger[field]
        scores.append(next(iter(scorer.score(batch)))[1])
    own, others = scores
    return torch.allclose(own, others, rtol=1e-5, atol=1e-6)

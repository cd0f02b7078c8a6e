"""Users who have a history on one side only.

The paper does not say what their other summary is; its authors' code takes the summary there is for both sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def fill_missing(
    search_texts: Sequence[str | None], rec_texts: Sequence[str | None], policy: str
) -> tuple[list[str], list[str]]:
    """Give every user a text on both sides.

    Args:
        search_texts: Search summary of each user; ``None`` for a user without searches.
        rec_texts: Recommendation summary of each user; ``None`` for a user without interactions.
        policy: ``copy_rec`` gives the missing side the text of the other side, whichever it is; ``empty`` the empty
            text. ``no_edges`` fills as ``copy_rec`` does, so that all other codes come out the same; the missing
            side's codes are then left out (:func:`has_codes`).

    Returns:
        Search and recommendation texts. A user without any history has the empty text twice.
    """
    if policy == "empty":
        return [text or "" for text in search_texts], [text or "" for text in rec_texts]
    pairs = list(zip(search_texts, rec_texts, strict=True))
    return (
        [(rec if search is None else search) or "" for search, rec in pairs],
        [(search if rec is None else rec) or "" for search, rec in pairs],
    )


def has_codes(texts: Sequence[str | None], policy: str) -> np.ndarray:
    """Whether each user gets codes on a side.

    Args:
        texts: Summaries of the side as they were before :func:`fill_missing`.
        policy: As there.

    Returns:
        ``[n_users]`` bool.
    """
    return np.array([policy != "no_edges" or text is not None for text in texts], dtype=bool)

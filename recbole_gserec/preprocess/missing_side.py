"""Users who have a history on only one side.

The paper does not define their other summary. Its authors' code uses the existing summary for both sides.
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
        policy: ``copy_rec`` copies the text of the other side, whichever it is; ``empty`` uses the empty text.
            ``no_edges`` fills as ``copy_rec``, so that all other codes stay the same; the missing side's codes are then
            left out (:func:`has_codes`).

    Returns:
        Search and recommendation texts. Both are empty for a user without any history.
    """
    if policy == "empty":
        return [text or "" for text in search_texts], [text or "" for text in rec_texts]
    pairs = list(zip(search_texts, rec_texts, strict=True))
    return (
        [(rec if search is None else search) or "" for search, rec in pairs],
        [(search if rec is None else rec) or "" for search, rec in pairs],
    )


def has_codes(texts: Sequence[str | None], policy: str) -> np.ndarray:
    """Return whether each user gets codes on a side.

    Args:
        texts: Summaries of the side before :func:`fill_missing`.
        policy: See :func:`fill_missing`.

    Returns:
        ``[n_users]`` bool.
    """
    return np.array([policy != "no_edges" or text is not None for text in texts], dtype=bool)

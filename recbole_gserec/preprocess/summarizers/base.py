"""What a summarizer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from recbole_gserec.preprocess.prompts import Prompt


class Summarizer(Protocol):
    """Turns prompts into summaries.

    Attributes:
        name: Its name in :data:`SUMMARIZERS`.
        settings: All that decides its output, as JSON can hold it; it is kept beside the codes.
    """

    name: str
    settings: dict[str, Any]

    def summarize(self, prompts: Sequence[Prompt]) -> list[str]:
        """Summarise a batch.

        A summary depends on its prompt alone, not on the rest of the batch.

        Args:
            prompts: Of any side.

        Returns:
            One summary per prompt, in the same order.
        """
        ...

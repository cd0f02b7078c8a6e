"""What a text encoder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class TextEncoder(Protocol):
    """Turns texts into vectors.

    Attributes:
        name: Its name in :data:`ENCODERS`.
        settings: All that decides its output, as JSON can hold it; it is kept beside the codes.
    """

    name: str
    settings: dict[str, Any]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode all texts of the offline stage, both sides' in one call.

        Equal texts have equal vectors, and all vectors are of one space.

        Args:
            texts: ``n`` texts, made from the training part alone; an empty one is allowed.

        Returns:
            ``[n, d]``, ``float32``, rows of length 1 or 0.
        """
        ...

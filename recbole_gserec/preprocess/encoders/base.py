"""What a text encoder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class TextEncoder(Protocol):
    """Turns texts into vectors.

    An encoder loads its model when it is first used, so that making one costs nothing.

    Attributes:
        name: Its name in :data:`ENCODERS`.
        settings: All that decides its output, as JSON can hold it. It is kept beside the codes, and vectors made with
            other settings are not taken for its own.
        is_fitted: Whether it learns from the very texts it encodes. Its vectors then depend on all of them, are of one
            space only within one call, and are not stored.
    """

    name: str
    is_fitted: bool

    @property
    def settings(self) -> dict[str, Any]: ...

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> np.ndarray:
        """Encode texts.

        Equal texts have equal vectors, and all vectors are of one space.

        Args:
            texts: ``n`` texts; an empty one is allowed.
            max_length: Most tokens of a text, what goes beyond is cut off; ``None`` for the model's own limit.

        Returns:
            ``[n, d]``, ``float32``, rows of length 1 or 0.
        """
        ...

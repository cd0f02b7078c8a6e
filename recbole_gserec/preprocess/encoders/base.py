"""The interface of text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class TextEncoder(Protocol):
    """Turns texts into vectors.

    An encoder loads its model when it is first used, so creating one is cheap.

    Attributes:
        name: Its name in :data:`ENCODERS`.
        settings: Everything that affects its output, as JSON values. It is stored with the codes, and vectors made with
            other settings are not reused.
        is_fitted: Whether it learns from the texts that it encodes. Its vectors then depend on all of these texts, are
            comparable only within one call, and are not stored.
    """

    name: str
    is_fitted: bool

    @property
    def settings(self) -> dict[str, Any]: ...

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> np.ndarray:
        """Encode texts.

        Equal texts get equal vectors, and all vectors share one space.

        Args:
            texts: ``n`` texts; a text may be empty.
            max_length: Maximum number of tokens; longer texts are truncated. ``None`` is the model's own limit.

        Returns:
            ``[n, d]``, ``float32``, rows of length 1 or 0.
        """
        ...

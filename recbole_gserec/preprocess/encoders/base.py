"""The interface of text encoders, and the default one: TF-IDF reduced by an SVD."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from recbole_gserec.preprocess.prompts import WORD


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


class TfidfEncoder:
    """TF-IDF weights of words, fitted on the encoded texts and projected on their leading directions.

    Args:
        dim: Maximum number of dimensions. There are never more than distinct words or texts.
        seed: Random seed of the decomposition.
    """

    name = "tfidf"
    is_fitted = True

    def __init__(self, dim: int = 128, seed: int = 2024):
        self.dim, self.seed = dim, seed
        self.settings: dict[str, Any] = {"method": "TF-IDF + truncated SVD", "dim": dim, "seed": seed}

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> np.ndarray:
        """See :meth:`TextEncoder.encode`. A text without words has the zero vector; ``max_length`` is ignored."""
        # Imported here: the command line lists encoders without loading scikit-learn.
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from threadpoolctl import threadpool_limits

        vectorizer = TfidfVectorizer(token_pattern=WORD)
        analyze = vectorizer.build_analyzer()
        if not any(analyze(text) for text in texts):
            return np.zeros((len(texts), 1), dtype=np.float32)
        weights = vectorizer.fit_transform(texts)
        if weights.shape[1] == 1:
            # A single word has one direction, and scikit-learn needs at least two for a decomposition.
            vectors = weights.toarray()
        else:
            # With several threads, the order of additions varies; equal texts must have bitwise equal vectors.
            with threadpool_limits(limits=1):
                vectors = TruncatedSVD(min(self.dim, *weights.shape), random_state=self.seed).fit_transform(weights)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        # A text whose words all lie outside the kept directions would get rounding errors as its vector.
        return np.where(norms > 1e-9, vectors / np.maximum(norms, 1e-9), 0.0).astype(np.float32)

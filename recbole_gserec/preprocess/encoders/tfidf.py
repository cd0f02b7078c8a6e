"""Vectors without a pretrained model: TF-IDF, reduced by a truncated singular value decomposition (LSA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_gserec.preprocess.prompts import WORD


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

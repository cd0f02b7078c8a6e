"""Vectors without a pretrained model: TF-IDF, reduced by a truncated singular value decomposition (LSA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_gserec.preprocess.prompts import WORD


class TfidfEncoder:
    """TF-IDF weights of words, fitted on the very texts it encodes, in their leading directions of variation.

    Args:
        dim: Most dimensions of a vector. There are never more than distinct words, or than texts.
        seed: Of the randomised decomposition.
    """

    name = "tfidf"
    is_fitted = True

    def __init__(self, dim: int = 128, seed: int = 2024):
        self.dim, self.seed = dim, seed
        self.settings: dict[str, Any] = {"method": "TF-IDF + truncated SVD", "dim": dim, "seed": seed}

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> np.ndarray:
        """See :meth:`TextEncoder.encode`. A text without any word has the zero vector; ``max_length`` is not read."""
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
            # A single word has a single direction, and scikit-learn decomposes nothing below two.
            vectors = weights.toarray()
        else:
            # Several threads add up in varying order; the same texts must have the same vectors, bit by bit.
            with threadpool_limits(limits=1):
                vectors = TruncatedSVD(min(self.dim, *weights.shape), random_state=self.seed).fit_transform(weights)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        # A text whose words all lie outside the kept directions has rounding errors for a vector.
        return np.where(norms > 1e-9, vectors / np.maximum(norms, 1e-9), 0.0).astype(np.float32)

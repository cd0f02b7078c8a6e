"""Vectors of texts by plain transformers and NumPy, to hold encoders against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def pooled_vectors(folder: Path, texts: Sequence[str], pooling: str, max_length: int) -> np.ndarray:
    """Each text on its own, without padding: the first token's vector (``cls``) or the mean of all, of length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0].numpy().astype(np.float64)
        row = states[0] if pooling == "cls" else states.mean(axis=0)
        rows.append(row / np.linalg.norm(row))
    return np.array(rows)

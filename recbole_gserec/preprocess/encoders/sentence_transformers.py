"""Vectors from any model that the library sentence-transformers loads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from recbole_gserec.optional import import_optional
from recbole_gserec.preprocess.encoders.pretrained import check_length, device, encode_texts, model_load_error
from recbole_gserec.preprocess.model_identity import model_identity


class SentenceTransformersEncoder:
    """A frozen model with the pooling and further layers from its folder.

    If the folder names no pooling, the library uses the mean of the tokens. For models trained differently, use
    :class:`~recbole_gserec.preprocess.encoders.flag.FlagEncoder`.

    Args:
        name: The model's folder, or its name on a hub.
        batch_size: Texts in a batch. It only changes rounding.
    """

    name = "sentence-transformers"
    is_fitted = False

    def __init__(self, name: str, batch_size: int = 32):
        self.model_name, self.batch_size = name, batch_size
        self.settings: dict[str, Any] = {**model_identity(name), "dtype": "float32"}

    @cached_property
    def _model(self) -> Any:
        library = import_optional("sentence_transformers", "sentence-transformers", f"Encoder '{self.name}'")
        try:
            model = library.SentenceTransformer(self.model_name, device=device())
        except Exception as error:  # Loading an invalid folder can raise almost any error.
            raise model_load_error(self.name, self.model_name, error) from error
        # The library keeps the number format of the weights' file, which may be half precision.
        return model.float().eval().requires_grad_(False)

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> np.ndarray:
        """See :meth:`TextEncoder.encode`; an empty text has the zero vector."""
        return encode_texts(texts, lambda spoken: self._encode(spoken, max_length), f"{self.name}:{self.model_name}")

    def _encode(self, texts: list[str], max_length: int | None) -> np.ndarray:
        with self._cut_at(max_length):
            return self._model.encode(
                texts,
                batch_size=self.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )

    @contextmanager
    def _cut_at(self, max_length: int | None) -> Iterator[None]:
        """Truncate texts at this number of tokens, unless the model's own limit is lower."""
        model, own_limit = self._model, self._model.max_seq_length
        if max_length is None or (own_limit is not None and own_limit <= max_length):
            yield
        elif own_limit == math.inf:
            # Static embedding models have no limit to set, but their tokenizer truncates.
            own_truncation = model.tokenizer.truncation
            model.tokenizer.enable_truncation(max_length)
            try:
                yield
            finally:
                model.tokenizer.no_truncation()
                if own_truncation:
                    model.tokenizer.enable_truncation(**own_truncation)
        else:
            check_length(f"{self.name}:{self.model_name}", max_length, model.tokenizer)
            model.max_seq_length = max_length
            try:
                yield
            finally:
                model.max_seq_length = own_limit

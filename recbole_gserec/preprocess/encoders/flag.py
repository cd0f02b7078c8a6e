"""Vectors from the models of FlagEmbedding, including BGE-M3."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import cached_property
from typing import Any

import numpy as np

from recbole_gserec.optional import import_optional
from recbole_gserec.preprocess.encoders.model_files import read_pooling, read_token_limit
from recbole_gserec.preprocess.encoders.pretrained import check_length, device, encode_texts, model_load_error
from recbole_gserec.preprocess.model_identity import model_identity

_NO_LIMIT = 1 << 20
"""Limit for models without one; no text is as long."""


class FlagEncoder:
    """A frozen encoder such as BGE, run by FlagEmbedding; uses the dense vector of a text, without an instruction.

    Args:
        name: The model's folder, or its name on a hub.
        pooling: ``cls`` or ``mean``; ``None`` for what the model's files say, or else ``cls``.
        batch_size: Texts in a batch. It only changes rounding.
        dtype: ``float32``, or ``float16``, about twice as fast on a GPU.
    """

    name = "flag"
    is_fitted = False
    _library_class = "FlagModel"

    def __init__(self, name: str, pooling: str | None = None, batch_size: int = 32, dtype: str = "float32"):
        self.model_name, self.batch_size, self.dtype = name, batch_size, dtype
        self._pooling = pooling
        self._full_name = f"{self.name}:{name}"

    @cached_property
    def pooling(self) -> str:
        """How the vector of a text is computed from its tokens."""
        return self._pooling or read_pooling(self._full_name, self.model_name)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """See :class:`TextEncoder`. For a model on a hub, this downloads its pooling settings."""
        return {**model_identity(self.model_name), "pooling": self.pooling, "dtype": self.dtype}

    @cached_property
    def _model(self) -> Any:
        library = import_optional("FlagEmbedding", "flag-embedding", f"Encoder '{self.name}'")
        arguments = {
            "pooling_method": self.pooling,
            "use_fp16": self.dtype == "float16",
            # Use one device: with several, FlagEmbedding starts processes that it does not always stop.
            "devices": device(),
            "normalize_embeddings": True,
        }
        try:
            model = getattr(library, self._library_class)(self.model_name, **arguments)
        except Exception as error:  # Loading an invalid folder can raise almost any error.
            raise model_load_error(self.name, self.model_name, error) from error
        model.model.requires_grad_(False)
        return model

    @cached_property
    def _own_limit(self) -> int:
        """Return the token limit of the model. FlagEmbedding ignores it, and fails or gives wrong vectors beyond it."""
        model = self._model.model
        limits = [
            _NO_LIMIT,
            self._model.tokenizer.model_max_length,
            read_token_limit(self._full_name, self.model_name),
            getattr(model.config, "max_position_embeddings", None),
        ]
        for name, module in model.named_modules():
            if name.endswith("position_embeddings") and hasattr(module, "num_embeddings"):
                # RoBERTa-like models count positions from the padding position + 1.
                first = 0 if module.padding_idx is None else module.padding_idx + 1
                limits.append(module.num_embeddings - first)
        return min(limit for limit in limits if limit is not None and limit > 0)

    def encode(self, texts: Sequence[str], max_length: int | None = None) -> np.ndarray:
        """See :meth:`TextEncoder.encode`; an empty text has the zero vector."""
        return encode_texts(texts, lambda spoken: self._encode(spoken, max_length), self._full_name)

    def _encode(self, texts: list[str], max_length: int | None) -> np.ndarray:
        check_length(self._full_name, max_length, self._model.tokenizer)
        length = self._own_limit if max_length is None else min(self._own_limit, max_length)
        # FlagEmbedding has no option to hide its two progress bars.
        with redirect_stderr(io.StringIO()):
            return self._dense(self._model.encode(texts, batch_size=self.batch_size, max_length=length))

    @staticmethod
    def _dense(output: Any) -> np.ndarray:
        return output


class BGEM3Encoder(FlagEncoder):
    """BGE-M3 or a model fine-tuned from it. Only its dense vectors are used, not the sparse and multi-vector ones.

    Args:
        name: The model's folder, or its name on a hub.
        pooling: ``cls`` or ``mean``; ``None`` for what the model's files say, or else ``cls``.
        batch_size: Texts in a batch. It only changes rounding.
        dtype: ``float32``, or ``float16``, about twice as fast on a GPU.
    """

    name = "bge-m3"
    _library_class = "BGEM3FlagModel"

    @staticmethod
    def _dense(output: Any) -> np.ndarray:
        return output["dense_vecs"]

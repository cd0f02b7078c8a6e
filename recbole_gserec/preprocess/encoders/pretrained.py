"""Text vectors by pretrained models: what they have in common, and those of sentence-transformers."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.errors import SettingError, import_optional
from recbole_gserec.preprocess.description import model_identity


def device() -> str:
    """Return where models run: ``cuda`` if there is a GPU, or else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def encode_texts(texts: Sequence[str], encode: Callable[[list[str]], np.ndarray], model: str) -> np.ndarray:
    """Encode non-empty texts; empty texts have the zero vector.

    A model also gives the empty text a vector, which is close to others by chance. "No text" would then mean something
    else with each model.

    Args:
        texts: ``n`` texts; a text of white space is empty.
        encode: ``m`` texts -> ``[m, d]``.
        model: The user's name of the model, for the message.

    Returns:
        ``[n, d]``, ``float32``, rows of length 1 or 0.

    Raises:
        SettingError: If the vectors contain anything but numbers.
    """
    indices = [index for index, text in enumerate(texts) if text.strip()]
    # Tokenizers refuse unpaired surrogates, which broken JSON may contain.
    spoken = [texts[index].encode("utf-8", "replace").decode("utf-8") for index in indices]
    # If all texts are empty, the vector of "" gives the number of dimensions.
    made = np.asarray(encode(spoken or [""]), dtype=np.float32)
    if not np.isfinite(made).all():
        raise SettingError(f"encoder '{model}' gives vectors with NaN or infinity; choose another model")
    vectors = np.zeros((len(texts), made.shape[1]), dtype=np.float32)
    # Normalise again, because with half precision lengths are 1 only to three digits.
    vectors[indices] = (made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12))[: len(indices)]
    return vectors


def check_length(model: str, max_length: int | None, tokenizer: Any) -> None:
    """Check that truncated texts can hold at least one token of their own.

    Args:
        model: The user's name of the model, for the message.
        max_length: Maximum number of tokens of a text.
        tokenizer: The model's.

    Raises:
        SettingError: If the model's special tokens leave no room for the text.
    """
    n_special = tokenizer.num_special_tokens_to_add(False)
    if max_length is not None and max_length <= n_special:
        raise SettingError(
            f"encoder '{model}' adds {n_special} special tokens to a text, which leaves no room at a length of "
            f"{max_length}; raise encoder_max_length, encoder_item_length or encoder_query_length"
        )


def model_load_error(kind: str, name: str, error: Exception) -> SettingError:
    """Return the error for a model that cannot be loaded, in one line.

    Args:
        kind: The encoder's kind.
        name: The model's folder, or its name on a hub.
        error: The library's error.
    """
    reason = next(iter(str(error).strip().splitlines()), "")[:200] or type(error).__name__
    if Path(name).is_dir():
        return SettingError(f"encoder '{kind}:{name}': the folder has no model that can be loaded ({reason})")
    return SettingError(f"encoder '{kind}:{name}': '{name}' is not a folder and cannot be downloaded ({reason})")


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

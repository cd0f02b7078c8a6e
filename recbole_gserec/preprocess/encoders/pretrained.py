"""What the encoders with a pretrained model share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.errors import SettingError


def device() -> str:
    """Where models run: ``cuda`` if there is a GPU, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def encode_texts(texts: Sequence[str], encode: Callable[[list[str]], np.ndarray], model: str) -> np.ndarray:
    """Encode the texts that say something; the others have the zero vector.

    A model gives even the empty text some vector, to which others are near by chance. "No text" would then be a
    different thing with each model.

    Args:
        texts: ``n`` texts; one without anything but white space is empty.
        encode: ``m`` texts -> ``[m, d]``.
        model: How the user named the model, for the message.

    Returns:
        ``[n, d]``, ``float32``, rows of length 1 or 0.

    Raises:
        SettingError: If the model gives something else than numbers.
    """
    places = [place for place, text in enumerate(texts) if text.strip()]
    # Half of a character outside the basic plane, as broken JSON has it, is nothing a tokenizer takes.
    spoken = [texts[place].encode("utf-8", "replace").decode("utf-8") for place in places]
    # Where no text says anything, the vector of "" still tells how many dimensions there are.
    made = np.asarray(encode(spoken or [""]), dtype=np.float32)
    if not np.isfinite(made).all():
        raise SettingError(f"encoder '{model}' gives vectors with NaN or infinity; choose another model")
    vectors = np.zeros((len(texts), made.shape[1]), dtype=np.float32)
    # Again, because half precision leaves lengths that are 1 to three digits only.
    vectors[places] = (made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12))[: len(places)]
    return vectors


def check_length(model: str, max_length: int | None, tokenizer: Any) -> None:
    """See that a text has room for a word of its own.

    Args:
        model: How the user named the model, for the message.
        max_length: Most tokens of a text.
        tokenizer: The model's.

    Raises:
        SettingError: If the tokens that the model puts around a text leave nothing of it.
    """
    n_special = tokenizer.num_special_tokens_to_add(False)
    if max_length is not None and max_length <= n_special:
        raise SettingError(
            f"encoder '{model}' puts {n_special} tokens around a text, so that at {max_length} nothing of it is left; "
            f"raise encoder_max_length, encoder_item_length or encoder_query_length"
        )


def not_loaded(kind: str, name: str, error: Exception) -> SettingError:
    """The error for a model that cannot be loaded, in one line.

    Args:
        kind: The encoder's kind.
        name: The model's folder, or its name on a hub.
        error: What the library said.
    """
    reason = next(iter(str(error).strip().splitlines()), "")[:200] or type(error).__name__
    if Path(name).is_dir():
        return SettingError(f"encoder '{kind}:{name}': the folder has no model that can be loaded ({reason})")
    return SettingError(f"encoder '{kind}:{name}': '{name}' is neither a folder here nor can be fetched ({reason})")

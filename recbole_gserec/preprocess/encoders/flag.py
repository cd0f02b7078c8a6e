"""Text vectors by the models of FlagEmbedding, such as BGE-M3."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recbole_gserec.errors import SettingError, import_optional
from recbole_gserec.preprocess.description import model_identity
from recbole_gserec.preprocess.encoders.pretrained import check_length, device, encode_texts, model_load_error

_POOLINGS = {"cls": "cls", "mean": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
"""Name in old and new pooling files -> pooling."""

_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


def read_pooling(model: str, name: str) -> str:
    """Return how a model computes the vector of a text from its tokens: ``cls`` or ``mean``.

    Args:
        model: How the user named it, with the kind of encoder, for messages.
        name: The model's folder, or its name on a hub.

    Returns:
        What the model's files say, and ``cls`` if they say nothing.

    Raises:
        SettingError: If they require anything else, or cannot be read.
    """
    for module in read_model_file(model, name, "modules.json") or []:
        kind = module["type"].rpartition(".")[2]
        if kind not in _KNOWN_MODULES:
            raise SettingError(
                f"encoder '{model}': the model has a layer '{kind}', which FlagEmbedding leaves out; "
                f"use 'sentence-transformers:{name}', or set encoder_pooling to do without the layer"
            )
    config = read_model_file(model, name, "1_Pooling/config.json")
    if config is None:
        return "cls"
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [key for key, is_on in config.items() if key.startswith("pooling_mode_") and is_on]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise SettingError(
            f"encoder '{model}': the model's pooling is {' + '.join(modes) or 'none'}, but FlagEmbedding only "
            f"supports cls and mean; use 'sentence-transformers:{name}', or set encoder_pooling"
        )
    return _POOLINGS[modes[0]]


def read_token_limit(model: str, name: str) -> int | None:
    """Return the token limit in the model's files; ``None`` if it is missing or cannot be read.

    See :func:`read_pooling`. This limit may be unknown, because the model itself has a limit too.
    """
    try:
        config = read_model_file(model, name, "sentence_bert_config.json") or {}
    except SettingError:
        return None
    return config.get("max_seq_length")


def read_model_file(model: str, name: str, path: str) -> Any:
    """Return the content of a model's JSON file; ``None`` if the model has no such file. See :func:`read_pooling`."""
    folder = Path(name)
    file = folder / path if folder.is_dir() else _fetch(model, name, path)
    if file is None or not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingError(f"encoder '{model}': {file} is not JSON ({error})") from error


def _fetch(model: str, name: str, path: str) -> Path | None:
    hub = import_optional("huggingface_hub", "flag-embedding", f"Encoder '{model}'")
    errors = import_optional("huggingface_hub.errors", "flag-embedding", f"Encoder '{model}'")
    try:
        return Path(hub.hf_hub_download(name, path))
    except errors.LocalEntryNotFoundError as error:
        # It is unknown whether the model has the file; treating it as missing could silently be wrong.
        reason = "no connection, or offline mode"
        cause = error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # An unknown model, missing permission or an invalid name each has its own type.
        reason = next(iter(str(error).strip().splitlines()), "")[:200] or type(error).__name__
        cause = error
    raise SettingError(
        f"encoder '{model}': '{name}' is not a folder, and its {path}, which defines the pooling, cannot be "
        f"downloaded ({reason}); if the model itself is already downloaded, set encoder_pooling"
    ) from cause


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

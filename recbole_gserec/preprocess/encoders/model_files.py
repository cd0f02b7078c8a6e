"""Reads the small files of a model folder in the layout of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recbole_gserec.errors import SettingError
from recbole_gserec.optional import import_optional

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
        f"encoder '{model}': '{name}' is neither a folder here nor can its {path} be fetched ({reason}), which defines "
        "its pooling; if the model itself was fetched before, set encoder_pooling"
    ) from cause

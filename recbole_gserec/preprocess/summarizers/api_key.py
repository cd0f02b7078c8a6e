"""The key of a language model's server: in the environment alone, and hidden wherever a server repeats it."""

from __future__ import annotations

import os

from recbole_gserec.errors import SettingError

KEY_VARIABLE = "OPENAI_API_KEY"


def api_key() -> str:
    """The key in the environment; empty if there is none.

    Raises:
        SettingError: If it cannot be one. The client's own error would show it.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and (key.isprintable() or not key)):
        raise SettingError(f"the environment variable {KEY_VARIABLE} holds characters that no key has")
    return key


def without_key(text: str) -> str:
    """The text in one line, without the key. To be cut only afterwards: a part of the key would not be found."""
    text = " ".join(text.split())
    return text.replace(key, "\u2026") if (key := api_key()) else text

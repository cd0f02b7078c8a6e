"""The key of a language model's server: read only from the environment, and hidden if a server repeats it."""

from __future__ import annotations

import base64
import json
import os
import re
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from recbole_gserec.errors import SettingError

KEY_VARIABLE = "OPENAI_API_KEY"
_HIDDEN = "\u2026"
# Shorter values, such as "EMPTY", are placeholders for servers without keys, and may be words of normal answers.
_SHORTEST_IN_ANSWERS = 8
_SECRET_PARAMETER = re.compile("key|token|secret|sig|pass|auth|code", re.IGNORECASE)


def api_key() -> str:
    """Return the key in the environment; empty if there is none.

    Raises:
        SettingError: If it cannot be a key. The client's own error would show it.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and (key.isprintable() or not key)):
        raise SettingError(f"the environment variable {KEY_VARIABLE} contains characters that a key cannot have")
    return key


def without_key(text: str, address: str | None = None) -> str:
    """Return a message in one line, without the key. Truncate it only afterwards, or part of the key may remain.

    Args:
        text: Message of a server or the client.
        address: Address of the server; its login and keys in its parameters are hidden too.
    """
    text = "".join(character if character.isprintable() else " " for character in text)
    return _hidden(" ".join(text.split()), _secrets(address))


def answer_without_key(text: str, address: str | None = None) -> str:
    """Return an answer without the key and the login, if these are long enough to be secrets."""
    return _hidden(text, [secret for secret in _secrets(address) if len(secret) >= _SHORTEST_IN_ANSWERS])


def _secrets(address: str | None) -> list[str]:
    """Return all secrets: the key, and logins and keys in the address."""
    secrets = [api_key()]
    if address is not None:
        try:
            parts = urlsplit(address)
            login, parameters = parts.netloc.rpartition("@")[0], parse_qsl(parts.query)
        except ValueError:
            login, parameters = "", []
        user, _, password = map(unquote, login.partition(":"))
        secrets += [password, f"{user}:{password}" if password else user]
        secrets += [value for name, value in parameters if _SECRET_PARAMETER.search(name)]
    return [secret for secret in secrets if secret]


def _hidden(text: str, secrets: list[str]) -> str:
    forms = {form for secret in secrets for form in _forms(secret)}
    if not forms:
        return text
    # Longest first, because one may be part of another.
    pattern = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
    return re.sub(pattern, _HIDDEN, text, flags=re.IGNORECASE)


def _forms(secret: str) -> set[str]:
    """Return a secret as it is, as in an address, in JSON, and in Base64 at any position of a longer text."""
    forms = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]}
    content = secret.encode()
    if len(content) >= _SHORTEST_IN_ANSWERS:
        forms |= {content.hex(), *(encode(content).decode() for encode in (base64.b64encode, base64.urlsafe_b64encode))}
        for n_before in range(3):
            # The first and the last character depend on the text around the secret.
            encoded = base64.b64encode(bytes(n_before) + content).rstrip(b"=").decode()
            inner = encoded[-(-n_before * 4 // 3) : len(encoded) - ((n_before + len(content)) % 3 > 0)]
            forms |= {inner, inner.translate(str.maketrans("+/", "-_"))}
    return forms

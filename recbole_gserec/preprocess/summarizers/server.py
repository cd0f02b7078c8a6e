"""Talking to a language model's server: the key, the HTTP client, reading answers, and explaining faults.

The key is read from the environment only and masked wherever a server repeats it. Requests are limited in time and
bytes, and go only to the server that the user named. Answers are read with distrust: proxies send pages, and servers
send halves.

"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from recbole_gserec.errors import SettingError, not_none
from recbole_gserec.preprocess.summarizers.base import Completion

if TYPE_CHECKING:
    from openai import APIStatusError

    from recbole_gserec.settings import PreprocessSettings

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


_SHOWN = 80
_MOST_TOKENS = 2**31


class BrokenAnswerError(Exception):
    """A body that is not a chat completion."""


def read_completion(body: str, opens_reasoning: bool, address: str | None = None) -> Completion:
    """Read the body of a chat completion.

    Some servers move the reasoning into its own field, which is ignored. A key that the server repeats is hidden, and
    invalid token counts are left out.

    Args:
        body: The body of the response.
        opens_reasoning: Whether the chat template opens a reasoning block.
        address: Address of the server.

    Raises:
        BrokenAnswerError: If it is something else.
    """
    try:
        answer = _parsed(body)
    except (ValueError, RecursionError) as error:
        raise BrokenAnswerError(f"no JSON: {_beginning(body, address)}") from error
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        text = message.get("content")
    except (LookupError, TypeError, AttributeError) as error:
        # Some servers send "200 OK" with the error in the body.
        raise BrokenAnswerError(f"no message in {_beginning(body, address)}") from error
    if isinstance(text, list):
        # A message may consist of parts.
        text = "".join(str(part.get("text") or "") for part in text if isinstance(part, dict))
    if not isinstance(text, str | None):
        raise BrokenAnswerError(f"no text in {_beginning(body, address)}")
    # If the server removed the reasoning, the text does not continue it.
    is_taken_out = bool(message.get("reasoning_content") or message.get("reasoning"))
    usage = answer.get("usage")
    return Completion(
        answer_without_key(text or "", address),
        is_whole=choice.get("finish_reason") == "stop",
        opens_in_reasoning=opens_reasoning and not is_taken_out,
        prompt_tokens=_count(usage, "prompt_tokens"),
        answer_tokens=_count(usage, "completion_tokens"),
    )


def read_models(body: str) -> list[str]:
    """Return the names in a list of models; none if the body is something else."""
    try:
        return [str(model["id"]) for model in _parsed(body)["data"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []


def _parsed(body: str) -> Any:
    """Parse JSON; None if it is invalid, including numbers with too many digits."""
    return json.loads(body, parse_int=lambda digits: int(digits) if len(digits) < 20 else None)


def _count(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count < _MOST_TOKENS else None


def _beginning(body: str, address: str | None) -> str:
    text = without_key(body, address)
    return f"'{text[:_SHOWN]}\u2026'" if len(text) > _SHOWN else f"'{text}'"


MOST_BYTES = 8 * 2**20
_MOST_REDIRECTS = 5
_DEFAULT_PORTS = {"http": 80, "https": 443}
# The body is passed on decompressed, and JSON is UTF-8, whatever the server declares.
_OF_BODIES = ("content-encoding", "content-length", "content-type", "transfer-encoding")


class ForeignRedirectError(Exception):
    """A server redirects a request to another server, which the message names."""


def bounded_client(seconds: float, login: tuple[str, str] | None = None) -> Any:
    """Create a client for the library ``openai``; proxies of the environment are used as always.

    Args:
        seconds: Time from the beginning of a request to the last byte of its answer, including redirects. The library's
            own limits apply to single reads, so occasional bytes would keep it waiting forever.
        login: Name and password, sent instead of the key.
    """
    from openai import DefaultAsyncHttpxClient

    # httpx or httpx2, depending on the version of openai, which only catches the errors of its own one.
    library = import_module(DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])

    class BoundedClient(DefaultAsyncHttpxClient):
        """Raises :class:`ForeignRedirectError`, or :class:`BrokenAnswerError` for a body that is too large."""

        async def send(self, request: Any, **options: Any) -> Any:
            try:
                async with asyncio.timeout(seconds):
                    return await self._exchange(request, {**options, "stream": True, "follow_redirects": False})
            except TimeoutError as error:
                raise library.ReadTimeout(f"no whole answer in {seconds:g} seconds", request=request) from error

        async def _exchange(self, request: Any, options: dict[str, Any]) -> Any:
            for _ in range(_MOST_REDIRECTS):
                response = await super().send(request, **options)
                following = response.next_request
                if following is None:
                    return await _whole(response)
                await response.aclose()
                if not _is_same_server(request.url, following.url):
                    address = following.url
                    port = "" if address.port is None else f":{address.port}"
                    raise ForeignRedirectError(f"{address.scheme}://{address.host}{port}")
                request = following
            raise BrokenAnswerError(f"more than {_MOST_REDIRECTS} redirects")

    return BoundedClient(timeout=seconds, auth=login)


async def _whole(response: Any) -> Any:
    """Return the same response with its body, decompressed."""
    body = bytearray()
    try:
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise BrokenAnswerError(f"more than {MOST_BYTES:,} bytes")
    finally:
        await response.aclose()
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _OF_BODIES]
    return type(response)(response.status_code, headers=headers, content=bytes(body), request=response.request)


def _is_same_server(asked: Any, following: Any) -> bool:
    """Return whether an address has the same host and port, or is its TLS address."""
    ports = [url.port or _DEFAULT_PORTS.get(url.scheme) for url in (asked, following)]
    if asked.host != following.host:
        return False
    return (asked.scheme, ports[0]) == (following.scheme, ports[1]) or (
        (asked.scheme, following.scheme) == ("http", "https") and ports[1] == 443
    )


_SAID, _NAMED_MODELS, _NAME_LENGTH = 300, 5, 80
# Each server words this differently.
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|max_model_len|maximum (model|input) length|too (long|large)"
    r"|tokens\b.{0,40}\b(exceed|must be)|exceed.{0,40}\btokens",
    re.IGNORECASE,
)
_NEUTRAL = {
    "top_k": "llm_top_k: 0",
    "repetition_penalty": "llm_repetition_penalty: 1.0",
    "response_format": "llm_json_schema: False",
    "temperature": "llm_temperature: 1.0",
    "top_p": "llm_top_p: 1.0",
}


def check_address(url: str) -> None:
    """Refuse an invalid address, which the client would only notice after all its retries.

    Raises:
        SettingError: If it is invalid.
    """
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine:
        raise SettingError(
            f"llm_base_url is '{_without_login(url)}'; it must be an address such as http://localhost:8000/v1"
        )


def is_too_long(error: Exception) -> bool:
    """Return whether the server refuses a prompt because of its length."""
    status = getattr(error, "status_code", None)
    if status == 413 or getattr(error, "code", None) == "context_length_exceeded":
        return True
    return status in (400, 422) and bool(_TOO_LONG.search(_said(error)))


def is_unknown_model(error: Exception) -> bool:
    """Return whether the server may not know the model; the address may be wrong instead."""
    code, parameter = getattr(error, "code", None), getattr(error, "param", None)
    return getattr(error, "status_code", None) == 404 or code == "model_not_found" or parameter == "model"


def wants_other_limit(error: Exception) -> bool:
    """Return whether the server requires the newer name of the token limit."""
    return getattr(error, "status_code", None) == 400 and "max_completion_tokens" in _said(error)


def refused_setting(error: Exception) -> str:
    """Return the settings for the parameters that a refusal names, with values that every server accepts."""
    said = f"{_said(error)} {getattr(error, 'param', None)}"
    return ", ".join(setting for name, setting in _NEUTRAL.items() if re.search(rf"\b{name}\b", said))


def explain(error: Exception, settings: PreprocessSettings, models: Sequence[str] = ()) -> str:
    """Explain an error in one line: what happened, where, and what to do.

    Args:
        error: Error of the library ``openai``, or a broken answer.
        settings: Settings of the request.
        models: Models on the server, if known.
    """
    from openai import APIStatusError, APITimeoutError

    server, tries = f"The server at {_shown(not_none(settings.llm_base_url))}", f"{settings.llm_retries + 1} times"
    refused = error if isinstance(error, ForeignRedirectError) else error.__cause__
    if isinstance(refused, ForeignRedirectError):
        return (
            f"{server} redirects requests to {_masked(str(refused), settings)}; no prompt was sent there. "
            "If you mean that server, set llm_base_url to it"
        )
    if isinstance(error, BrokenAnswerError):
        return (
            f"{server} does not return a chat completion, asked {tries} ({_masked(str(error), settings)}). "
            "Is this llm_base_url right? Most end with /v1"
        )
    if isinstance(error, APITimeoutError):
        return (
            f"{server} did not answer within llm_timeout, {settings.llm_timeout:g} seconds, {tries}. "
            "Raise llm_timeout, or lower llm_concurrency"
        )
    if not isinstance(error, APIStatusError):
        reason = _masked(str(error.__cause__ or error), settings)
        return (
            f"{server} cannot be reached, {tries} ({reason}). Start it again, correct llm_base_url or raise llm_retries"
        )
    return f"{server} {_refusal(error, settings, models)}"


def _refusal(error: APIStatusError, settings: PreprocessSettings, models: Sequence[str]) -> str:
    status, said = error.status_code, _said(error, settings)
    answer = f"({status}: {said})" if said else f"({status})"
    if status in (401, 403):
        need = "refuses the key" if api_key() else "wants a key"
        return f"{need} {answer}. Put the right one into the environment variable {KEY_VARIABLE}"
    if is_unknown_model(error):
        if models and settings.llm not in models:
            more = ", …" if len(models) > _NAMED_MODELS else ""
            named = ", ".join(_masked(model, settings)[:_NAME_LENGTH] for model in models[:_NAMED_MODELS])
            return f"has no model '{settings.llm}', but {named}{more}. Correct llm"
        return (
            f"has no such page, or no model '{settings.llm}' {answer}. "
            "Correct llm_base_url, which mostly ends with /v1, or llm"
        )
    if status == 429:
        return f"accepts no more requests {answer}. Lower llm_concurrency, raise llm_retries, or check your quota"
    if status >= 500 or status in (408, 409):
        return f"fails, {settings.llm_retries + 1} times {answer}. See its log, start it again, or raise llm_retries"
    if is_too_long(error):
        return f"finds even prompts of one record too long {answer}. Lower llm_max_tokens or prompt_item_length"
    setting = refused_setting(error)
    return f"refuses the requests {answer}. " + (f"Set {setting}" if setting else "Correct llm_base_url, llm or llm_*")


def _said(error: Exception, settings: PreprocessSettings | None = None) -> str:
    """Return the server's message in one line; nothing for web pages from proxies."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    text = _masked(str(body or ""), settings)
    return "" if text.startswith("<") else text


def _masked(text: str, settings: PreprocessSettings | None) -> str:
    """Return one line without the key and the login, which servers often repeat."""
    return without_key(text, settings.llm_base_url if settings else None)[:_SAID]


def _shown(url: str) -> str:
    return _without_login(urlsplit(url)._replace(query="", fragment="").geturl())


def _without_login(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]

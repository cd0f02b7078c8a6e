"""Errors of a language model's server and of requests to it, each as one line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from recbole_gserec.errors import SettingError
from recbole_gserec.narrowing import not_none
from recbole_gserec.preprocess.summarizers.api_key import KEY_VARIABLE, api_key, without_key
from recbole_gserec.preprocess.summarizers.bounded_client import ForeignRedirectError
from recbole_gserec.preprocess.summarizers.server_answers import BrokenAnswerError

if TYPE_CHECKING:
    from openai import APIStatusError

    from recbole_gserec.preprocess.settings import PreprocessSettings

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
            f"llm_base_url is '{_without_login(url)}'; it takes an address such as http://localhost:8000/v1"
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

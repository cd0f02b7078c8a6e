"""Reads answers of a server with OpenAI's protocol defensively: proxies may send web pages, servers partial answers."""

from __future__ import annotations

import json
from typing import Any

from recbole_gserec.preprocess.summarizers.api_key import answer_without_key, without_key
from recbole_gserec.preprocess.summarizers.base import Completion

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

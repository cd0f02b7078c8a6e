"""Bodies of a server that speaks OpenAI's protocol, read with distrust: proxies send pages, servers halves."""

from __future__ import annotations

import json
from typing import Any

from recbole_gserec.preprocess.summarizers.api_key import answer_without_key, without_key
from recbole_gserec.preprocess.summarizers.base import Completion

_SHOWN = 80
_MOST_TOKENS = 2**31


class BrokenAnswerError(Exception):
    """A body that is no chat completion."""


def read_completion(body: str, opens_reasoning: bool, address: str | None = None) -> Completion:
    """Read the body of a chat completion.

    A field with the reasoning, which some servers take out of the answer, is not the answer. A key that the server
    repeats is hidden, and numbers of tokens that are none are left out.

    Args:
        body: As the server sent it.
        opens_reasoning: Whether the chat template opens a reasoning block.
        address: Of the server.

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
        # Some servers say "200 OK" and put the error into the body.
        raise BrokenAnswerError(f"no message in {_beginning(body, address)}") from error
    if isinstance(text, list):
        # In parts, as a user's message can be.
        text = "".join(str(part.get("text") or "") for part in text if isinstance(part, dict))
    if not isinstance(text, str | None):
        raise BrokenAnswerError(f"no text in {_beginning(body, address)}")
    # Where the server has taken the reasoning out, the text does not go on with it.
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
    """Names in a list of models; none if the body is something else."""
    try:
        return [str(model["id"]) for model in _parsed(body)["data"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []


def _parsed(body: str) -> Any:
    """A JSON text; a number of more digits than any count has is none."""
    return json.loads(body, parse_int=lambda digits: int(digits) if len(digits) < 20 else None)


def _count(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count < _MOST_TOKENS else None


def _beginning(body: str, address: str | None) -> str:
    text = without_key(body, address)
    return f"'{text[:_SHOWN]}\u2026'" if len(text) > _SHOWN else f"'{text}'"

"""The HTTP client for a language model's server: limits time and size, and refuses redirects to other servers."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from recbole_gserec.preprocess.summarizers.server_answers import BrokenAnswerError

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

"""The HTTP client for a language model's server: limited in time and bytes, and to the server that the user named."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from recbole_gserec.preprocess.summarizers.server_answers import BrokenAnswerError

MOST_BYTES = 8 * 2**20
_MOST_REDIRECTS = 5
_DEFAULT_PORTS = {"http": 80, "https": 443}
# The body is given on as it was unpacked, and JSON is UTF-8, whatever a server says of it.
_OF_BODIES = ("content-encoding", "content-length", "content-type", "transfer-encoding")


class ForeignRedirectError(Exception):
    """A server sends a request on to another one, which is named."""


def bounded_client(seconds: float, login: tuple[str, str] | None = None) -> Any:
    """A client for the library ``openai``; proxies of the environment are used as always.

    Args:
        seconds: From the beginning of a request to the last byte of its answer, redirects included. The library's own
            limits are those of single reads: a byte now and then would keep it waiting for ever.
        login: Name and password, sent in place of the key.
    """
    from openai import DefaultAsyncHttpxClient

    # httpx or httpx2, by the version of openai, which catches the errors of its own alone.
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
                    place = following.url
                    port = "" if place.port is None else f":{place.port}"
                    raise ForeignRedirectError(f"{place.scheme}://{place.host}{port}")
                request = following
            raise BrokenAnswerError(f"more than {_MOST_REDIRECTS} redirects")

    return BoundedClient(timeout=seconds, auth=login)


async def _whole(response: Any) -> Any:
    """The same response with its body, unpacked."""
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
    """Whether an address is on the same host and port, or there by way of TLS."""
    ports = [url.port or _DEFAULT_PORTS.get(url.scheme) for url in (asked, following)]
    if asked.host != following.host:
        return False
    return (asked.scheme, ports[0]) == (following.scheme, ports[1]) or (
        (asked.scheme, following.scheme) == ("http", "https") and ports[1] == 443
    )

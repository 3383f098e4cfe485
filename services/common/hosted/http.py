"""HTTP to providers: one session for all calls of a service."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy


class _Response(aiohttp.ClientResponse):
    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers, in ASCII: litellm copies them into httpx's, which take no others."""
        headers = self._headers
        if all(map(str.isascii, headers.values())):
            return headers
        pairs = [(name, value.encode("ascii", "replace")) for name, value in headers.items()]
        return CIMultiDictProxy(CIMultiDict((name, value.decode()) for name, value in pairs))


def http_session(
    headers: Mapping[str, str] | None = None, proxy: str | None = None
) -> aiohttp.ClientSession:
    """A session that keeps connections and no cookies; made and closed on one event loop."""
    return aiohttp.ClientSession(
        # The limits bound what runs; a pool of its own bound would be a second queue.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
        response_class=_Response,
    )


def is_loopback(host: str) -> bool:
    """Whether this is a name of this machine, where a proxy would look on its own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return address.is_loopback or address.is_unspecified

"""HTTP to providers: the session, limits on what is read, and server-sent events."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy

from services.common.errors import UpstreamUnavailable

#: Bytes of an error's body that are read. The status says enough about the rest.
MAX_ERROR_BYTES = 64 * 1024


class _Response(aiohttp.ClientResponse):
    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers as ASCII: litellm copies them into httpx's, which must be ASCII."""
        headers = self._headers
        if all(map(str.isascii, headers.values())):
            return headers
        pairs = [(name, value.encode("ascii", "replace")) for name, value in headers.items()]
        return CIMultiDictProxy(CIMultiDict((name, value.decode()) for name, value in pairs))


def make_http_session(
    headers: Mapping[str, str] | None = None, proxy: str | None = None
) -> aiohttp.ClientSession:
    """Make a session that keeps connections but no cookies. Close it on the same event loop."""
    return aiohttp.ClientSession(
        # CallLimits bounds the calls. A bounded connection pool would be a second queue.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
        response_class=_Response,
    )


def is_loopback(host: str) -> bool:
    """Whether the host is this machine. A proxy cannot reach it: it would call its own machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return address.is_loopback or address.is_unspecified


def check_size(size: int, limit: int, setting: str) -> None:
    """Raise UpstreamUnavailable if `size` bytes are over `limit`, the value of `setting`.

    Without a limit, an endless answer would fill the memory.
    """
    if size > limit:
        raise UpstreamUnavailable(
            f"the provider's answer is longer than {setting} allows ({limit} bytes)"
        )

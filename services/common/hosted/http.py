"""HTTP to providers: the session, proxies, and limits on what is read."""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from collections.abc import Mapping

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy

from services.common.config import ConfigError
from services.common.errors import UpstreamUnavailable

#: Bytes of a header that are read. Some gateways send policies and cookies of many KB.
_MAX_HEADER_BYTES = 128 * 1024
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


class Connector(aiohttp.TCPConnector):
    """Keeps idle connections, and can close all of them at the same time."""

    def drop_idle(self) -> None:
        """Close all idle connections.

        If the server has gone away, all of them are dead, and each retry would fail on the next.
        """
        for connections in self._conns.values():  # aiohttp has no public way
            for protocol, _ in connections:
                protocol.close()
            connections.clear()


def make_http_session(
    headers: Mapping[str, str] | None = None, proxy: str | None = None
) -> aiohttp.ClientSession:
    """Make a session that keeps connections but no cookies. Close it on the same event loop."""
    return aiohttp.ClientSession(
        # CallLimits bounds the calls. A bounded connection pool would be a second queue.
        connector=Connector(limit=0, keepalive_timeout=30),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
        response_class=_Response,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        max_headers=1024,
    )


def drop_idle(session: aiohttp.ClientSession) -> None:
    """Close the idle connections of a session, after one of them has failed."""
    if isinstance(session.connector, Connector):
        session.connector.drop_idle()


def find_proxy(scheme: str, host: str) -> str | None:
    """The environment's proxy for a server; None for a server on this machine.

    Raises ConfigError for a proxy of a kind that cannot be used.
    """
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    name = scheme if proxies.get(scheme) else "all"
    return _check_proxy(f"{name}_proxy", proxies.get(name))


def check_proxies() -> None:
    """Raise ConfigError if the environment has a proxy of a kind that cannot be used."""
    proxies = urllib.request.getproxies()
    for name in ("http", "https", "all"):
        _check_proxy(f"{name}_proxy", proxies.get(name))


def _check_proxy(variable: str, proxy: str | None) -> str | None:
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    scheme = proxy.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        names = (name for name in (variable, variable.upper()) if name in os.environ)
        raise ConfigError(
            f"{next(names, variable)} names a proxy of the kind {scheme}, which cannot be used: "
            "name an HTTP proxy (http://host:port), or set no_proxy for the servers that are "
            "reached directly"
        )
    return proxy


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

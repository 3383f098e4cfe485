"""HTTP to providers: one session for all calls of a service."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp


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
    )

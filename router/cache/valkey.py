"""Replies on a Valkey server, which several routers share."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from router.cache.config import CacheConfig
from services.common.config import ConfigError

if TYPE_CHECKING:
    from valkey.asyncio import Valkey

#: Seconds to wait for the server: a call never waits longer for its cache.
_TIMEOUT = 1.0


class ValkeyStore:
    """Replies on a server. It forgets them when they are too old, or by its own `maxmemory`."""

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self._server: Valkey

    async def open(self) -> None:
        """Connect to the server. Raises ConfigError."""
        try:
            from valkey.asyncio import Valkey
            from valkey.exceptions import ValkeyError
        except ImportError as error:
            raise ConfigError(
                "cache.store: a Valkey server needs the part valkey: make setup WITH=valkey"
            ) from error
        self._server = Valkey.from_url(
            self._config.store, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT
        )
        try:
            await self._server.ping()
        except (ValkeyError, OSError) as error:
            await self.close()
            # The address may hold a password.
            raise ConfigError(f"cache.store: the Valkey server does not answer: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._server.aclose()

    async def get(self, digest: bytes, scope: str) -> bytes | None:
        """Return the kept reply of a model's revision; None if there is none."""
        found: bytes | None = await self._server.get(_name(digest, scope))
        return found

    async def put(self, digest: bytes, scope: str, reply: bytes) -> None:
        """Keep the reply of a model's revision."""
        milliseconds = int(1000 * self._config.max_age_seconds)
        await self._server.set(_name(digest, scope), reply, px=milliseconds)


def _name(digest: bytes, scope: str) -> str:
    return f"arena-llm:reply:{base64.urlsafe_b64encode(digest).decode()}:{scope}"

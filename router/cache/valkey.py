"""Replies on a Valkey server, which several routers share."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from router.config import CacheConfig
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
                "cache.store: a Valkey server needs the extra valkey of arena-llm-services: in a "
                "checkout make setup WITH=valkey"
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

    async def claim(self, digest: bytes, scope: str, owner: str, seconds: float) -> bool:
        """Claim a request for a process, and return whether no other one has claimed it."""
        name = _name(digest, scope, "claim")
        return bool(await self._server.set(name, owner, nx=True, px=int(1000 * seconds)))

    async def renew(self, digest: bytes, scope: str, owner: str, seconds: float) -> None:
        """Keep a claim for `seconds` from now, if the process still has it."""
        name = _name(digest, scope, "claim")
        await self._run(_RENEW, name, owner, str(int(1000 * seconds)))

    async def release(self, digest: bytes, scope: str, owner: str) -> None:
        """Give up a claim, if the process still has it."""
        await self._run(_RELEASE, _name(digest, scope, "claim"), owner)

    async def _run(self, script: str, name: str, *arguments: str) -> None:
        running: Any = self._server.eval(script, 1, name, *arguments)
        await running


_IF_OURS = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call({}) end"
_RENEW = _IF_OURS.format("'pexpire', KEYS[1], ARGV[2]")
_RELEASE = _IF_OURS.format("'del', KEYS[1]")


def _name(digest: bytes, scope: str, what: str = "reply") -> str:
    return f"arena-llm:{what}:{base64.urlsafe_b64encode(digest).decode()}:{scope}"

"""Answers calls by kept replies: an exact cache, or a recording and its replay.

The three modes are one mechanism. `cache` answers equal requests again; `record` forwards every
call and keeps its reply; `replay` is a cache of such a recording, which never expires and refuses
what it does not have.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from google.protobuf.message import Message

from arena_llm.v1 import generate_pb2
from router.cache.config import CacheConfig
from router.cache.entry import digest, may_keep, pack, unpack
from router.cache.sqlite import SqliteStore
from router.cache.valkey import ValkeyStore
from services.common.errors import NotRecorded
from services.common.handlers import SMALL, parse, parse_scanned, scan
from services.common.log import log
from services.common.metrics import meter

#: Seconds for which a model's revision is known. A service that restarts may have another one.
_REVISION_SECONDS = 60.0
_MAX_REVISIONS = 4096

#: Returns the revision of a model, or None if its backend does not answer.
AskRevision = Callable[[str], Awaitable[str | None]]


@dataclass(slots=True)
class CacheCounts:
    """What the cache has done.

    joined: calls that waited for an equal one. kept: replies that were stored. errors: of the
    store; such calls went on without it.
    """

    hits: int = 0
    misses: int = 0
    joined: int = 0
    kept: int = 0
    errors: int = 0


class Key:
    """A request whose reply may be kept. scope: see SqliteStore."""

    __slots__ = ("digest", "scope")

    def __init__(self, digest: bytes, scope: str) -> None:
        self.digest = digest
        self.scope = scope


class ReplyCache:
    """The kept replies of a router. ask_revision: asks a model's backend."""

    def __init__(self, config: CacheConfig, ask_revision: AskRevision) -> None:
        self._config = config
        self.mode = config.mode
        self.counts = CacheCounts()
        self._ask_revision = ask_revision
        self._store: Any = ValkeyStore(config) if config.is_shared else SqliteStore(config)
        self._revisions: dict[str, tuple[asyncio.Task[str | None], float]] = {}
        self._running: dict[tuple[bytes, str], asyncio.Future[bytes | None]] = {}
        self._replayed: Counter[tuple[bytes, str]] = Counter()

    async def start(self) -> None:
        """Open the store. Raises ConfigError."""
        await self._store.open()

    async def aclose(self) -> None:
        """Close the store."""
        for task, _ in self._revisions.values():
            task.cancel()
        await self._store.close()

    async def find_key(self, kind: type[Message], model: str, data: bytes) -> Key | None:
        """Return the key of a request; None if its reply must not be kept.

        kind: the type of the request. Raises InvalidRequest for bytes that do not parse.
        """
        if not any(fnmatchcase(model, pattern) for pattern in self._config.models):
            return None
        if len(data) <= SMALL:
            key = self._read(kind, data)
        else:
            key = await asyncio.to_thread(self._read, kind, data)
        if key is None or self.mode != "cache":
            return key
        if (revision := await self._find_revision(model)) is None:
            return None
        return Key(key.digest, revision)

    def _read(self, kind: type[Message], data: bytes) -> Key | None:
        if len(data) > SMALL:
            scan(kind.DESCRIPTOR, data)
            request: Any = parse_scanned(kind, data)
        else:
            request = parse(kind, data)
        if self.mode == "cache" and not (
            isinstance(request, generate_pb2.GenerateRequest) and may_keep(request)
        ):
            return None
        session = getattr(request, "session", "")
        return Key(digest(request), session)

    async def _ask(self, model: str) -> str | None:
        return await self._ask_revision(model)

    async def _find_revision(self, model: str) -> str | None:
        known = self._revisions.get(model)
        if known is None or known[1] < time.monotonic():
            if len(self._revisions) >= _MAX_REVISIONS:
                self._revisions.clear()
            loop = asyncio.get_running_loop()
            task: asyncio.Task[str | None] = loop.create_task(self._ask(model))
            known = self._revisions[model] = task, time.monotonic() + _REVISION_SECONDS
        revision = await asyncio.shield(known[0])
        if revision is None:
            self._revisions.pop(model, None)
        return revision

    async def answer(self, request: Message, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the answer to a question about models: of the recording, or of `ask`.

        A cache does not answer such questions. Raises NotRecorded in a replay.
        """
        if self.mode == "cache":
            return await ask()
        key = Key(digest(request), "")
        if self.mode == "replay":
            return unpack(await self._replay(key))[0]
        found = await ask()
        await self._store.put(key.digest, key.scope, pack(found))  # the newest answer
        return found

    async def get(self, key: Key) -> bytes | None:
        """Return the kept reply to a request; None if the call must be forwarded.

        While an equal call runs, wait for its reply. Raises NotRecorded in a replay.
        """
        if self.mode == "record":
            return None
        if self.mode == "replay":
            return await self._replay(key)
        entry = await self._look_up(key)
        running = self._running.get((key.digest, key.scope))
        if entry is None and running is not None:
            self.counts.joined += 1
            # None: it has failed, and this call goes its own way.
            entry = await asyncio.shield(running)
        if entry is None:
            self.counts.misses += 1
            meter.count_cached("miss")
        else:
            self.counts.hits += 1
            meter.count_cached("hit")
        return entry

    async def _look_up(self, key: Key) -> bytes | None:
        try:
            entry: bytes | None = await self._store.get(key.digest, key.scope)
        except Exception as error:
            self._note(error)
            return None
        return entry

    async def _replay(self, key: Key) -> bytes:
        place = (key.digest, key.scope)
        number = self._replayed[place]
        entry: bytes | None = await self._store.find(key.digest, key.scope, number)
        if entry is None:
            raise NotRecorded(
                "the router replays a recording, which has no reply to this request: record it, or "
                f"compare the request with the recorded one ({self._config.store})"
            )
        self._replayed[place] += 1
        self.counts.hits += 1
        meter.count_cached("hit")
        return entry

    async def keep(self, key: Key, entry: bytes) -> None:
        """Keep the reply to a request that was forwarded."""
        if len(entry) > self._config.max_reply_bytes and self.mode == "cache":
            return
        put = self._store.append if self.mode == "record" else self._store.put
        try:
            await put(key.digest, key.scope, entry)
            self.counts.kept += 1
        except Exception as error:
            self._note(error)

    def run(self, key: Key) -> Running:
        """Note that the call to a request is forwarded, so that equal ones wait for it."""
        return Running(self._running, (key.digest, key.scope))

    def _note(self, error: Exception) -> None:
        """A store that does not work fails no call, unless it records."""
        if self.mode == "record":
            raise error
        self.counts.errors += 1
        meter.count_cached("error")
        log.warning("the cache does not work", type=type(error).__name__, reason=str(error)[:200])


class Running:
    """A block around a forwarded call. Its reply, or None at its end, goes to those that wait."""

    __slots__ = ("_calls", "_future", "_place")

    def __init__(
        self,
        calls: dict[tuple[bytes, str], asyncio.Future[bytes | None]],
        place: tuple[bytes, str],
    ) -> None:
        self._calls, self._place = calls, place
        self._future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Running:
        self._calls.setdefault(self._place, self._future)
        return self

    def answer(self, entry: bytes) -> None:
        """Give the reply to those that wait."""
        if not self._future.done():
            self._future.set_result(entry)

    def __exit__(self, *_: object) -> None:
        if self._calls.get(self._place) is self._future:
            del self._calls[self._place]
        if not self._future.done():
            self._future.set_result(None)

"""Answers calls with kept replies: an exact cache, or a recording and its replay.

The three modes are one mechanism. `cache` answers equal requests again; `record` forwards every
call and keeps its reply; `replay` is a cache of such a recording, which never expires and refuses
what it does not have.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from google.protobuf.message import Message

from arena_llm.v1 import generate_pb2
from router.cache.entry import digest, may_keep, pack, unpack
from router.cache.lease import Lease
from router.cache.sqlite import SqliteStore
from router.cache.valkey import ValkeyStore
from router.config import CacheConfig
from services.common.errors import NotRecorded
from services.common.handlers import SMALL, parse, parse_scanned, scan
from services.common.log import log
from services.common.metrics import meter

#: Seconds for which a model's revision is known. A service that restarts may have another one.
_REVISION_SECONDS = 60.0
_MAX_REVISIONS = 4096
#: Seconds within which a call that holds this cache begins to use it.
_ABOUT_TO_BEGIN = 5.0

#: Seconds for which a process claims a request. It renews the claim while its call runs.
CLAIM_SECONDS = 5.0
#: Seconds between two looks at a request that another process has claimed: at first, and at most.
_FIRST_LOOK, _LAST_LOOK = 0.02, 0.25

#: How the store names a request: by its digest and its scope.
Place = tuple[bytes, str]

#: Returns the revision of a model, or None if its backend does not answer.
AskRevision = Callable[[str], Coroutine[Any, Any, str | None]]


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
        #: Names this process among those that share the store.
        self._owner = secrets.token_hex(8)
        self._leases: dict[Place, Lease] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._releasing: set[asyncio.Task[Any]] = set()
        #: Whether the store answered the last time it was asked.
        self._works = True
        self._replayed: Counter[Place] = Counter()
        self._calls = 0

    async def start(self) -> None:
        """Open the store. Raises ConfigError."""
        await self._store.open()
        if self.mode == "cache":
            self._renewing = asyncio.create_task(self._keep_claims())

    def __enter__(self) -> ReplyCache:
        """A block around a call that uses the cache."""
        self._calls += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._calls -= 1

    async def close_later(self) -> None:
        """Close after the calls that run, and after those that are about to begin."""
        try:
            await asyncio.sleep(_ABOUT_TO_BEGIN)
            while self._calls:  # noqa: ASYNC110 - seldom, so that no call pays for an event
                await asyncio.sleep(1.0)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the store."""
        for task, _ in self._revisions.values():
            task.cancel()
        if self._renewing is not None:
            self._renewing.cancel()
        await asyncio.gather(*self._releasing)
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

    async def _find_revision(self, model: str) -> str | None:
        known = self._revisions.get(model)
        if known is None or known[1] < time.monotonic():
            if len(self._revisions) >= _MAX_REVISIONS:
                self._revisions.clear()
            loop = asyncio.get_running_loop()
            task: asyncio.Task[str | None] = loop.create_task(self._ask_revision(model))
            known = self._revisions[model] = task, time.monotonic() + _REVISION_SECONDS
        revision = await asyncio.shield(known[0])
        if revision is None:
            self._revisions.pop(model, None)
        return revision

    async def answer(self, request: Message, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the answer to a question about models, from the recording or from `ask`.

        A cache does not answer such questions. Raises NotRecorded in a replay.
        """
        if self.mode == "cache":
            return await ask()
        key = Key(digest(request), "")
        with self:
            if self.mode == "replay":
                return unpack(await self._replay(key))[0]
            found = await ask()
            await self._store.put(key.digest, key.scope, pack(found))  # the newest answer
            return found

    async def get(self, key: Key) -> bytes | Lease:
        """Return the kept reply to a request, or a lease: then the call must be forwarded.

        While an equal call runs, wait for its reply. Raises NotRecorded in a replay.
        """
        if self.mode == "record":
            return Lease()
        if self.mode == "replay":
            return await self._replay(key)
        place = key.digest, key.scope
        found: bytes | Lease | None = await self._try(self._store.get(*place))
        works = self._works
        while found is None and (lease := self._leases.get(place)) is not None:
            self.counts.joined += 1
            found = await asyncio.shield(lease.reply)
            if lease.failed:
                found = Lease()
        if found is None:
            found = await self._lead(place, works)
        if isinstance(found, Lease):
            self.counts.misses += 1
            meter.count_cached("miss")
        else:
            self.counts.hits += 1
            meter.count_cached("hit")
        return found

    async def _lead(self, place: Place, works: bool) -> bytes | Lease:
        """Claim a request among all processes that share the store. works: whether the store works.

        If another process has claimed it, wait for that process's reply. A process that has ended
        does not renew its claims, so they expire.
        """
        lease = self._leases[place] = Lease(lambda: self._end_lease(place, works))
        entry: bytes | None = None
        try:
            if works:
                entry = await self._wait_for_claim(place)
        except BaseException:
            lease.__exit__()
            raise
        if entry is None:
            return lease
        lease.answer(entry)
        lease.__exit__()
        return entry

    async def _wait_for_claim(self, place: Place) -> bytes | None:
        """Claim a request, or return the reply if another process answers it first."""
        pause = _FIRST_LOOK
        while await self._try(self._store.claim(*place, self._owner, CLAIM_SECONDS)) is False:
            entry: bytes | None = await self._try(self._store.get(*place))
            if entry is not None:
                return entry
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LAST_LOOK)
        # It may have been answered just before it was claimed.
        return await self._try(self._store.get(*place)) if self._works else None

    def _end_lease(self, place: Place, works: bool) -> None:
        del self._leases[place]
        if works:
            task = asyncio.create_task(self._try(self._store.release(*place, self._owner)))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    async def _keep_claims(self) -> None:
        """Renew the claims of calls that take long."""
        while True:
            await asyncio.sleep(CLAIM_SECONDS / 3)
            for place in list(self._leases):
                await self._try(self._store.renew(*place, self._owner, CLAIM_SECONDS))

    async def _try(self, answer: Awaitable[Any]) -> Any:
        """Return what the store answers; None if it does not work."""
        try:
            found = await answer
        except Exception as error:
            self._works = False
            self._note(error)
            return None
        self._works = True
        return found

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

    def _note(self, error: Exception) -> None:
        """Log an error of the store. In the mode record it is raised; otherwise no call fails."""
        if self.mode == "record":
            raise error
        self.counts.errors += 1
        meter.count_cached("error")
        log.warning("the cache does not work", type=type(error).__name__, reason=str(error)[:200])

"""Replies in a SQLite file, which one thread reads and writes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from router.config import CacheConfig
from services.common.config import ConfigError

T = TypeVar("T")

#: "ALLM" marks the file as ours.
_APPLICATION = 0x414C4C4D
_VERSION = 1
#: Seconds between two updates of the time when a reply was last used.
_USED_STEP = 60.0
#: The share of max_bytes to which a full file is reduced.
_REDUCED = 0.9

_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
    # scope: in a cache the model's revision, in a recording the session. number: counts equal
    # requests of a recording. reply: see entry.pack. created, used: seconds since 1970.
    """CREATE TABLE replies (
        digest BLOB NOT NULL, scope TEXT NOT NULL, number INTEGER NOT NULL, reply BLOB NOT NULL,
        bytes INTEGER NOT NULL, created REAL NOT NULL, used REAL NOT NULL,
        UNIQUE (digest, scope, number)
    )""",
    "CREATE INDEX by_use ON replies (used)",
    # The bytes of all replies, so that no process has to add them up.
    "CREATE TABLE total (bytes INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0)",
    """CREATE TRIGGER added AFTER INSERT ON replies
        BEGIN UPDATE total SET bytes = bytes + new.bytes; END""",
    """CREATE TRIGGER dropped AFTER DELETE ON replies
        BEGIN UPDATE total SET bytes = bytes - old.bytes; END""",
)
#: Requests that a process is forwarding now. Not in _SCHEMA, because older files lack it.
_CLAIMS = """CREATE TABLE IF NOT EXISTS claims (
    digest BLOB NOT NULL, scope TEXT NOT NULL, owner TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (digest, scope)
) WITHOUT ROWID"""
_CLAIM = """INSERT INTO claims VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET owner = excluded.owner, until = excluded.until WHERE claims.until < ?"""
_OURS = "digest = ? AND scope = ? AND owner = ?"


class SqliteStore:
    """Replies in one file, which several processes of this machine may use.

    clock: seconds since 1970.
    """

    def __init__(self, config: CacheConfig, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._path = Path(config.store)
        self._is_recording = config.mode != "cache"
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "replies")
        self._connection: sqlite3.Connection

    async def open(self) -> None:
        """Open or make the file. Raises ConfigError."""
        await self._run(self._open)

    async def close(self) -> None:
        """Close the file."""
        await self._run(lambda: self._connection.close())
        self._thread.shutdown()

    async def get(self, digest: bytes, scope: str) -> bytes | None:
        """Return the kept reply of a model's revision; None if there is none, or it is too old."""
        return await self._run(lambda: self._get(digest, scope))

    async def put(self, digest: bytes, scope: str, reply: bytes) -> None:
        """Keep the reply of a model's revision."""
        await self._run(lambda: self._put(digest, scope, 0, reply))

    async def claim(self, digest: bytes, scope: str, owner: str, seconds: float) -> bool:
        """Claim a request for a process, and return whether no other one has claimed it."""
        return await self._run(lambda: self._claim(digest, scope, owner, seconds))

    async def renew(self, digest: bytes, scope: str, owner: str, seconds: float) -> None:
        """Keep a claim for `seconds` from now, if the process still has it."""
        until = self._clock() + seconds
        change = f"UPDATE claims SET until = ? WHERE {_OURS}"  # noqa: S608 - a constant
        await self._run(lambda: self._connection.execute(change, (until, digest, scope, owner)))

    async def release(self, digest: bytes, scope: str, owner: str) -> None:
        """Give up a claim, if the process still has it."""
        change = f"DELETE FROM claims WHERE {_OURS}"  # noqa: S608 - a constant
        await self._run(lambda: self._connection.execute(change, (digest, scope, owner)))

    def _claim(self, digest: bytes, scope: str, owner: str, seconds: float) -> bool:
        now = self._clock()
        row = (digest, scope, owner, now + seconds, now)
        return self._connection.execute(_CLAIM, row).rowcount > 0

    async def append(self, digest: bytes, session: str, reply: bytes) -> None:
        """Add a reply to a recording, after those to equal requests of the session."""
        await self._run(lambda: self._append(digest, session, reply))

    async def find(self, digest: bytes, session: str, number: int) -> bytes | None:
        """Return a recorded reply; None if there is none.

        number: counts the session's equal requests from 0. After the last recorded reply the first
        one is returned again. A session that was not recorded gets the replies of all sessions.
        """
        return await self._run(lambda: self._find(digest, session, number))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _open(self) -> None:
        must_exist = self._config.mode == "replay"
        try:
            if not must_exist:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # It holds prompts and replies: only this user may read it.
                os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            uri = f"{self._path.absolute().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
            try:
                self._prepare(must_exist)
            except sqlite3.Error:
                self._connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            self._thread.shutdown(wait=False)
            raise ConfigError(f"cache.store: {self._path} cannot be opened: {error}") from error

    def _prepare(self, must_exist: bool) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        application, version = (
            run(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and not must_exist:
            for statement in _SCHEMA:
                run(statement)
        elif (application, version) != (_APPLICATION, _VERSION):
            raise sqlite3.DatabaseError("it is not a file of replies of this release")
        if not self._is_recording:
            run(_CLAIMS)
        run("COMMIT")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")

    def _get(self, digest: bytes, scope: str) -> bytes | None:
        row = self._connection.execute(
            "SELECT rowid, reply, created, used FROM replies WHERE digest = ? AND scope = ?",
            (digest, scope),
        ).fetchone()
        if row is None:
            return None
        place, reply, created, used = row
        now = self._clock()
        if now - created > self._config.max_age_seconds:
            self._connection.execute("DELETE FROM replies WHERE rowid = ?", (place,))
            return None
        if now - used > _USED_STEP:
            self._connection.execute("UPDATE replies SET used = ? WHERE rowid = ?", (now, place))
        return bytes(reply)

    def _put(self, digest: bytes, scope: str, number: int, reply: bytes) -> None:
        now = self._clock()
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            run(
                "DELETE FROM replies WHERE digest = ? AND scope = ? AND number = ?",
                (digest, scope, number),
            )
            run(
                "INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?)",
                (digest, scope, number, reply, len(reply), now, now),
            )
            if not self._is_recording:
                self._drop_old(now)
            run("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                run("ROLLBACK")
            raise

    def _drop_old(self, now: float) -> None:
        run = self._connection.execute
        (total,) = run("SELECT bytes FROM total").fetchone()
        if total <= self._config.max_bytes:
            return
        run("DELETE FROM replies WHERE created < ?", (now - self._config.max_age_seconds,))
        (total,) = run("SELECT bytes FROM total").fetchone()
        excess = total - _REDUCED * self._config.max_bytes
        for place, size in run("SELECT rowid, bytes FROM replies ORDER BY used, rowid").fetchall():
            if excess <= 0:
                return
            run("DELETE FROM replies WHERE rowid = ?", (place,))
            excess -= size

    def _append(self, digest: bytes, session: str, reply: bytes) -> None:
        (number,) = self._connection.execute(
            "SELECT coalesce(max(number) + 1, 0) FROM replies WHERE digest = ? AND scope = ?",
            (digest, session),
        ).fetchone()
        self._put(digest, session, number, reply)

    def _find(self, digest: bytes, session: str, number: int) -> bytes | None:
        for where, values in (
            ("digest = ? AND scope = ?", (digest, session)),
            ("digest = ?", (digest,)),
        ):
            (count,) = self._connection.execute(
                f"SELECT count(*) FROM replies WHERE {where}",  # noqa: S608 - a constant
                values,
            ).fetchone()
            if count:
                (reply,) = self._connection.execute(
                    f"SELECT reply FROM replies WHERE {where} ORDER BY rowid LIMIT 1 OFFSET ?",  # noqa: S608
                    (*values, number % count),
                ).fetchone()
                return bytes(reply)
        return None

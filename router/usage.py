"""The use of each token today: in memory, and in a file that all workers of the router share.

The file is SQLite, with a row for each day and token, so that a restart keeps the quotas and an
operator can read who has used what: `sqlite3 .run/usage.sqlite 'select * from usage'`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from services.common.log import log

_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
  day TEXT NOT NULL,      -- UTC, such as 2026-11-29
  token TEXT NOT NULL,    -- its name
  calls INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  picousd INTEGER NOT NULL, -- 10^-12 US dollars
  PRIMARY KEY (day, token)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  calls = calls + excluded.calls, tokens = tokens + excluded.tokens,
  picousd = picousd + excluded.picousd
"""
#: Seconds between two writes. Workers see each other's calls with this delay, and a killed router
#: loses the calls of this time.
_PAUSE = 1.0
_DAY = 86_400


@dataclass(slots=True)
class Amounts:
    """Calls, tokens and 10^-12 US dollars."""

    calls: int = 0
    tokens: int = 0
    picousd: int = 0


def seconds_to_midnight(now: float) -> float:
    """Seconds until the day ends, UTC. now: time.time()."""
    return _DAY - now % _DAY


class UsageBook:
    """The amounts of all tokens today.

    path: the file. If it cannot be written, that is logged once and the amounts stay in memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._day = 0  # since 1970
        self._midnight = 0.0  # when the day ends, by time.time()
        #: Amounts of all workers at the last exchange with the file.
        self._saved: Mapping[str, Amounts] = {}
        #: Amounts of this process since then: those being written, and later ones.
        self._writing: dict[str, Amounts] = {}
        self._new: dict[str, Amounts] = {}
        self._writer: asyncio.Task[None] | None = None
        self._failed = False

    async def start(self) -> None:
        """Read the file, and begin to write it once a second, unless it does so already."""
        if self._writer is not None:
            return
        await self.exchange()
        self._writer = asyncio.create_task(self._keep_writing())

    async def aclose(self) -> None:
        """Write what is new."""
        if self._writer is None:
            return
        self._writer.cancel()
        await self.exchange()

    def today(self, token: str) -> Amounts:
        """Return what a token has used today."""
        if time.time() >= self._midnight:
            self._begin_day()
        total = Amounts()
        for part in (self._saved, self._writing, self._new):
            if (amounts := part.get(token)) is not None:
                total.calls += amounts.calls
                total.tokens += amounts.tokens
                total.picousd += amounts.picousd
        return total

    def add(self, token: str, calls: int, tokens: int, picousd: int) -> None:
        """Add what a token has used."""
        if time.time() >= self._midnight:
            self._begin_day()
        amounts = self._new.get(token)
        if amounts is None:
            amounts = self._new[token] = Amounts()
        amounts.calls += calls
        amounts.tokens += tokens
        amounts.picousd += picousd

    def _begin_day(self) -> None:
        now = time.time()
        self._midnight = now + seconds_to_midnight(now)
        if (day := int(now // _DAY)) != self._day:
            self._day, self._saved, self._writing, self._new = day, {}, {}, {}

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE)
            await self.exchange()

    async def exchange(self) -> None:
        """Add what is new to the file, and read what all workers have used."""
        self._begin_day()
        day, new = self._day, self._new
        self._writing, self._new = new, {}
        try:
            saved = await asyncio.to_thread(self._write_and_read, day, new)
        except (OSError, sqlite3.Error) as error:
            self._writing = {}
            for token, amounts in new.items():
                self.add(token, amounts.calls, amounts.tokens, amounts.picousd)
            if not self._failed:
                log.error("usage is not written", path=self._path, error=str(error))
            self._failed = True
            return
        self._failed = False
        if day == self._day:
            self._saved, self._writing = saved, {}

    def _write_and_read(self, number: int, new: Mapping[str, Amounts]) -> Mapping[str, Amounts]:
        day = time.strftime("%Y-%m-%d", time.gmtime(number * _DAY))
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with closing(sqlite3.connect(self._path, timeout=5)) as database, database:
            database.execute("PRAGMA synchronous = OFF")  # a power cut may lose a second
            database.execute(_SCHEMA)
            rows = [(day, name, a.calls, a.tokens, a.picousd) for name, a in new.items()]
            database.executemany(_ADD, rows)
            found = database.execute(
                "SELECT token, calls, tokens, picousd FROM usage WHERE day = ?", (day,)
            )
            return {name: Amounts(*amounts) for name, *amounts in found}

"""The requests to providers that cost money, on disk, so that a killed service does not lose them.

A line is written before a request is sent, and another at its end, with its cost, or without one if
the cost is unknown. If the service is killed, its next process reads the lines. The next call with
the same request_id then reports these requests beside its own. The lines have ids, the model and
the cost: no prompt, no reply and no key.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from arena_llm.types import Attempt
from services.common.log import log

#: The header that names a request to its provider.
REQUEST_ID = "X-Client-Request-Id"

#: Bytes of one file. A process has two: the present one and the one before it.
_MAX_BYTES = 2 * 2**20
#: Calls whose requests are remembered until a caller retries.
_MAX_CALLS = 5_000
#: Processes of one service, each with its own files.
_MAX_PROCESSES = 64

_DETAIL = "of an earlier call with this request_id, whose answer was lost"


class Journal:
    """The requests of one service process.

    folder: None: nothing is written, and the end of the process loses everything. name: of the
    service. A disk that fails is logged once, and then nothing more is written.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self._lost: OrderedDict[str, dict[str, Attempt]] = OrderedDict()
        self._process, self._count = secrets.token_hex(4), 0
        self.open: set[Entry] = set()  # sent, and not ended
        self._file: int | None = None
        self._size = 0
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path, self._lock = _claim(folder, name)
            self._old = self._path.with_suffix(".old")
            for path in (self._old, self._path):
                self._load(path)
            self._drop_known()
            self._open()
        except OSError as error:
            self._give_up(error)

    @property
    def writes(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def next_id(self) -> str:
        """An id that no other request has, of this process or another one."""
        self._count += 1
        return f"{self._process}{self._count:x}"

    def write(self, record: dict[str, Any]) -> None:
        """Append a line. It survives the end of the process."""
        if self._file is None:
            return
        line = to_json(record) + b"\n"
        try:
            os.write(self._file, line)
            self._size += len(line)
            if self._size > _MAX_BYTES:
                self._turn()
        except OSError as error:
            self._give_up(error)

    def keep(self, request_id: str, attempts: dict[str, Attempt]) -> None:
        """Remember the requests of a call that ended without an answer to its caller."""
        self._lost.setdefault(request_id, {}).update(attempts)
        self._lost.move_to_end(request_id)
        while len(self._lost) > _MAX_CALLS:
            self._lost.popitem(last=False)

    def keep_attempts(self, request_id: str, attempts: Iterable[Attempt]) -> None:
        """Remember the attempts of an error, or of a reply, that reached no caller."""
        lost = {
            self.next_id(): make_lost(attempt.provider, attempt.upstream_id, attempt.cost_picousd)
            for attempt in attempts
            if attempt.cost_picousd != 0
        }
        if lost:
            self.keep(request_id, lost)
            # In place of the lines that the call itself has written.
            self.write({"reported": True, "request_id": request_id})
            self._write_kept(request_id, self._lost[request_id])

    def take(self, request_id: str) -> dict[str, Attempt]:
        """Return, by id, the requests of earlier calls with this request_id, and forget them."""
        return self._lost.pop(request_id, {})

    def close(self) -> None:
        """Close the file. What it holds is read at the next start."""
        if self._file is not None:
            os.close(self._file)
            os.close(self._lock)
            self._file = None

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._file).st_size

    def _turn(self) -> None:
        """Begin a new file. What is still remembered is written into it again."""
        assert self._file is not None  # noqa: S101 - something was written
        os.close(self._file)
        self._file = None
        self._path.replace(self._old)
        self._open()
        for entry in self.open:
            self.write(entry.describe())
        for request_id, attempts in self._lost.items():
            self._write_kept(request_id, attempts)

    def _write_kept(self, request_id: str, attempts: Mapping[str, Attempt]) -> None:
        for number, attempt in attempts.items():
            self.write({"sent": number, "request_id": request_id})
            self.write(_describe_end(number, request_id, attempt))

    def _load(self, path: Path) -> None:
        """Remember the requests in a file that no caller knows of."""
        for record in _read(path):
            request_id, number = record.get("request_id"), record.get("sent") or record.get("ended")
            if not isinstance(request_id, str):
                continue
            if "reported" in record:
                self._lost.pop(request_id, None)
            elif isinstance(number, str):
                before = self._lost.get(request_id, {}).get(number, Attempt())
                cost = record.get("cost_picousd")
                attempt = make_lost(
                    record.get("provider") or before.provider,
                    record.get("id") or before.upstream_id,
                    before.cost_picousd if cost is None else cost,
                )
                self._lost.setdefault(request_id, {})[number] = attempt
                self._lost.move_to_end(request_id)
                if cost == 0:
                    self._lost[request_id].pop(number)

    def _drop_known(self) -> None:
        """Drop the oldest calls: first those whose costs are known, because they had answers."""
        excess = len(self._lost) - _MAX_CALLS
        known = (
            request_id
            for request_id, attempts in self._lost.items()
            if all(attempt.cost_picousd is not None for attempt in attempts.values())
        )
        for request_id in list(islice(known, max(0, excess))):
            del self._lost[request_id]
        while len(self._lost) > _MAX_CALLS:
            self._lost.popitem(last=False)

    def _give_up(self, error: OSError) -> None:
        self._file = None
        log.error(
            "the journal of paid requests cannot be written: a kill may lose costs",
            error=error.strerror or str(error),
        )


class Bill:
    """The requests to providers of one call, until `report` or `close`."""

    def __init__(self, journal: Journal, request_id: str, model: str) -> None:
        self.journal = journal
        self.request_id = request_id
        self.model = model
        self._earlier = journal.take(request_id)
        self._entries: list[Entry] = []

    @property
    def earlier(self) -> tuple[Attempt, ...]:
        """The requests of earlier calls with the same request_id, whose answers were lost."""
        return tuple(self._earlier.values())

    def update_earlier(self, attempts: tuple[Attempt, ...]) -> None:
        """Replace the earlier requests, because more is known of them."""
        self._earlier = dict(zip(self._earlier, attempts, strict=True))

    def begin(self) -> Entry:
        """Begin the next request."""
        entry = Entry(self)
        self._entries.append(entry)
        return entry

    def report(self) -> None:
        """An error tells the caller about all requests, so they need not be remembered."""
        if self._earlier or any(entry.sent for entry in self._entries):
            self.journal.write({"reported": True, "request_id": self.request_id})
        self.journal.open.difference_update(self._entries)
        self._earlier, self._entries = {}, []

    def close(self, answered: bool) -> None:
        """The call has ended.

        answered: its reply has all requests, and is kept for the next call with this request_id.
        """
        self.journal.open.difference_update(self._entries)
        if answered:
            return
        open_ones = {
            entry.number: make_lost(entry.provider, entry.upstream_id, entry.cost_picousd)
            for entry in self._entries
            if entry.sent and entry.cost_picousd != 0
        }
        if lost := self._earlier | open_ones:
            self.journal.keep(self.request_id, lost)


class Entry:
    """One request to a provider.

    sent: whether it may have reached the provider. cost_picousd: None if it is not known.
    """

    __slots__ = ("_bill", "cost_picousd", "number", "provider", "sent", "upstream_id")

    def __init__(self, bill: Bill) -> None:
        self._bill = bill
        self.number = bill.journal.next_id()
        self.sent = False
        self.provider = self.upstream_id = ""
        self.cost_picousd: int | None = None

    @property
    def header(self) -> str:
        """The value of X-Client-Request-Id, by which a provider's log can be searched.

        It begins with the request_id. https://platform.openai.com/docs/api-reference/debugging-requests
        """
        return f"{self._bill.request_id}-{self.number}"

    def send(self) -> None:
        """Note that the request is sent now."""
        if not self.sent:
            self.sent = True
            journal = self._bill.journal
            journal.open.add(self)
            if journal.writes:
                journal.write(self.describe())

    def name(self, upstream_id: str | None) -> None:
        """Note the provider's id, which comes before the answer."""
        if upstream_id and upstream_id != self.upstream_id:
            self.upstream_id = upstream_id
            self._bill.journal.write(self.describe())

    def describe(self) -> dict[str, Any]:
        """The line of a request that has been sent."""
        record: dict[str, Any] = {
            "sent": self.number,
            "request_id": self._bill.request_id,
            "model": self._bill.model,
            "time": int(time.time()),
        }
        return record | ({"id": self.upstream_id} if self.upstream_id else {})

    def unsend(self) -> None:
        """Note that no connection could be made, so that the request was not sent."""
        if self.sent:
            self.end("", "", 0)
            self.sent = False

    def end(self, provider: str, upstream_id: str, cost_picousd: int | None) -> None:
        """Note what the request cost; None: the provider may have billed something."""
        if not self.sent:
            return
        self.provider, self.cost_picousd = provider, cost_picousd
        self.upstream_id = upstream_id or self.upstream_id
        bill = self._bill
        bill.journal.open.discard(self)
        if bill.journal.writes:
            record = _describe_end(self.number, bill.request_id, self)
            bill.journal.write(record)


def make_lost(provider: str, upstream_id: str, cost_picousd: int | None) -> Attempt:
    """The attempt of a call whose answer did not reach its caller."""
    return Attempt(
        provider, upstream_id, reason="INTERRUPTED", cost_picousd=cost_picousd, detail=_DETAIL
    )


def _describe_end(number: str, request_id: str, attempt: Attempt | Entry) -> dict[str, Any]:
    """The line for the end of a request."""
    record: dict[str, Any] = {"ended": number, "request_id": request_id}
    if attempt.cost_picousd is not None:
        record["cost_picousd"] = attempt.cost_picousd
    if attempt.upstream_id:
        record["id"] = attempt.upstream_id
    if attempt.provider:
        record["provider"] = attempt.provider
    return record


def _claim(folder: Path, name: str) -> tuple[Path, int]:
    """Return the first file that no other process uses, and the lock on it."""
    for number in range(_MAX_PROCESSES):
        path = folder / f"{name}-{number}.jsonl"
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return path, lock
    raise OSError(None, f"{_MAX_PROCESSES} processes already use {folder}")


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file. A line that a kill left unfinished is skipped."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data.splitlines():
        try:
            record = from_json(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record

"""A record of every request and reply (--record), and a run from it alone (--replay).

JSON lines: {"key": [episode, ply, seat, attempt], "request": ..., "reply": ...}, or
"error" in place of "reply". Of lines with the same key the last one counts: the others
are of earlier runs, and failed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from difflib import unified_diff
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from arena.calls import ModelCall, ModelReply
from arena.results.codec import canonical, reply_to_json, request_to_json
from arena.results.rows import CallKey
from arena_llm import ArenaError
from arena_llm.errors import BY_CODE, UnknownError


class RecordError(Exception):
    """A record that cannot be used, or that lacks what is asked: names it and shows why."""


class _Failure(BaseModel):
    """The fields of an ArenaError."""

    message: str
    code: str
    reason: str
    retry_after: float | None
    model: str
    field: str
    metadata: dict[str, str]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    key: tuple[str, int, int, int]
    request: dict[str, Any]
    reply: ModelReply | None = None
    error: _Failure | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.reply is None) == (self.error is None):
            raise ValueError("must have a reply or an error, and not both")
        return self


class Recorder:
    """Appends to a record; a file that is there is gone on with."""

    def __init__(self, path: Path) -> None:
        """Raises RecordError: the file is no record, is another run's, or cannot be written."""
        self._path = path
        with ExitStack() as undo:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_fifo():  # it would be read without end
                    raise RecordError(f"{path}: is a pipe, and must be a file")
                # Unbuffered: a line is with the system, whole, before its reply is used.
                self._file = undo.enter_context(path.open("ab+", buffering=0))
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Read first: of a file that is no record, nothing is cut.
                lines = _lines(path, unfinished=True)
                self._answered = {CallKey(*line.key) for line in lines if line.reply}
                self._cut_short()
            except BlockingIOError as error:
                raise RecordError(f"{path}: another run is writing to it") from error
            except OSError as error:
                raise RecordError(f"{path}: cannot be written: {error.strerror}") from error
            undo.pop_all()

    def _cut_short(self) -> None:
        """Take away a last line that a killed process left unfinished."""
        end = self._file.seek(0, os.SEEK_END)
        while end and self._last_byte(end) != b"\n":
            end -= 1
        self._file.truncate(end)

    def _last_byte(self, end: int) -> bytes:
        self._file.seek(end - 1)
        return self._file.read(1)

    def check(self, keys: Iterable[CallKey], results: str) -> None:
        """Raises RecordError where one of the calls has no reply here."""
        for key in keys:
            if key not in self._answered:
                raise RecordError(
                    f"{self._path}: has no reply for {shown(key)}, which {results} holds: "
                    "a record must be there from an experiment's first run on"
                )

    def reply(self, key: CallKey, request: str, reply: ModelReply) -> None:
        if key not in self._answered:
            self._write(key, request, f'"reply":{reply_to_json(reply)}')
            self._answered.add(key)

    def error(self, key: CallKey, request: str, error: ArenaError) -> None:
        fields = {name: getattr(error, name) for name in _Failure.model_fields}
        self._write(key, request, f'"error":{canonical(fields)}')

    def _write(self, key: CallKey, request: str, outcome: str) -> None:
        place = canonical([key.episode, key.ply, key.seat, key.attempt])
        line = f'{{"key":{place},"request":{request},{outcome}}}\n'.encode()
        try:
            if self._file.write(line) != len(line):
                raise RecordError(f"{self._path}: cannot be written: the disk is full")
        except OSError as error:
            raise RecordError(f"{self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Replay:
    """Answers from a record, in place of the models."""

    def __init__(self, path: Path) -> None:
        """Raises RecordError: file, line and reason."""
        self._path = path
        self._known = {CallKey(*line.key): line for line in _lines(path)}

    async def __call__(self, key: CallKey, call: ModelCall) -> ModelReply:
        """The recorded reply. Raises the recorded error; RecordError where there is none."""
        asked = request_to_json(call)
        line = self._known.get(key)
        if line is None or canonical(line.request) != asked:
            raise RecordError(f"{self._path}: {self._missing(key, asked)}")
        if line.error is not None:
            options = line.error.model_dump()
            kind = BY_CODE.get(line.error.code, UnknownError)
            raise kind(options.pop("message"), **options)
        return line.reply  # type: ignore[return-value]  # a line has one of the two

    def _missing(self, key: CallKey, asked: str) -> str:
        """Why there is no reply: the nearest request that is there, and what differs."""
        place = f"{shown(key)} was not recorded"
        if key in self._known:
            return f"{place} like that:\n{difference(self._known[key].request, asked)}"
        of_episode = [other for other in self._known if other.episode == key.episode]
        if not of_episode:
            return f"{place}, nor any other of its episode"
        last = max(of_episode, key=lambda other: (other.ply, other.seat, other.attempt))
        found = difference(self._known[last].request, asked)
        return f"{place}. The episode's last one is {shown(last)}, which differs:\n{found}"


def shown(key: CallKey) -> str:
    """A call in words."""
    return f"the call of {key.episode}, ply {key.ply}, seat {key.seat}, attempt {key.attempt}"


def difference(recorded: Any, asked: str) -> str:
    """What differs between two requests, as JSON has them, line by line."""
    before, after = (
        # Prompts line by line as well: they are where the difference will be.
        json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
        .replace("\\n", "\n")
        .splitlines()
        for value in (recorded, json.loads(asked))
    )
    return "\n".join(unified_diff(before, after, "recorded", "asked", n=1, lineterm=""))


def _lines(path: Path, *, unfinished: bool = False) -> Iterator[_Line]:
    """unfinished: whether a last line that was cut short is left out."""
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    if unfinished:
                        return
                    raise RecordError(f"{path}:{number}: is cut short")
                try:
                    yield _Line.model_validate_json(text)
                except ValidationError as error:
                    first = error.errors()[0]
                    where = ".".join(map(str, first["loc"]))
                    reason = f"{where}: {first['msg']}" if where else first["msg"]
                    raise RecordError(f"{path}:{number}: {reason}") from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error

"""A recording of every request and reply (--record), and runs from it alone (--replay).

JSON lines: {"key": [episode, ply, seat, attempt], "name": ..., "run": ..., "request": ...,
"reply": ...}, or "error" in place of "reply". The episode is its key (see results/keys.py), and
"name" is its name for people. If several lines have the same key, the last one counts: the others
come from earlier runs in which the call failed. "run" is the run_id of the results file.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from arena.agents.calls import ModelCall, ModelReply
from arena.results.rows import (
    CallKey,
    canonical_json,
    convert_old_reply,
    reply_to_json,
    request_to_json,
)
from arena_llm import ArenaError
from arena_llm.errors import BY_CODE, UnknownError
from arena_llm.suggestions import strip_label
from arena_llm.types import CallReport


class RecordingError(Exception):
    """A recording cannot be used, or lacks a call. The message names the file and the reason."""


class _Failure(BaseModel):
    """The fields of an ArenaError."""

    message: str
    code: str
    reason: str
    retry_after: float | None
    model: str
    field: str
    metadata: dict[str, str]
    report: CallReport | None = None

    @classmethod
    def of(cls, error: ArenaError) -> _Failure:
        return cls(**{name: getattr(error, name) for name in cls.model_fields})

    def to_error(self) -> ArenaError:
        options = self.model_dump(exclude={"report"})
        kind = BY_CODE.get(self.code, UnknownError)
        error = kind(options.pop("message"), **options)
        if self.report is not None:
            error.report = self.report
        return error


class RecordedLine(BaseModel):
    """A line: a request, and its reply or error."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: tuple[str, int, int, int]
    name: str = ""
    run: str = ""
    request: dict[str, Any]
    reply: ModelReply | None = None
    error: _Failure | None = None

    @model_validator(mode="after")
    def _check_outcome(self) -> Self:
        if (self.reply is None) == (self.error is None):
            raise ValueError("must have either a reply or an error")
        return self


class Recorder:
    """Appends to a recording; an existing file is continued."""

    def __init__(self, path: Path, names: Mapping[str, str] | None = None) -> None:
        """names: of the episodes, by key; for people, and to explain differences.

        Raises RecordingError: the file is not a recording, is in use, or cannot be written."""
        self._path = path
        self._names = names or {}
        with ExitStack() as undo:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_fifo():  # reading it would never end
                    raise RecordingError(f"{path}: must be a file, not a pipe")
                # Unbuffered: the system has the whole line before its reply is used.
                self._file = undo.enter_context(path.open("ab+", buffering=0))
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Read the file before cutting it, so that only recordings are cut.
                lines = _read_lines(path, unfinished=True)
                self._answered = {CallKey(*line.key) for line in lines if line.reply}
                self._cut_unfinished_line()
            except BlockingIOError as error:
                raise RecordingError(f"{path}: another run is writing to it") from error
            except OSError as error:
                raise RecordingError(f"{path}: cannot be written: {error.strerror}") from error
            undo.pop_all()

    def _cut_unfinished_line(self) -> None:
        """Remove a last line that a killed process left unfinished."""
        end = self._file.seek(0, os.SEEK_END)
        while end and self._read_byte_before(end) != b"\n":
            end -= 1
        self._file.truncate(end)

    def _read_byte_before(self, end: int) -> bytes:
        self._file.seek(end - 1)
        return self._file.read(1)

    def check(self, keys: Iterable[CallKey], results: str) -> None:
        """Raise RecordingError if one of these calls has no reply in the recording."""
        for key in keys:
            if key not in self._answered:
                raise RecordingError(
                    f"{self._path}: has no reply for {describe_call(key)}, but {results} has "
                    "one: an experiment must be recorded from its first run on"
                )

    def reply(self, key: CallKey, run_id: str, request: str, reply: ModelReply) -> None:
        if key not in self._answered:
            self._write(key, run_id, request, f'"reply":{reply_to_json(reply)}')
            self._answered.add(key)

    def error(self, key: CallKey, run_id: str, request: str, error: ArenaError) -> None:
        fields = _Failure.of(error).model_dump(mode="json", exclude_defaults=True)
        self._write(key, run_id, request, f'"error":{canonical_json(fields)}')

    def _write(self, key: CallKey, run_id: str, request: str, outcome: str) -> None:
        place = canonical_json([key.episode, key.ply, key.seat, key.attempt])
        name = json.dumps(self._names.get(key.episode, ""))
        head = f'"key":{place},"name":{name},"run":"{run_id}"'
        line = f'{{{head},"request":{request},{outcome}}}\n'.encode()
        try:
            if self._file.write(line) != len(line):
                raise RecordingError(f"{self._path}: cannot be written: the disk is full")
        except OSError as error:
            raise RecordingError(f"{self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RecordedModels:
    """Answers calls from a recording, in place of the models.

    run_id: of the last recorded run, so that the replayed results are equal.
    """

    def __init__(self, path: Path, names: Mapping[str, str] | None = None) -> None:
        """names: of episodes, by key. Recordings of earlier releases have only these.

        Raises RecordingError with file, line and reason.
        """
        self._path = path
        self._names = names or {}
        self._lines: dict[CallKey, RecordedLine] = {}
        self.run_id = ""
        for line in _read_lines(path):
            self._lines[CallKey(*line.key)] = line
            self.run_id = line.run

    async def __call__(self, key: CallKey, call: ModelCall, request_id: str = "") -> ModelReply:
        """The recorded reply. Raises the recorded error, or RecordingError if there is none."""
        request = request_to_json(call)
        named = self._name(key)
        line = self.find(key)
        if line is None or canonical_json(line.request) != request:
            raise RecordingError(f"{self._path}: {self._explain_missing(key, named, request)}")
        if line.error is not None:
            raise line.error.to_error()
        return line.reply  # type: ignore[return-value]  # a line has one of the two

    def find(self, key: CallKey) -> RecordedLine | None:
        """The recorded request and its outcome; None if there is none."""
        return self._lines.get(key) or self._lines.get(self._name(key))

    def _name(self, key: CallKey) -> CallKey:
        """The key with the episode's name, if it is known."""
        return replace(key, episode=self._names.get(key.episode, key.episode))

    def _find_named(self, named: CallKey) -> RecordedLine | None:
        """The line of a call with this name and another key: the experiment has changed."""
        lines = (
            line
            for key, line in self._lines.items()
            if line.name and replace(key, episode=line.name) == named
        )
        return next(lines, None)

    def _explain_missing(self, key: CallKey, named: CallKey, request: str) -> str:
        """Why a call has no reply: the most similar recorded request, and the difference.

        named: the key with the episode's name.
        """
        call = describe_call(named)
        if line := self.find(key) or self._find_named(named):
            difference = show_difference(line.request, request)
            return f"{call} was recorded with another request:\n{difference}"
        names = (key.episode, named.episode)
        calls = [
            other
            for other, line in self._lines.items()
            if other.episode in names or line.name == named.episode
        ]
        if not calls:
            return f"{call} was not recorded, and neither was any other call of its episode"
        last = max(calls, key=lambda other: (other.ply, other.seat, other.attempt))
        difference = show_difference(self._lines[last].request, request)
        other = describe_call(replace(last, episode=named.episode))
        return (
            f"{call} was not recorded. The last recorded call of this episode is {other}; the "
            f"difference to it:\n{difference}"
        )


def describe_call(key: CallKey) -> str:
    """A call in words."""
    return f"the call of {key.episode}, ply {key.ply}, seat {key.seat}, attempt {key.attempt}"


def show_difference(recorded: Any, request: str) -> str:
    """The difference between two requests in JSON, line by line."""
    before, after = (
        # Prompts are split into lines too: most differences are in them.
        json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
        .replace("\\n", "\n")
        .splitlines()
        for value in (recorded, json.loads(request))
    )
    return "\n".join(unified_diff(before, after, "recorded", "requested", n=1, lineterm=""))


def _read_lines(path: Path, *, unfinished: bool = False) -> Iterator[RecordedLine]:
    """unfinished: skip an incomplete last line instead of raising an error."""
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    if unfinished:
                        return
                    raise RecordingError(f"{path}:{number}: the last line is incomplete")
                try:
                    yield RecordedLine.model_validate_json(_convert_old_line(text))
                except ValidationError as error:
                    first = error.errors()[0]
                    where = ".".join(map(str, first["loc"]))
                    reason = strip_label(first["msg"])
                    reason = f"{where}: {reason}" if where else reason
                    raise RecordingError(f"{path}:{number}: {reason}") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error


def _convert_old_line(text: bytes) -> bytes:
    """Return a line as this release writes it. Release 0.1 wrote costs in dollars."""
    if b'"cost_usd":' not in text:
        return text
    try:
        line = json.loads(text)
        line["reply"] = convert_old_reply(line["reply"])
    except (ValueError, ArithmeticError, KeyError, TypeError, RecursionError):
        return text  # checking it will say what is wrong
    return canonical_json(line).encode()

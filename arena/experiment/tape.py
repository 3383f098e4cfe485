"""A record of every request and reply (--record), and a run from it alone (--replay).

JSON lines: {"key": [episode, ply, seat, attempt], "request": ..., "reply": ...}, or
"error" in place of "reply". Of lines with the same key the last one counts: the others
are of earlier runs, and failed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any, NamedTuple

from arena.calls import ModelCall, ModelReply
from arena.results.codec import canonical, reply_of, reply_to_json, request_to_json
from arena.results.rows import CallKey
from arena_llm import ArenaError
from arena_llm.errors import BY_CODE, UnknownError


class RecordError(Exception):
    """A record that cannot be used, or that lacks what is asked: names it and shows why."""


class _Line(NamedTuple):
    key: CallKey
    request: str
    outcome: ModelReply | ArenaError


class Recorder:
    """Appends to a record; a file that is there is gone on with."""

    def __init__(self, path: Path) -> None:
        """Raises RecordError: the file is no record, or cannot be written."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a line is with the system, whole, before its reply is used.
            self._file = path.open("ab+", buffering=0)
            # Read first: of a file that is no record, nothing is cut.
            lines = _lines(path, unfinished=True)
            self._answered = {line.key for line in lines if isinstance(line.outcome, ModelReply)}
            self._cut_short()
        except OSError as error:
            raise RecordError(f"{path}: cannot be written: {error.strerror}") from error

    def _cut_short(self) -> None:
        """Take away a last line that a killed process left unfinished."""
        end = self._file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            self._file.seek(start)
            newline = self._file.read(end - start).rfind(b"\n")
            end = start + newline + 1 if newline >= 0 else start
            if newline >= 0:
                break
        self._file.truncate(end)

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
        self._write(key, request, f'"error":{canonical(_error_to(error))}')

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
        self._known = {line.key: line for line in _lines(path)}

    async def __call__(self, key: CallKey, call: ModelCall) -> ModelReply:
        """The recorded reply. Raises the recorded error; RecordError where there is none."""
        request = request_to_json(call)
        line = self._known.get(key)
        if line is None or line.request != request:
            raise RecordError(self._missing(key, request, line))
        if isinstance(line.outcome, ArenaError):
            raise line.outcome
        return line.outcome

    def _missing(self, key: CallKey, request: str, line: _Line | None) -> str:
        if line is not None:
            return (
                f"{self._path}: {shown(key)} asks for something else than was recorded:\n"
                f"{difference(line.request, request)}"
            )
        found = f"{self._path}: has no {shown(key)}"
        before = [other for other in self._known if other.episode == key.episode]
        if not before:
            return f"{found}: nothing of this episode is recorded"
        last = max(before, key=lambda other: (other.ply, other.seat, other.attempt))
        return (
            f"{found}; the episode's last recorded call is {shown(last)}, which differs:\n"
            f"{difference(self._known[last].request, request)}"
        )


def shown(key: CallKey) -> str:
    """A call in words."""
    return (
        f"the call of episode {key.episode}, ply {key.ply}, seat {key.seat}, attempt {key.attempt}"
    )


def difference(recorded: str, asked: str) -> str:
    """What differs between two requests (JSON), line by line."""
    before, after = (
        json.dumps(json.loads(text), indent=1, ensure_ascii=False).replace("\\n", "\n").splitlines()
        for text in (recorded, asked)
    )
    return "\n".join(unified_diff(before, after, "recorded", "asked", n=1, lineterm=""))


def _lines(path: Path, *, unfinished: bool = False) -> Iterator[_Line]:
    """unfinished: whether a last line that was cut short is left out."""
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if unfinished and not text.endswith(b"\n"):
                    return
                try:
                    yield _line(text)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                    reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
                    raise RecordError(
                        f"{path}:{number}: is no line of a record: {reason}"
                    ) from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error


def _line(text: bytes) -> _Line:
    if not text.endswith(b"\n"):
        raise ValueError("it is cut short")
    values = json.loads(text)
    if not isinstance(values, dict):
        raise TypeError("it is no JSON object")
    episode, ply, seat, attempt = values["key"]
    outcome = reply_of(values["reply"]) if "reply" in values else _error_of(values["error"])
    return _Line(CallKey(episode, ply, seat, attempt), canonical(values["request"]), outcome)


_ERROR = ("message", "code", "reason", "retry_after", "model", "field", "metadata")


def _error_to(error: ArenaError) -> dict[str, Any]:
    return {name: getattr(error, name) for name in _ERROR}


def _error_of(values: dict[str, Any]) -> ArenaError:
    options = {name: values[name] for name in _ERROR}
    return BY_CODE.get(options["code"], UnknownError)(options.pop("message"), **options)

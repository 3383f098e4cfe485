"""Several streams that a caller sees as one, with one start and continuous sequence numbers."""

from __future__ import annotations

from typing import Any

from arena_llm.v1 import generate_pb2

Event = generate_pb2.StreamGenerateResponse

#: Events that are no part of an answer: after one of them, another backend may still answer.
_BEFORE_ANSWER = frozenset(("start", "progress"))


class JoinedStream:
    """Numbers the events of streams that follow each other. The first start is the only one."""

    def __init__(self) -> None:
        self._next = 0
        self._joined = False
        #: Whether a part of an answer has come.
        self.has_answer = False

    @property
    def has_begun(self) -> bool:
        """Whether an event was sent."""
        return self._next > 0

    def start(self, request_id: str) -> bytes:
        """Return a start of the router's own, without a model: who answers is not known yet."""
        return self.add(Event(start=generate_pb2.StreamStart(request_id=request_id)))

    def join(self) -> None:
        """Say that another stream follows."""
        self._joined = bool(self._next)

    def take(self, message: bytes) -> bytes | None:
        """Return the bytes of the next event; None if the caller must not get it.

        The events of the first stream keep their bytes, and are not read once its answer has begun.
        """
        if self._joined:
            event = self.read(message)
            return None if event is None else self.add(event)
        if not self.has_answer:
            self._note(Event.FromString(message))
        return message

    def read(self, message: bytes) -> Any:
        """Return the next event, for `add`; None if the caller must not get it."""
        event = Event.FromString(message)
        return None if self._next and event.HasField("start") else event

    def add(self, event: Any) -> bytes:
        """Return the bytes of an event, with its place in the whole stream."""
        event.sequence = self._next
        self._note(event)
        data: bytes = event.SerializeToString()
        return data

    def _note(self, event: Any) -> None:
        self._next += 1
        self.has_answer = self.has_answer or event.WhichOneof("event") not in _BEFORE_ANSWER

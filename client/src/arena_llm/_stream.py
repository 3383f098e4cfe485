"""The part of a streamed completion that both clients share. No I/O."""

from __future__ import annotations

from typing import Any

from arena_llm._base import PendingCall
from arena_llm._fork import check_fork, forked
from arena_llm.errors import ArenaError, FailedPreconditionError, InternalError
from arena_llm.types import Completion, Delta, Progress, StreamStart
from arena_llm.v1 import generate_pb2
from arena_llm.wire import from_message

#: What a stream yields before its completion.
StreamEvent = StreamStart | Delta | Progress


class BaseStream:
    """Starts the call, turns messages into events, and keeps the completion."""

    def __init__(self, pending: PendingCall[Completion]) -> None:
        self._pending = pending
        self._rpc: Any = None
        self._completion: Completion | None = None
        self._partial: Completion | None = None
        self._ended = False

    @property
    def completion(self) -> Completion:
        """The whole completion, with usage and cost, after the stream was read to its end.

        Raises FailedPreconditionError before that, and if the stream failed or was closed.
        """
        if self._completion is None or not self._ended:
            raise FailedPreconditionError(
                "the stream has not been read to its end: there is no completion",
                reason="STREAM_NOT_ENDED",
                model=self._pending.call.model,
            )
        return self._completion

    def _open(self) -> Any:
        """Return the running call. The first read starts it, so that no call runs unread."""
        check_fork()
        if self._rpc is None:
            self._rpc = self._pending.start()
        return self._rpc

    def _take(self, message: generate_pb2.StreamGenerateResponse) -> StreamEvent | None:
        match message.WhichOneof("event"):
            case "delta":
                return from_message(message.delta, Delta)
            case "start":
                return from_message(message.start, StreamStart)
            case "progress":
                return from_message(message.progress, Progress)
            case "completion":
                self._completion = from_message(message.completion, Completion)
            case "interruption":
                self._partial = from_message(message.interruption, Completion)
        # The completion, or an event of a newer contract.
        return None

    def _finish(self) -> None:
        self._ended = True
        if self._completion is None:
            raise InternalError(
                "the stream ended without a completion", model=self._pending.call.model
            )

    def _pause_after(self, error: Exception) -> float:
        """Return the seconds to wait before the next attempt, or raise the client's error."""
        if self._ended:
            # The stream was closed during a read. This is not a failure.
            return 0.0
        self._ended = True
        try:
            pause = self._pending.pause_after(error)
        except ArenaError as failure:
            failure.partial = self._partial
            raise
        self._ended, self._rpc = False, None
        return pause

    def _cancel(self) -> None:
        self._ended = True
        # In a forked child the call belongs to the parent.
        if self._rpc is not None and not forked():
            self._rpc.cancel()

    def __del__(self) -> None:
        # grpc does not end every call that is dropped (grpc#43462).
        self._cancel()

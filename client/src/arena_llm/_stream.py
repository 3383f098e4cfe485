"""A streamed completion without its I/O: the part both clients share."""

from __future__ import annotations

from typing import Any

from arena_llm._attempt import Attempt
from arena_llm._fork import check_fork, forked
from arena_llm.errors import FailedPreconditionError, InternalError
from arena_llm.types import Completion, Delta
from arena_llm.v1 import generate_pb2
from arena_llm.wire import from_message


class BaseStream:
    """Opens the call, turns events into deltas, and keeps the completion."""

    def __init__(self, attempt: Attempt[Completion]) -> None:
        self._attempt = attempt
        self._rpc: Any = None
        self._completion: Completion | None = None
        self._ended = False

    @property
    def completion(self) -> Completion:
        """The whole completion, once the stream has been read to its end.

        Raises FailedPreconditionError before that, and where it failed or was closed.
        """
        if self._completion is None or not self._ended:
            raise FailedPreconditionError(
                "the stream has not been read to its end: there is no completion",
                reason="STREAM_NOT_ENDED",
                model=self._attempt.call.model,
            )
        return self._completion

    def _open(self) -> Any:
        """The running call: started by the first read, so that none runs unread."""
        check_fork()
        if self._rpc is None:
            self._rpc = self._attempt.start()
        return self._rpc

    def _take(self, event: generate_pb2.StreamGenerateResponse) -> Delta | None:
        match event.WhichOneof("event"):
            case "text_delta":
                return Delta(text=event.text_delta)
            case "reasoning_delta":
                return Delta(reasoning=event.reasoning_delta)
            case "completion":
                self._completion = from_message(event.completion, Completion)
        # The completion, or an event of a later version of the contract.
        return None

    def _finish(self) -> None:
        self._ended = True
        if self._completion is None:
            raise InternalError(
                "the stream ended without a completion", model=self._attempt.call.model
            )

    def _pause_after(self, error: Exception) -> float:
        """Return the seconds to wait before the next try, or raise the client's error."""
        if self._ended:
            # The stream was closed during a read: that is its end, and not a failure.
            return 0.0
        self._ended = True
        pause = self._attempt.pause_after(error)
        self._ended, self._rpc = False, None
        return pause

    def _cancel(self) -> None:
        self._ended = True
        # In a forked child the call belongs to the parent.
        if self._rpc is not None and not forked():
            self._rpc.cancel()

    def __del__(self) -> None:
        # Nobody can read on. grpc does not end every call that is dropped (grpc#43462).
        self._cancel()

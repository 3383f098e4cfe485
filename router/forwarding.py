"""One call to a backend, on behalf of a caller."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Any

import grpc

from router.access import NO_CHARGE, Charge
from router.backend import Backend
from router.fallback import FailedCall, PassedOver, extend_error
from router.reply import note_failure, note_last_event, note_reply
from services.common.call import CallRecord
from services.common.errors import read_reason
from services.common.handlers import Context


class ForwardedCall:
    """A call to a backend: the caller's call gets its metadata, and its trailers or its error.

    `reply` and leaving the block cancel the call to the backend, so that a caller that has
    disconnected leaves no work behind, and close the caller's charge.
    """

    __slots__ = (
        *("_backend", "_call", "_charge", "_context", "_initial_sent", "_last", "_record"),
        *("failed", "passed_over"),
    )

    def __init__(
        self,
        call: Any,
        backend: Backend,
        context: Context,
        record: CallRecord,
        charge: Charge = NO_CHARGE,
    ) -> None:
        charge.open()
        self._charge = charge
        self._call = call
        self._backend = backend
        self._context = context
        self._record = record
        self._initial_sent = False
        #: Reasons for which PassedOver is raised, and the models that failed before: see Fallbacks.
        self.passed_over: frozenset[str] = frozenset()
        self.failed: Sequence[FailedCall] = ()
        self._last = b""

    async def __aenter__(self) -> ForwardedCall:
        return self

    async def reply(self) -> bytes:
        """Return the reply of a unary call, after sending its initial metadata."""
        call = self._call
        try:
            reply: bytes = await call
            # Usually both are empty.
            if initial := await call.initial_metadata():
                await self._send_initial(initial)
            if trailing := await call.trailing_metadata():
                self._context.set_trailing_metadata(tuple(trailing))
            self._charge.add_usage(note_reply(self._record, reply))
            self._backend.note_replica(self._record)
        except grpc.aio.AioRpcError as error:
            await self._end(error)
            raise AssertionError("unreachable") from error
        finally:
            call.cancel()
            self._charge.close()
        return reply

    async def messages(self, *, initial: bool = True) -> AsyncGenerator[bytes, None]:
        """Yield the messages. Each is read only after the previous one has been sent.

        initial: also send the initial metadata, which is possible once in a call.
        """
        if initial:
            await self._send_initial(await self._call.initial_metadata())
        async for message in self._call:
            self._last = message
            self._charge.add_message()
            yield message

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._context.set_trailing_metadata(tuple(await self._call.trailing_metadata()))
            if isinstance(error, grpc.aio.AioRpcError):
                await self._end(error)
            else:
                self._charge.add_usage(note_last_event(self._record, self._last))
                self._backend.note_replica(self._record)
        finally:
            self._call.cancel()
            self._charge.close()

    async def _end(self, error: grpc.aio.AioRpcError) -> None:
        if failure := self._backend.explain_failure(error):
            raise failure from error
        trailers: tuple[Any, ...] = tuple(error.trailing_metadata())
        self._charge.add_usage(note_failure(self._record, trailers))
        reason, message = read_reason(trailers), error.details() or ""
        if reason in self.passed_over:
            raise PassedOver(error, reason) from error
        if self.failed:
            message, trailers = extend_error(message, trailers, self.failed)
        if not self._initial_sent:  # a stream that fails midway has sent it
            await self._send_initial(error.initial_metadata())
        self._record.status = error.code().name
        if reason:
            self._record.add(reason=reason)
        await self._context.abort(error.code(), message, trailers)

    async def _send_initial(self, metadata: Any) -> None:
        if pairs := tuple(metadata):  # otherwise gRPC sends the headers with the first message
            self._initial_sent = True
            await self._context.send_initial_metadata(pairs)

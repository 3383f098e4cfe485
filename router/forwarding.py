"""One call to a backend, on behalf of a caller."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc

from arena_llm.errors import DETAILS_TRAILER
from arena_llm.v1 import reply_pb2
from router.access import NO_CHARGE, Charge
from router.backend import Backend
from router.costs import RequestCosts
from router.events import Event, JoinedStream
from router.failure import CallFailed
from router.ledger import Reports, add_reports, add_to_error, report_lost
from router.reply import Paid, count_most, note_failure, note_last_event, note_reply
from services.common.call import CallRecord
from services.common.errors import BackendDown, DeadlineExceeded
from services.common.handlers import Context
from services.common.log import log
from services.common.trailers import read_report

#: Methods whose replies say what each attempt took.
_HAVE_ATTEMPTS = frozenset(("Generate", "StreamGenerate"))


class ForwardedCall:
    """A call to a backend. Its metadata and trailers go to the caller.

    If its replica is lost before a token has come, another one is asked, once.

    Use it once, by `reply` or by `messages`. Both cancel the call to the backend at their end, so
    that a caller that has disconnected leaves no work behind, and close the caller's charge. Both
    raise CallFailed for an error of the backend, and BackendError for one of the router.

    start: begins a call to a replica. If the route holds calls, it is called once a replica serves.
    costs: of the request; None: it costs nothing.
    """

    __slots__ = (
        *("_backend", "_charge", "_context", "_costs", "_initial_sent", "_lost", "_record"),
        *("_start", "_unknown"),
    )

    def __init__(
        self,
        start: Callable[[], Any],
        backend: Backend,
        context: Context,
        record: CallRecord,
        charge: Charge = NO_CHARGE,
        costs: RequestCosts | None = None,
    ) -> None:
        charge.open()
        self._charge = charge
        self._start = start
        self._backend = backend
        self._context = context
        self._record = record
        self._costs = costs if record.rpc in _HAVE_ATTEMPTS else None
        self._initial_sent = False
        #: Why earlier attempts were lost.
        self._lost: list[str] = []
        #: Attempts whose usage the charge does not know.
        self._unknown = 0

    async def _begin(self) -> Any:
        """Start the call, as soon as a replica serves if the route holds calls."""
        if self._backend.holds:
            await self._backend.hold(self._context.time_remaining())
        self._unknown += 1
        return self._start()

    async def reply(self) -> bytes:
        """Return the reply of a unary call, after sending its initial metadata."""
        try:
            while True:
                call = await self._begin()
                try:
                    reply: bytes = await call
                    # Usually both are empty.
                    if initial := await call.initial_metadata():
                        await self._send_initial(initial)
                    if trailing := await call.trailing_metadata():
                        self._context.set_trailing_metadata(tuple(trailing))
                    break
                except grpc.aio.AioRpcError as error:
                    await self._end(error)
                finally:
                    call.cancel()
            self._settle(note_reply(self._record, reply))
            self._backend.note_replica(self._record)
            if self._lost and self._record.rpc in _HAVE_ATTEMPTS:
                message = reply_pb2.GenerateResponse.FromString(reply)
                await self._add_lost(message)
                reply = message.SerializeToString()
            return reply
        finally:
            self._close()

    async def messages(self, *, initial: bool = True) -> AsyncGenerator[bytes, None]:
        """Yield the messages. Each is read only after the previous one has been sent.

        initial: also send the initial metadata, which is possible once in a call.
        """
        stream = JoinedStream()
        self._initial_sent = not initial
        last = b""
        try:
            while True:
                call = await self._begin()
                try:
                    await self._send_initial(await call.initial_metadata())
                    async for message in call:
                        last = message
                        self._charge.add_message(len(message))
                        if (data := stream.take(message)) is not None:
                            yield await self._complete(data) if self._lost else data
                    self._context.set_trailing_metadata(tuple(await call.trailing_metadata()))
                    return
                except grpc.aio.AioRpcError as error:
                    last = b""  # its error says what it took
                    await self._end(error, may_repeat=not stream.has_answer)
                    stream.join()
                finally:
                    call.cancel()
        finally:
            if last:
                if (paid := note_last_event(self._record, last)) is not None:
                    self._settle(paid)
                self._backend.note_replica(self._record)
            self._close()

    def _settle(self, paid: Paid | None) -> None:
        """Count what an attempt says that it took."""
        self._unknown -= 1
        self._charge.add_usage(paid)

    def _close(self) -> None:
        """End the charge. What is not known then, such as after a caller has left, is estimated."""
        costs, attempts = self._costs, self._unknown
        if costs is None or attempts < 1:
            self._charge.close()
        else:
            self._charge.close(lambda tokens: costs.estimate_left(tokens, attempts))

    async def _end(self, error: grpc.aio.AioRpcError, *, may_repeat: bool = True) -> None:
        """Return if another replica may answer. Else raise the error for the caller."""
        if may_repeat and self._backend.can_hold_again(error):
            self._unknown -= 1  # it has reached no replica
            return
        trailers: Any = tuple(error.trailing_metadata())
        paid = note_failure(self._record, trailers)
        failure = self._backend.explain_failure(error)
        has_details = any(key == DETAILS_TRAILER for key, _ in trailers)
        is_lost = isinstance(failure, BackendDown) and failure.is_reached
        if has_details or not (is_lost or isinstance(failure, DeadlineExceeded)):
            self._settle(paid)
        if failure is None:
            initial = () if self._initial_sent else error.initial_metadata()
            failed = CallFailed(error.code(), error.details() or "", trailers, initial)
            raise failed.after(await self._report()) from error
        reports: Reports = ()
        if has_details:  # the backend noticed the deadline
            report = read_report(trailers)
            reports = () if report is None else (report,)
        elif not isinstance(failure, BackendDown) or failure.is_reached:
            self._lost.append(failure.reason)
            if may_repeat and isinstance(failure, BackendDown) and self._may_repeat:
                log.warning("a replica was lost; another one is asked", detail=failure.message)
                return
        add_to_error(failure, (*await self._report(), *reports))
        raise failure from error

    @property
    def _may_repeat(self) -> bool:
        return len(self._lost) == 1 and self._backend.has_replicas

    async def _report(self, usage: reply_pb2.Usage | None = None) -> Reports:
        """Return what the lost attempts took. usage: of the answer."""
        is_free = usage is not None and usage.cost_basis == reply_pb2.COST_BASIS_FREE
        if not self._lost or is_free or self._costs is None:
            return ()
        most = await self._costs.find_most()
        report = report_lost(self._lost, most)
        if most is not None:
            self._unknown -= len(self._lost)
            self._charge.add_lost(count_most(report.attempts))
        return (report,)

    async def _complete(self, data: bytes) -> bytes:
        """Return an event. One that lists attempts also gets what the lost attempts took."""
        event = Event.FromString(data)
        kind = event.WhichOneof("event")
        if kind not in ("completion", "interruption"):
            return data
        await self._add_lost(getattr(event, kind))
        return event.SerializeToString()

    async def _add_lost(self, message: reply_pb2.GenerateResponse) -> None:
        add_reports(message, await self._report(message.usage))

    async def _send_initial(self, metadata: Any) -> None:
        if self._initial_sent:
            return
        if pairs := tuple(metadata):  # otherwise gRPC sends the headers with the first message
            self._initial_sent = True
            await self._context.send_initial_metadata(pairs)

"""A backend's answer on its way back: metadata, messages and status as they came."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any

import grpc

from router.backends import Backend
from services.common.calls import CallRecord
from services.common.handlers import Context


class relayed:
    """Around waiting for a backend's answer: how it ends, the caller's call ends.

    The call to the backend is over when this is, however it ends: a caller that
    is gone must not leave work behind.
    """

    __slots__ = ("_backend", "_call", "_context", "_record")

    def __init__(self, call: Any, backend: Backend, context: Context, record: CallRecord) -> None:
        self._call = call
        self._backend = backend
        self._context = context
        self._record = record

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._context.set_trailing_metadata(tuple(await self._call.trailing_metadata()))
            elif isinstance(error, grpc.aio.AioRpcError):
                await self._end(error)
        finally:
            self._call.cancel()

    async def _end(self, error: grpc.aio.AioRpcError) -> None:
        if failure := self._backend.own_failure(error):
            raise failure from error
        await _send_initial(tuple(error.initial_metadata()), self._context)
        self._record.status = error.code().name
        trailers: tuple[Any, ...] = tuple(error.trailing_metadata())
        await self._context.abort(error.code(), error.details() or "", trailers)


async def unary(call: Any, context: Context) -> bytes:
    """The answer, with its initial metadata sent ahead."""
    reply: bytes = await call
    await _send_initial(tuple(await call.initial_metadata()), context)
    return reply


async def stream(call: Any, context: Context) -> AsyncGenerator[bytes, None]:
    """The messages, each asked for when the one before it has been taken."""
    await _send_initial(tuple(await call.initial_metadata()), context)
    async for message in call:
        yield message


async def _send_initial(metadata: tuple[Any, ...], context: Context) -> None:
    if metadata:  # else gRPC sends the headers with the first message, in one packet
        await context.send_initial_metadata(metadata)

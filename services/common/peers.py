"""Hands a call to the worker of this service that has its request_id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from arena_llm.connection import message_options
from arena_llm.errors import DETAILS_TRAILER, never_connected
from services.common.claims import IdClaims
from services.common.errors import BackendDown
from services.common.handlers import SERVICE, Context
from services.common.hops import HOPS_HEADER
from services.common.tenant import TENANT_HEADER

#: The metadata of a call that comes from another worker.
_HEADER = "arena-worker"


class Peers:
    """The other workers, seen from one of them. claims: None if there are no others."""

    def __init__(self, claims: IdClaims | None = None) -> None:
        self._claims = claims
        self._channels: dict[int, Any] = {}

    @property
    def exist(self) -> bool:
        return self._claims is not None

    async def aclose(self) -> None:
        """Close the connections to the other workers."""
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    async def ask(self, rpc: str, request_id: str, data: bytes, context: Context) -> bytes | None:
        """Return the reply of the worker that has this id; None if it is this one."""
        async with aclosing(self.stream(rpc, request_id, data, context)) as replies:
            return await anext(replies, None)

    async def stream(
        self, rpc: str, request_id: str, data: bytes, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Yield the replies of the worker that has this id: nothing if it is this one.

        If no running worker has the id, it belongs to this one from now on. Ends the call with the
        other worker's error.
        """
        if self._claims is None or _is_handed(context):
            return
        if (channel := self._find(self._claims, request_id)) is None:
            return
        call = channel.unary_stream(f"/{SERVICE.full_name}/{rpc}")(
            data, timeout=context.time_remaining(), metadata=_hand_over(context)
        )
        try:
            async for reply in call:
                yield reply
        except grpc.aio.AioRpcError as error:
            if never_connected(error):
                self._claims.claim(request_id, again=True)
                return
            trailers: Any = tuple(error.trailing_metadata())
            if error.code() is grpc.StatusCode.UNAVAILABLE and DETAILS_TRAILER not in dict(
                trailers
            ):
                raise BackendDown("the process that ran the call has ended") from error
            await context.abort(error.code(), error.details() or "", trailers)
        finally:
            call.cancel()

    def _find(self, claims: IdClaims, request_id: str) -> Any:
        """Return the channel to the worker that has the id; None if it is this one."""
        worker = claims.claim(request_id)
        if worker == claims.worker:
            return None
        if not (port := claims.port(worker)):
            claims.claim(request_id, again=True)
            return None
        if port not in self._channels:
            options = (*message_options(), ("grpc.enable_http_proxy", 0))
            self._channels[port] = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
        return self._channels[port]


def _hand_over(context: Context) -> tuple[tuple[str, str | bytes], ...]:
    """Return the metadata of a call to another worker: a mark, and the caller's tenant and hops."""
    kept = (TENANT_HEADER, HOPS_HEADER)
    caller = (pair for pair in context.invocation_metadata() or () if pair[0] in kept)
    return ((_HEADER, "1"), *caller)


def _is_handed(context: Context) -> bool:
    return any(key == _HEADER for key, _ in context.invocation_metadata() or ())

"""uvicorn's protocol with bounds for slow callers, and a notice when a caller leaves.

uvicorn bounds only the time between two requests. Here the head of a request, its body, and the
reading of an answer have bounds, too; a caller that exceeds one loses its connection. A request is
also notified when its caller leaves. A task that waits for this would take 40 us a call.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.config import GatewayConfig

#: Bytes of the head of a request: its first line and all headers.
MAX_HEAD_BYTES = 64 * 1024
#: The key of the connection in an ASGI scope.
CONNECTION = "arena.connection"


class BoundedProtocol(HttpToolsProtocol):
    """One connection. limits: the configuration in force; each server sets it in a subclass.

    when_lost: called if the connection is lost. The request that is being answered sets it.
    """

    limits: ClassVar[GatewayConfig]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.when_lost: Callable[[], None] | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        #: The part of a request that has begun and is not complete. A request may be answered
        #: before its body arrives.
        self._arriving: Literal["head", "body"] | None = None
        self._head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.abort()
            return
        options = {"TCP_NODELAY": 1, "TCP_USER_TIMEOUT": int(self.limits.write_seconds * 1000)}
        for name, value in options.items():
            with suppress(OSError, AttributeError):  # a Unix socket, or not Linux
                transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_TCP, getattr(socket, name), value
                )
        self._expect(self.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        self.resume_writing()
        super().connection_lost(exc)
        if self.when_lost is not None:
            self.when_lost()

    def data_received(self, data: bytes) -> None:
        self._arriving = self._arriving or "head"
        super().data_received(data)
        # Usually a whole request has arrived now.
        if self._arriving is None or self.transport.is_closing():
            return
        in_head = self._arriving == "head"
        if in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The head of the request is too large.")
                return
        if self._read_timer is None:
            self._expect(self.limits.head_seconds if in_head else self.limits.body_seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving = "head"
        self.scope[CONNECTION] = self  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        self._stop_expecting()
        self._arriving = "body"
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_expecting()
        self._arriving = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The caller reads more slowly than the answer comes."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def _expect(self, seconds: float) -> None:
        """Close the connection if the head, or the body, does not arrive in time."""
        self._read_timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

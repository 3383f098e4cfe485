"""The health service: https://github.com/grpc/grpc/blob/master/doc/health-checking.md."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2


class Health(health.aio.HealthServicer):  # type: ignore[misc, name-defined] # the library has no types
    """The library's servicer, with its Watch replaced.

    The library's Watch forgets all watchers when one leaves. It also never ends, so one router
    that watches would delay a stop for the whole grace period.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Send the status and each change of it, until the service stops."""
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        sent = None
        while True:
            changed = self._changed
            status = self._server_status.get(request.service, unknown)
            if status != sent:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                sent = status
            if self._gracefully_shutting_down:
                return
            await changed.wait()

    async def _set(self, service: str, status: Any) -> None:
        await super()._set(service, status)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

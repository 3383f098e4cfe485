"""grpc.health.v1, for watchers too (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2


class Health(health.aio.HealthServicer):  # type: ignore[misc, name-defined] # it has no types
    """The stock servicer with a Watch of its own.

    The stock one forgets all watchers when one of them leaves, and goes on for ever, so
    that one router's load balancing would hold up a stop for the whole grace.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Tell the status and each change of it; ends with the service."""
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        told = None
        while True:
            changed = self._changed
            status = self._server_status.get(request.service, unknown)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            if self._gracefully_shutting_down:
                return
            await changed.wait()

    async def _set(self, service: str, status: Any) -> None:
        await super()._set(service, status)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

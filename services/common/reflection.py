"""gRPC's reflection, which lists the services to callers such as grpcurl.

Its modules are imported at the first call: they take 4 MB and 0.1 s of every service's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import grpc

_NAME = "grpc.reflection.v1alpha.ServerReflection"


class Reflection(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in the stubs only
    """The handler of reflection. services: the full names of the other services."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = (*services, _NAME)

    def service(self, handler_call_details: Any) -> Any:
        """Return the method's handler, or None for a method of another service."""
        is_own = handler_call_details.method == f"/{_NAME}/ServerReflectionInfo"
        return self._handler if is_own else None

    @cached_property
    def _handler(self) -> Any:
        from grpc_reflection.v1alpha import reflection, reflection_pb2

        return grpc.stream_stream_rpc_method_handler(
            reflection.aio.ReflectionServicer(self._services).ServerReflectionInfo,  # type: ignore[attr-defined]
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )

"""A service as a deployment of Ray Serve: the one servicer, behind Serve's gRPC ingress.

Serve's ingress differs from gRPC's own server in five ways, which this file answers:

- It does not pass the deadline on. The router sends what remains of it as metadata
  (services/common/hops.py), and a call ends when that has passed.
- It turns an exception into INTERNAL with the exception's text. Here none reaches it: the servicer
  turns each into a status with details, and the status is set on the call.
- It sends trailers only for calls that end without an exception. So a failed call returns an empty
  message, which gRPC drops, with the status.
- Its servers listen on all addresses of a machine, even with `listen` on loopback, and share a port
  with any other server on it: two clusters on a machine would get each other's calls. Here they
  listen on loopback and on the address by which Ray knows the node, each on its own port.
- A replica has one more server, for pickled calls between deployments: a program that reaches it
  can run code. No service needs it, so it gets no address.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from importlib import import_module
from typing import Any, NoReturn, Protocol

import grpc

from services.common.backend import BaseLLMBackend
from services.common.errors import DeadlineExceeded
from services.common.handlers import SERVICE
from services.common.hops import read_remaining
from services.common.log import configure_logging, log
from services.common.process import return_freed_memory, tune_gc
from services.common.servicer import LlmServicer
from services.common.trailers import build_trailers, cut_message


def listen_privately() -> None:
    """Let the gRPC servers that Serve starts in this process listen as the module says.

    Serve calls it in its proxies and in each replica, before it starts their servers. It replaces
    internals of Serve that have no public setting.
    """
    ray: Any = import_module("ray")
    grpc_util: Any = import_module("ray.serve._private.grpc_util")
    replica: Any = import_module("ray.serve._private.replica")

    class PrivateServer(grpc_util.gRPCGenericServer):  # type: ignore[misc] # a class of Ray
        def __init__(self, factory: Any, *, extra_options: Any) -> None:
            # Serve's own value is "0", which gRPC ignores.
            super().__init__(factory, extra_options=[("grpc.so_reuseport", 0)])

        def add_insecure_port(self, address: str) -> int:
            port = int(address.rpartition(":")[2])
            # HAProxy calls the replicas of its own node on loopback, and others by their node.
            for host in {"127.0.0.1", ray.util.get_node_ip_address()}:
                super().add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            return port

    grpc_util.gRPCGenericServer = PrivateServer
    replica.add_port_to_grpc_server = lambda server, address: 0


class Reply(bytes):
    """A serialized message. Serve serializes every reply."""

    def SerializeToString(self) -> bytes:
        return bytes(self)


def add_llm_service(servicer: Any, server: Any) -> None:
    """Add LlmService to Serve's server, with requests as bytes: the servicer parses them."""
    methods = {
        method.name: (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )(getattr(servicer, method.name))
        for method in SERVICE.methods
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE.full_name, methods),)
    )


class ServeContext(Protocol):
    """The methods of Serve's RayServegRPCContext that are used here."""

    def invocation_metadata(self) -> Iterable[tuple[str, str]]: ...
    def peer(self) -> str: ...
    def set_code(self, code: grpc.StatusCode) -> None: ...
    def set_details(self, details: str) -> None: ...
    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, Any]]) -> None: ...


class _Aborted(Exception):
    """The call has its status."""


class CallContext:
    """Serve's context of a call, with the methods of gRPC's that the servicer uses."""

    def __init__(self, context: ServeContext) -> None:
        self._context = context
        remaining = read_remaining(context.invocation_metadata())
        self._deadline = None if remaining is None else time.monotonic() + remaining

    def invocation_metadata(self) -> Iterable[tuple[str, str]]:
        return self._context.invocation_metadata()

    def peer(self) -> str:
        return self._context.peer()

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()
    ) -> NoReturn:
        self.set_status(code, details, trailing_metadata)
        raise _Aborted

    def set_status(self, code: grpc.StatusCode, details: str, trailers: Any) -> None:
        """Set the status with which the call ends."""
        self._context.set_code(code)
        self._context.set_details(details)
        self._context.set_trailing_metadata(list(trailers))

    def set_late(self) -> None:
        """Set the status of a call whose deadline has passed."""
        error = DeadlineExceeded("the deadline passed")
        self.set_status(error.code, cut_message(error.message), build_trailers(error))


class LlmReplica:
    """One replica of a service. The methods are those of LlmService, as Serve calls them."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, backend: Callable[[], BaseLLMBackend[Any]], name: str
    ) -> None:
        """backend: makes the backend. name: of the service."""
        configure_logging()
        return_freed_memory()
        from ray import serve

        replica = serve.get_replica_context().replica_id.unique_id
        self._servicer = LlmServicer(backend())
        self._servicer.listens_on(f"{name}-{replica}")
        await self._servicer.start()
        tune_gc(self._servicer.forwards_calls)
        self._failed = asyncio.ensure_future(self._servicer.failed())
        # Serve calls it and awaits it. As a method of the class Python would call it, too.
        setattr(self, "__del__", self._close)  # noqa: B010 - mypy refuses the assignment
        log.info("serving", service=name, replica=replica)

    async def check_health(self) -> None:
        """Serve replaces a replica for which this raises."""
        if self._failed.done():
            raise RuntimeError(self._failed.result())

    async def _close(self) -> None:
        """End the service, after the last call."""
        self._failed.cancel()
        self._servicer.drain()
        await self._servicer.aclose()

    async def StreamGenerate(self, data: bytes, grpc_context: ServeContext) -> AsyncIterator[Reply]:
        context: Any = CallContext(grpc_context)
        events: Any = self._servicer.StreamGenerate(data, context)
        async with aclosing(events):
            while True:
                try:
                    async with asyncio.timeout(context.time_remaining()):
                        message = await anext(events)
                except (StopAsyncIteration, _Aborted):
                    return
                except TimeoutError:
                    context.set_late()
                    return
                yield Reply(message)


def _serve_unary(rpc: str) -> Callable[..., Awaitable[Reply]]:
    async def call(self: LlmReplica, data: bytes, grpc_context: ServeContext) -> Reply:
        context = CallContext(grpc_context)
        try:
            async with asyncio.timeout(context.time_remaining()):
                return Reply(await getattr(self._servicer, rpc)(data, context))
        except _Aborted:
            pass
        except TimeoutError:
            context.set_late()
        return Reply()

    call.__name__ = rpc
    return call


for _method in SERVICE.methods:
    if not _method.server_streaming:
        setattr(LlmReplica, _method.name, _serve_unary(_method.name))

"""A service's life: bind, make ready, serve, mark not serving, finish, stop.

Used by every backend and by the router alike.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import structlog
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from arena_llm.connection import Options, message_options, pinged
from services.common.backend import BaseLLMBackend
from services.common.config import (
    ConfigError,
    ServiceConfig,
    config_path,
    drop_other_keys,
    load_config,
    load_dotenv,
)
from services.common.handlers import SERVICE, LlmHandlers, llm_service_handler
from services.common.health import Health
from services.common.log import configure_logging
from services.common.servicer import LlmServicer

log = structlog.get_logger()

C = TypeVar("C", bound=ServiceConfig)

#: Seconds that calls in flight have to end after SIGTERM.
GRACE = 30.0


def server_options() -> Options:
    """The options of every server."""
    return (
        *message_options(),
        *pinged(),
        ("grpc.so_reuseport", 0),  # a port in use is an error, not a second listener
    )


class Service(LlmHandlers, Protocol):
    """What can be served: the five handlers and a life of its own.

    forwards_calls: whether it waits for others' answers rather than computes its own.
    """

    name: str
    forwards_calls: bool

    async def start(self) -> None: ...

    async def failed(self) -> str: ...

    async def aclose(self) -> None: ...


class Server:
    """One service on one address, with health and reflection."""

    def __init__(self, service: Service, listen: str) -> None:
        self._service = service
        self._server = grpc.aio.server(options=server_options())
        self._health = Health()
        self._server.add_generic_rpc_handlers((llm_service_handler(service),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        try:
            self.port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise ConfigError(
                f"{service.name}: cannot listen on {listen}: the port is in use, or the "
                "address is not this machine's; stop what holds it or move the port"
            ) from error
        self.address = f"{listen.rpartition(':')[0]}:{self.port}"

    async def start(self) -> None:
        """Answer health at once, SERVING only when the service is ready.

        The stock health servicer starts as SERVING, so that is undone first.
        """
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()
        log.info("listening", service=self._service.name, address=self.address, pid=os.getpid())
        await self._service.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", service=self._service.name, address=self.address)

    async def failed(self) -> str:
        """Wait until the service cannot go on; health is NOT_SERVING from then on."""
        reason = await self._service.failed()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        log.error("failed", service=self._service.name, reason=reason)
        return reason

    async def stop(self, grace: float = GRACE) -> None:
        """Mark as not serving, let what runs finish, then stop the engine."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        await self._service.aclose()
        log.info("stopped", service=self._service.name)

    async def _set_health(self, status: Any) -> None:
        for name in ("", SERVICE.full_name):
            await self._health.set(name, status)


def _settle() -> None:
    """Keep the collector from walking again and again through what is loaded now and stays.

    For the process as a whole, so that it is no part of a Server's life.
    """
    gc.collect()
    gc.freeze()


async def serve(service: Service, listen: str) -> int:
    """Run the service until SIGTERM or SIGINT (exit status 0) or until it fails (1)."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    server = Server(service, listen)
    life = asyncio.create_task(_start_and_watch(server))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait((life, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if life.done():
        error = life.exception()
        await server.stop(grace=1.0)
        if error is not None:
            raise error
        return 1
    life.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await life
    await server.stop()
    return 0


async def _start_and_watch(server: Server) -> None:
    await server.start()
    _settle()
    await server.failed()


def _take_long_turns() -> None:
    """Let a message that comes wait until whoever runs just now has finished its turn.

    Where callers, router and service share few cores, each would otherwise take them from
    the others at every message: that cost 15 % of a small call's CPU (`python -m
    bench.openrouter`: 18 % more calls without it). A core that is idle is taken at once
    either way. See SCHED_BATCH in sched(7); threads that begin later inherit it.
    """
    if hasattr(os, "SCHED_BATCH"):  # Linux
        with contextlib.suppress(PermissionError):  # a sandbox may forbid it: it is speed alone
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def run(service: Service, listen: str) -> None:
    """Serve on uvloop and leave the process with the exit status."""
    if service.forwards_calls:
        _take_long_turns()
    try:
        status = uvloop.run(serve(service, listen))
    except ConfigError as error:
        sys.exit(f"{error}")
    sys.exit(status)


def launch(
    name: str,
    filename: str,
    config_type: type[C],
    service_of: Callable[[C], Service],
    environment: Sequence[str] = (),
) -> None:
    """`python -m <name> [--config FILE]`: read the configuration, then serve."""
    configure_logging()
    visible = ("ARENA_*", *environment)
    try:
        load_dotenv(visible)
        drop_other_keys(visible)
        parser = argparse.ArgumentParser(prog=f"python -m {name}")
        default = config_path(filename)
        parser.add_argument("--config", type=Path, default=default, help=f"default: {default}")
        arguments = parser.parse_args()
        config = load_config(arguments.config, config_type)
    except ConfigError as error:
        sys.exit(f"{error}")
    run(service_of(config), config.listen)


def main(backend_type: type[BaseLLMBackend[Any]]) -> None:
    """`python -m services.<name> [--config FILE]`."""
    name = backend_type.name
    launch(
        f"services.{name}",
        f"{name}_models.yaml",
        backend_type.config_type,
        lambda config: LlmServicer(backend_type(config)),
        backend_type.environment,
    )

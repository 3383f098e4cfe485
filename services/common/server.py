"""The life of a service: bind, start, serve, mark not serving, finish calls, stop.

Every backend and the router use it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from arena_llm.command_line import add_version
from arena_llm.connection import Options, accept_ping_options, message_options, ping_options
from arena_llm.tracing import tracing
from services.common.addresses import is_unix
from services.common.backend import BaseLLMBackend, check_backend, report_failed_start
from services.common.config import ConfigError, ServiceConfig, config_path, load_config, of_process
from services.common.environment import drop_other_keys, load_dotenv
from services.common.exporter import Exporter, Page
from services.common.handlers import SERVICE, LlmHandlers, llm_service_handler
from services.common.health import Health
from services.common.listener import add_listener, limit_options
from services.common.log import configure_logging, list_frames, log
from services.common.metrics import meter
from services.common.peers import Peers
from services.common.process import return_freed_memory, tune_gc, use_batch_scheduling
from services.common.reflection import Reflection
from services.common.reload import Reloader
from services.common.servicer import LlmServicer
from services.common.workers import Worker, port_in_use, run_workers

C = TypeVar("C", bound=ServiceConfig)

#: Seconds between NOT_SERVING and the end of the listener: callers that watch the health choose
#: another replica meanwhile, so that no call arrives at a listener that is being closed.
NOTICE = 0.1
#: Seconds after which a caller is asked to connect again.
CONNECTION_SECONDS = 300


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Keys of a configuration that differ between replicas.
_OWN_KEYS = ("listen", "metrics")


def server_options(config: ServiceConfig, shares_port: bool = False) -> Options:
    """Return the options of every server. shares_port: with the other workers of a service."""
    return (
        *message_options(),
        *limit_options(config),
        *accept_ping_options(),
        # Ping the callers too, so that the calls of a vanished one end within 30 seconds.
        *ping_options(),
        # A channel to a host's name then finds its new addresses. Running calls go on.
        ("grpc.max_connection_age_ms", CONNECTION_SECONDS * 1000),
        # A port in use is an error, not a second listener.
        ("grpc.so_reuseport", int(shares_port)),
    )


class Service(LlmHandlers, Protocol):
    """The handlers, with a start and an end.

    forwards_calls: True if it forwards calls to another server and computes little itself.
    guards: handlers of gRPC that are asked before all others, for every call of the server.
    """

    name: str
    forwards_calls: bool
    guards: Sequence[Any]

    def listens_on(self, address: str) -> None:
        """Its address, with the port that the system chose."""

    def pages(self) -> Mapping[str, Page]:
        """What is served over HTTP beside /metrics."""

    async def start(self) -> None: ...

    async def failed(self) -> str: ...

    @property
    def watched(self) -> Iterable[Path]: ...

    async def reconfigure(self, config: Any) -> Iterable[str] | None: ...

    def drain(self) -> None: ...

    async def aclose(self) -> None: ...


def name_host(address: str) -> str:
    """Return an address that names this machine: its host name replaces 0.0.0.0 or [::]."""
    host, _, port = address.rpartition(":")
    return f"{socket.gethostname()}:{port}" if host in ("0.0.0.0", "[::]") else address  # noqa: S104


class Server:
    """One service on one address, with health and reflection.

    worker: which of several processes on that address this is; None if it is the only one.
    config: its encryption and its bounds; None: those of a plain configuration.
    """

    def __init__(
        self,
        service: Service,
        listen: str,
        worker: Worker | None = None,
        config: ServiceConfig | None = None,
    ) -> None:
        config = config or ServiceConfig(listen=listen)
        self._service = service
        self._worker = worker
        self._drain_seconds = config.drain_seconds
        self._metrics = config.metrics if worker is None else worker.metrics
        self._exporter: Exporter | None = None
        self._sampling: asyncio.Task[None] | None = None
        #: What its lines in the log say about the process.
        self._place = {"service": service.name, "pid": os.getpid()}
        self._server = grpc.aio.server(options=server_options(config, worker is not None))
        self._health = Health()
        self._server.add_generic_rpc_handlers((*service.guards, llm_service_handler(service)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE.full_name, health.SERVICE_NAME)
        self._server.add_generic_rpc_handlers((Reflection(names),))
        try:
            self.port = add_listener(self._server, listen, config.tls)
        except RuntimeError as error:
            raise port_in_use(service.name, listen) from error
        self.address = listen if is_unix(listen) else f"{listen.rpartition(':')[0]}:{self.port}"
        if worker is not None:  # where the other workers reach it
            self._peer_port = self._server.add_insecure_port("127.0.0.1:0")

    async def start(self) -> None:
        """Start the server and the service. Health is SERVING once the service is ready.

        A service that loads models is started last, so that its health can be asked meanwhile.
        """
        # The library's health servicer starts as SERVING.
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._service.listens_on(name_host(self.address))
        if self._service.forwards_calls:
            # It is ready soon, and a call that came before would find no route.
            await self._service.start()
        await self._server.start()
        log.info("listening", **self._place, address=self.address)
        self._export()
        if not self._service.forwards_calls:
            await self._service.start()
        if self._worker is not None:
            self._worker.claims.open_port(self._peer_port)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", **self._place, address=self.address)

    async def failed(self) -> str:
        """Wait until the service cannot continue, set NOT_SERVING, and return the reason."""
        reason = await self._service.failed()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        log.error("failed", **self._place, reason=reason)
        return reason

    async def stop(self, grace: float | None = None) -> None:
        """Set NOT_SERVING, let running calls finish, then stop the service.

        grace: seconds after which the remaining calls are cancelled; None: the configuration's
        drain_seconds.
        """
        log.info("stopping", **self._place)
        grace = self._drain_seconds if grace is None else grace
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(min(NOTICE, grace / 2))
        self._service.drain()
        await self._server.stop(grace)
        await self._service.aclose()
        if self._exporter is not None and self._sampling is not None:
            self._sampling.cancel()
            await asyncio.to_thread(self._exporter.close)
        await asyncio.to_thread(tracing.flush)
        log.info("stopped", **self._place)

    def _export(self) -> None:
        """Serve the metrics, from the start: a service may take long to be ready."""
        if self._metrics is None:
            return
        self._exporter = Exporter(
            self._metrics, self._service.pages(), shares_port=self._worker is not None
        )
        self._sampling = asyncio.create_task(meter.sample())
        log.info("metrics", **self._place, address=self._exporter.address)

    async def _set_health(self, status: Any) -> None:
        for name in ("", SERVICE.full_name):
            await self._health.set(name, status)


async def serve(
    service: Service,
    listen: str,
    worker: Worker | None = None,
    config: ServiceConfig | None = None,
    reloader: Reloader | None = None,
) -> int:
    """Run the service until SIGTERM or SIGINT (exit status 0) or until it fails (1).

    A second signal ends the process immediately, without waiting for the running calls. A worker
    also stops when the process that has forked it ends.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = _SIGNALS if worker is None else (signal.SIGTERM,)

    def stop_once() -> None:
        stopping.set()
        if worker is not None:
            loop.remove_reader(worker.lifeline)
        for signum in signals:
            # Not a handler of the event loop, which may be busy.
            loop.remove_signal_handler(signum)
            signal.signal(signum, lambda number, _: os._exit(128 + number))

    for signum in signals:
        loop.add_signal_handler(signum, stop_once)
    if worker is not None:
        loop.add_reader(worker.lifeline, stop_once)
    own = config and of_process(config)
    server = Server(service, listen, worker, own)
    follower = None
    if reloader is not None and config is not None:
        loop.add_signal_handler(signal.SIGHUP, reloader.request)
        follower = partial(reloader.follow, service, config)
    life = asyncio.create_task(_start_and_watch(server, service.forwards_calls, follower))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait((life, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if life.done():
        error = life.exception()
        try:
            await server.stop(grace=1.0)
        except Exception as failure:
            if error is None:
                raise
            # What has not started may not be able to stop either.
            log.warning("not stopped", type=type(failure).__qualname__, frames=list_frames(failure))
        if error is not None:
            raise error
        return 1
    life.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await life
    await server.stop()
    return 0


async def _start_and_watch(
    server: Server,
    forwards_calls: bool,
    follow: Callable[[], Coroutine[Any, Any, None]] | None,
) -> None:
    await server.start()
    tune_gc(forwards_calls)
    following = asyncio.create_task(follow()) if follow else None
    try:
        await server.failed()
    finally:
        if following is not None:
            following.cancel()


def run(
    service: Service,
    listen: str,
    worker: Worker | None = None,
    config: ServiceConfig | None = None,
    reloader: Reloader | None = None,
) -> None:
    """Serve on uvloop, then exit with the status of `serve`."""
    # A thread that checks a large request gives way to the event loop after a millisecond.
    sys.setswitchinterval(0.001)
    if service.forwards_calls:
        use_batch_scheduling()
        return_freed_memory()
    tracing.name(f"arena-llm-{service.name}")
    if config is not None and config.metrics is not None:
        meter.open(service.name, config.model_names)
    try:
        status = uvloop.run(serve(service, listen, worker, config, reloader))
    except ConfigError as error:
        sys.exit(f"{error}")
    sys.exit(status)


def launch(
    name: str,
    filename: str,
    config_type: type[C],
    build_service: Callable[[C, Peers], Service],
    environment: Sequence[str] = (),
) -> None:
    """Run `python -m <name> [--config FILE]`: read the configuration, then serve.

    --listen and --metrics take precedence over the file, for replicas that share it. filename: name
    of the default configuration file. build_service: makes the service of this process from its
    configuration and the other workers. environment: patterns of the variables that the service
    reads, besides ARENA_*.
    """
    configure_logging()
    patterns = ("ARENA_*", "OTEL_*", *environment)
    try:
        load_dotenv(patterns)
        drop_other_keys(patterns)
        parser = argparse.ArgumentParser(prog=f"python -m {name}")
        add_version(parser, "arena-llm-services")
        default = config_path(filename)
        parser.add_argument("--config", type=Path, default=default, help=f"default: {default}")
        for key in _OWN_KEYS:
            parser.add_argument(f"--{key}", help=f"in place of `{key}` in the file")
        arguments = parser.parse_args()
        own_values = {key: value for key in _OWN_KEYS if (value := getattr(arguments, key))}
        load = partial(load_config, arguments.config, config_type, own_values)
        reloader = Reloader(arguments.config, load, patterns)
        config: Any = load()
        own = of_process(config)
        if own is not config:
            run_workers(
                name,
                config.listen,
                config.workers,
                lambda worker: run(
                    build_service(own, Peers(worker.claims)),
                    worker.listen,
                    worker,
                    config,
                    reloader,
                ),
                config.metrics,
            )
        service = build_service(config, Peers())
    except ConfigError as error:
        sys.exit(f"{error}")
    run(service, config.listen, config=config, reloader=reloader)


def main(backend_type: type[BaseLLMBackend[Any]]) -> None:
    """Run a backend as a service: `python -m MODULE [--config FILE]`."""
    try:
        check_backend(backend_type)
    except ConfigError as error:
        sys.exit(f"{error}")
    name = backend_type.name

    def build(config: Any, peers: Peers) -> LlmServicer:
        with report_failed_start(backend_type):
            backend = backend_type(config)
        return LlmServicer(backend, peers)

    launch(
        f"services.{name}",
        f"{name}_models.yaml",
        backend_type.config_type,
        build,
        backend_type.environment,
    )

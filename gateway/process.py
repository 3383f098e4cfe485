"""The life of the process: listen, serve, read the configuration again, finish calls, stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from arena_llm.command_line import add_version
from arena_llm.tracing import tracing
from gateway.app import build_app
from gateway.config import GatewayConfig
from gateway.connection import BoundedProtocol
from gateway.endpoint import Upstream
from services.common.addresses import is_unix
from services.common.config import ConfigError, ServerTls, config_path, load_config
from services.common.environment import drop_other_keys, load_dotenv
from services.common.exporter import Exporter
from services.common.log import configure_logging, log
from services.common.metrics import meter
from services.common.process import return_freed_memory, tune_gc, use_batch_scheduling
from services.common.reload import Reloader

#: Connections that wait to be accepted.
_BACKLOG = 2048

_PATTERNS = ("ARENA_*", "OTEL_*")


class GatewayServer:
    """The gateway on one address."""

    def __init__(self, config: GatewayConfig) -> None:
        self._upstream = Upstream(config)
        self._tls = None if config.tls is None else _make_context(config.tls)
        self._socket = _listen(config.listen)
        self._protocol: type[BoundedProtocol] = type(
            "Protocol", (BoundedProtocol,), {"limits": config}
        )
        settings = uvicorn.Config(
            build_app(self._upstream),
            http=self._protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=max(1, int(config.max_idle_seconds)),
            timeout_graceful_shutdown=max(1, int(config.drain_seconds)),
        )
        settings.load()
        settings.ssl = self._tls
        self._server = _Server(settings)
        self._exporter: Exporter | None = None

    @property
    def address(self) -> str:
        """Where it listens, with the port that the system chose."""
        listen = self._upstream.config.listen
        if is_unix(listen):
            return listen
        return f"{listen.rpartition(':')[0]}:{self._socket.getsockname()[1]}"

    @property
    def watched(self) -> Iterable[Path]:
        """The certificates."""
        tls = self._upstream.config.tls
        return () if tls is None else tls.files

    async def reconfigure(self, config: GatewayConfig) -> None:
        """Let the next call use other limits, and the next connection other certificates."""
        if config.tls is not None and self._tls is not None:
            _load_certificates(self._tls, config.tls)
        self._upstream.config = self._protocol.limits = config

    async def serve(self) -> None:
        """Serve until `stop`; then let running calls finish."""
        config = self._upstream.config
        place = {"service": "gateway", "pid": os.getpid()}
        sampling = None
        if config.metrics is not None:
            self._exporter = Exporter(config.metrics, {})
            sampling = asyncio.create_task(meter.sample())
            log.info("metrics", **place, address=self._exporter.address)
        log.info("serving", **place, address=self.address)
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            await self._upstream.client.close()
            if sampling is not None and self._exporter is not None:
                sampling.cancel()
                await asyncio.to_thread(self._exporter.close)
            await asyncio.to_thread(tracing.flush)
            log.info("stopped", **place)

    def stop(self) -> None:
        """Take no new connections, and finish."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `run`."""
        yield


def _listen(address: str) -> socket.socket:
    """Return a listening socket. Raises ConfigError for an address that is in use."""
    try:
        if is_unix(address):
            path = address.removeprefix("unix:")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # a killed process has left it
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen(_BACKLOG)
            return listener
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"gateway cannot listen on {address}: {error.strerror or error}; stop the process "
            "that holds the port, or configure another one"
        ) from error


def _make_context(tls: ServerTls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    _load_certificates(context, tls)
    return context


def _load_certificates(context: ssl.SSLContext, tls: ServerTls) -> None:
    """Let the next connections use these files. Raises ConfigError."""
    try:
        # OpenSSL would read a password from the terminal.
        context.load_cert_chain(tls.certificate, tls.key, password=b"")
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(map(str, tls.files))
        reason = getattr(error, "reason", None) or error.strerror or error
        raise ConfigError(
            f"tls: {reason}; these must be PEM files that belong together: {names}"
        ) from error


class _LogHandler(logging.Handler):
    """Writes uvicorn's warnings into our log, without tracebacks, which could show a prompt."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        log.emit(record.levelname.lower(), "http", {"message": record.getMessage(), "type": kind})


def _configure_library_logs() -> None:
    logger = logging.getLogger("uvicorn")
    logger.handlers, logger.propagate = [_LogHandler()], False
    logger.setLevel(logging.WARNING)


async def run(config: GatewayConfig, reloader: Reloader) -> None:
    """Serve until SIGTERM or SIGINT. A second signal ends the process immediately."""
    gateway = GatewayServer(config)
    loop = asyncio.get_running_loop()

    def stop_once() -> None:
        gateway.stop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)
            signal.signal(signum, lambda number, _: os._exit(128 + number))

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop_once)
    loop.add_signal_handler(signal.SIGHUP, reloader.request)
    following = asyncio.create_task(reloader.follow(gateway, config))
    tune_gc(forwards_calls=True)
    try:
        await gateway.serve()
    finally:
        following.cancel()


def main() -> None:
    """Read the configuration, then serve."""
    configure_logging()
    _configure_library_logs()
    try:
        load_dotenv(_PATTERNS)
        drop_other_keys(_PATTERNS)
        parser = argparse.ArgumentParser(prog="python -m gateway")
        add_version(parser, "arena-llm-services")
        default = config_path("gateway.yaml")
        parser.add_argument("--config", type=Path, default=default, help=f"default: {default}")
        arguments = parser.parse_args()
        load: Any = partial(load_config, arguments.config, GatewayConfig)
        reloader = Reloader(arguments.config, load, _PATTERNS)
        config: GatewayConfig = load()
        use_batch_scheduling()
        return_freed_memory()
        tracing.name("arena-llm-gateway")
        if config.metrics is not None:
            meter.open("gateway")
        uvloop.run(run(config, reloader))
    except ConfigError as error:
        sys.exit(f"{error}")

"""Serves the metrics of a process over HTTP, and the pages of its service, in a thread."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from arena_llm.connection import is_loopback
from services.common.config import ConfigError
from services.common.metrics import meter

#: A content type, and the function that makes the content. It runs in a thread of its own.
Page = tuple[str, Callable[[], bytes]]

_PLAIN = "text/plain; charset=utf-8"
#: A page may load nothing from elsewhere, and no other page may show it in a frame.
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "frame-ancestors 'none'",
    ),
)


class _HttpServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, shares_port: bool) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.allow_reuse_port = shares_port
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without looking up the host's name, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """A scrape has no line in the log."""

    def address_string(self) -> str:
        """The caller's address, whose name is not looked up."""
        return str(self.client_address[0])


class Exporter:
    """The HTTP server of a process. Raises ConfigError if it cannot listen.

    pages: by path, beside /metrics. shares_port: with the other workers of a service.
    """

    def __init__(
        self, address: str, pages: Mapping[str, Page], *, shares_port: bool = False
    ) -> None:
        from prometheus_client import CONTENT_TYPE_LATEST

        self._pages = {"/metrics": (CONTENT_TYPE_LATEST, _render), **pages}
        self._is_local = _is_loopback(address)
        host, _, port = address.rpartition(":")
        try:
            self._server = _HttpServer(host.strip("[]"), int(port), shares_port)
        except OSError as error:
            raise ConfigError(
                f"metrics: cannot listen on {address}: {error.strerror or error}; stop the process "
                "that holds the port, or configure another one"
            ) from error
        self._server.set_app(self._answer)
        self.address = f"{host}:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        # A foreign site whose name resolves to this machine must not read the figures in a browser.
        if self._is_local and not _is_loopback(environ.get("HTTP_HOST", self.address)):
            start("403 Forbidden", [("Content-Type", _PLAIN), *_HEADERS])
            return [b"use the address of this machine, such as localhost\n"]
        page = self._pages.get(environ["PATH_INFO"])
        if page is None or environ["REQUEST_METHOD"] != "GET":
            start("404 Not Found", [("Content-Type", _PLAIN), *_HEADERS])
            return [f"this address has {', '.join(self._pages)}\n".encode()]
        kind, make = page
        content = make()
        start("200 OK", [("Content-Type", kind), *_HEADERS])
        return [content]


def _is_loopback(address: str) -> bool:
    """Whether host:port, or a host alone, is this machine's own."""
    try:
        return is_loopback(urlsplit(f"//{address}").hostname or "")
    except ValueError:
        return False


def _render() -> bytes:
    from prometheus_client import generate_latest

    return bytes(generate_latest(meter.collect()))

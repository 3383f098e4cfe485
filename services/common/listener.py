"""The listener of a server: its bounds and its encryption."""

from __future__ import annotations

import ssl
from typing import Any

import grpc

from arena_llm.connection import Options
from services.common.config import ConfigError, ServerTls, ServiceConfig
from services.common.log import log


def limit_options(config: ServiceConfig) -> Options:
    """Return gRPC's options for the bounds of connections."""
    return (
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.max_concurrent_streams", config.max_streams),
        ("grpc.max_connection_idle_ms", int(config.max_idle_seconds * 1000)),
    )


def add_listener(server: Any, listen: str, tls: ServerTls | None) -> int:
    """Let a server listen; return its port.

    Raises ConfigError for certificates that cannot be used, and RuntimeError for an address.
    """
    if tls is None:
        port: int = server.add_insecure_port(listen)
    else:
        port = server.add_secure_port(listen, Certificates(tls).credentials())
    return port


class Certificates:
    """The files of a listener, which are read again after they have changed.

    grpc asks for them at each new connection, in a thread of its own. Open connections keep what
    they have. Files that cannot be used are logged, and the last good ones stay in use.
    """

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._seen = self._stamp()

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a listener. Raises ConfigError if a file cannot be used."""
        try:
            first = self._load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(self._explain(error)) from error
        return grpc.dynamic_ssl_server_credentials(
            first, self.fetch, require_client_authentication=self._tls.client_ca is not None
        )

    def fetch(self) -> Any:
        """Return the configuration if the files have changed since the last one; else None."""
        if (stamp := self._stamp()) == self._seen:
            return None
        self._seen = stamp
        try:
            fresh = self._load()
        except (OSError, ssl.SSLError) as error:
            log.error("certificates not reloaded", reason=self._explain(error))
            return None
        log.info("certificates reloaded", certificate=self._tls.certificate)
        return fresh

    def _stamp(self) -> tuple[Any, ...]:
        stamps: list[Any] = []
        for path in self._tls.files:
            try:
                status = path.stat()
                stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError as error:
                stamps.append(error.errno)
        return tuple(stamps)

    def _load(self) -> Any:
        """Read the files, and check that the key is the certificate's."""
        tls = self._tls
        check = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        check.load_cert_chain(tls.certificate, tls.key, password=lambda: b"")
        if tls.client_ca is not None:
            check.load_verify_locations(tls.client_ca)
        return grpc.ssl_server_certificate_configuration(
            [(tls.key.read_bytes(), tls.certificate.read_bytes())],
            None if tls.client_ca is None else tls.client_ca.read_bytes(),
        )

    def _explain(self, error: OSError) -> str:
        names = ", ".join(map(str, self._tls.files))
        reason = getattr(error, "reason", None) or error.strerror or error
        where = f"{error.filename}: " if getattr(error, "filename", None) else ""
        return f"tls: {where}{reason}; these must be PEM files that belong together: {names}"

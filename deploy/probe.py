"""The state of services as seen from outside: health, ports, memory."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Collection

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arena_llm.connection import split_host_port
from arena_llm.tls import Tls, open_channel
from services.common.addresses import is_unix


def reachable(address: str) -> str:
    """The address at which a server that listens on this one can be called from this machine."""
    if is_unix(address):
        return address
    host, _, port = address.rpartition(":")
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host) + ":" + port  # noqa: S104


def health(address: str, tls: Tls | None = None, *, over_http: bool = False) -> str:
    """SERVING, NOT_SERVING, or UNREACHABLE. over_http: the service answers HTTP, at /ready."""
    return (_ask_ready if over_http else _ask_health)(reachable(address), tls)


_UNREACHABLE = "UNREACHABLE"


def _ask_health(target: str, tls: Tls | None) -> str:
    # A proxy from the environment is not for services of this machine.
    options = (("grpc.enable_http_proxy", 0),)
    with open_channel(grpc, target, tls, options) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return _UNREACHABLE
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def _ask_ready(target: str, tls: Tls | None) -> str:
    host, port = split_host_port(target)
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=_HTTP_SECONDS)
    try:
        if tls is not None:
            context = ssl.create_default_context(cafile=tls.ca or None)
            if tls.certificate:
                context.load_cert_chain(tls.certificate, tls.key)
            raw = socket.create_connection((host.strip("[]"), port), timeout=_HTTP_SECONDS)
            connection.sock = context.wrap_socket(raw, server_hostname=tls.server_name or host)
        connection.request("GET", "/ready")
        return "SERVING" if connection.getresponse().status == 200 else "NOT_SERVING"
    except (OSError, http.client.HTTPException):
        return _UNREACHABLE
    finally:
        connection.close()


def explain_tls(address: str, tls: Tls | None) -> str:
    """Why the encryption of a listener prevents calls; "" if it does not, or nothing listens.

    tls: how it would be called, by its configuration.
    """
    target = reachable(address)
    if is_unix(target):
        return ""
    host, port = split_host_port(target)
    host = host.strip("[]")
    context = ssl.create_default_context(cafile=tls.ca or None if tls else None)
    if tls is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif tls.certificate:
        context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), timeout=_TLS_SECONDS) as raw:
            try:
                name = (tls and tls.server_name) or host
                context.wrap_socket(raw, server_hostname=name).close()
            except ssl.SSLCertVerificationError as error:
                return f"its certificate is refused: {error.verify_message}"
            except TimeoutError:
                return ""
            except OSError:
                return "it listens without TLS, and its file has tls:" if tls else ""
    except OSError:
        return ""  # nothing listens
    return "" if tls else "it listens with TLS, and its file has no tls:"


_TLS_SECONDS = 2.0

#: More than a gateway waits for its router.
_HTTP_SECONDS = 7.0


def port_problem(address: str) -> str:
    """Why no server can listen on this address, and which process holds it; empty if one can."""
    if is_unix(address):
        return ""  # gRPC replaces a socket that a killed service has left
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host.strip("[]"), int(port)))
        except OSError as error:
            return f"{error.strerror}{_holder(int(port))}"
        except UnicodeError as error:
            return f"{host} is not a valid host name: {error}"
    return ""


def free_port_after(address: str, taken: Collection[str] = ()) -> int | None:
    """A free port above an address's own, in steps of 100; None if its own is 0 or all are used.

    taken: addresses that are not free, although nothing listens there yet.
    """
    if is_unix(address):
        return None
    host, _, port = address.rpartition(":")
    candidates = range(int(port) + 100, 65536, 100) if int(port) else ()
    return next(
        (
            free
            for free in candidates
            if (other := f"{host}:{free}") not in taken and not port_problem(other)
        ),
        None,
    )


def _holder(port: int) -> str:
    """Say in parentheses what holds the port: a server, or an outgoing connection."""
    try:
        sockets = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port]
    except psutil.Error:
        return ""
    # The default ports are among those that Linux gives to outgoing connections.
    sockets.sort(key=lambda c: (c.status != psutil.CONN_LISTEN, c.pid is None))
    for connection in sockets:
        process = "a process of another user"
        if connection.pid is not None:
            try:
                process = f"{psutil.Process(connection.pid).name()}, pid {connection.pid}"
            except psutil.Error:
                continue  # the process has just ended
        if connection.status == psutil.CONN_LISTEN:
            return f" (held by {process})"
        if connection.status == psutil.CONN_ESTABLISHED:
            return f" (a connection of {process} has it: try again when that has ended)"
        return " (a closing connection has it: try again in a minute)"
    return ""


def memory(pid: int) -> int:
    """Bytes resident in a process and its children. What they share counts once, where known."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                used = member.memory_full_info()
                total += getattr(used, "pss", used.rss)
    return total

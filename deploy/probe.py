"""What can be seen of services from outside: health, ports, memory."""

from __future__ import annotations

import contextlib
import socket

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arena_llm.tls import Tls, find_tls, open_channel
from services.common.config import is_unix


def reachable(address: str) -> str:
    """The address at which a server that listens on this one can be called from this machine."""
    if is_unix(address):
        return address
    host, _, port = address.rpartition(":")
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host) + ":" + port  # noqa: S104


def health(address: str) -> str:
    """SERVING, NOT_SERVING, or UNREACHABLE.

    Some listeners may be encrypted, and others not: with ARENA_LLM_CA and its like, both are tried.
    """
    settings = dict.fromkeys((find_tls(None), None))
    answers = (_ask_health(reachable(address), tls) for tls in settings)
    return next((answer for answer in answers if answer != _UNREACHABLE), _UNREACHABLE)


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


def free_port_after(address: str) -> int | None:
    """A free port above an address's own, in steps of 100; None if its own is 0 or all are used."""
    if is_unix(address):
        return None
    host, _, port = address.rpartition(":")
    candidates = range(int(port) + 100, 65536, 100) if int(port) else ()
    return next((free for free in candidates if not port_problem(f"{host}:{free}")), None)


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listening = connection.status == psutil.CONN_LISTEN and connection.pid
            if listening and connection.laddr and connection.laddr.port == port:
                name = psutil.Process(connection.pid).name()
                return f" (held by {name}, pid {connection.pid})"
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

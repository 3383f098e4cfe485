"""What can be seen from outside: health, ports, memory."""

from __future__ import annotations

import contextlib
import socket

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc


def reachable(address: str) -> str:
    """Where to call what listens at this address: all interfaces include loopback."""
    host, _, port = address.rpartition(":")
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host) + ":" + port  # noqa: S104


def health(address: str) -> str:
    """SERVING, NOT_SERVING, or UNREACHABLE."""
    # A proxy of the environment is not for this machine's own services.
    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(reachable(address), options=options) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return "UNREACHABLE"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def port_problem(address: str) -> str:
    """Why nothing can listen here, with the process that does; empty if it can."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host.strip("[]"), int(port)))
        except OSError as error:
            return f"{error.strerror}{_holder(int(port))}"
        except UnicodeError as error:
            return f"{host} is not a host's name: {error}"
    return ""


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listening = connection.status == psutil.CONN_LISTEN and connection.pid
            if listening and connection.laddr and connection.laddr.port == port:
                name = psutil.Process(connection.pid).name()
                return f" (held by {name}, pid {connection.pid})"
    return ""


def memory(pid: int) -> int:
    """Bytes resident in a process and its children."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total

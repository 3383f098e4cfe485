"""Addresses of listeners and services: "host:port", or the path of a socket."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from arena_llm import connection
from arena_llm.connection import check_socket_path, split_host_port


def _check_host_port(value: str) -> str:
    try:
        split_host_port(value, lowest_port=0)
    except ValueError as error:
        raise ValueError(
            f"{value!r} {error}: write host:port, such as 127.0.0.1:50051, with a name or an IP "
            "address (IPv6 in brackets) and a port from 0 to 65535"
        ) from None
    return value


def _check_address(value: str) -> str:
    if not is_unix(value):
        return _check_host_port(value)
    try:
        check_socket_path(value.removeprefix(_UNIX))
    except ValueError as error:
        raise ValueError(f"{value!r} {error}: write unix:PATH") from None
    return value


_UNIX = "unix:"


def is_unix(address: str) -> bool:
    """Whether an address is the path of a socket."""
    return address.startswith(_UNIX)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a listener."""
    return is_unix(address) or connection.is_loopback(address.rpartition(":")[0])


#: "host:port"; port 0 lets the system choose one.
HostPort = Annotated[str, AfterValidator(_check_host_port)]
#: The same, or "unix:PATH".
Address = Annotated[str, AfterValidator(_check_address)]

"""Targets: where calls go, in the forms that grpc takes."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from urllib.parse import unquote

from arena_llm.errors import InvalidArgumentError

TARGET_VARIABLE = "ARENA_LLM_TARGET"
DEFAULT_TARGET = "localhost:50050"

_FORM = (
    "write HOST:PORT, such as localhost:50050 "
    "(or dns:///HOST:PORT, ipv4:ADDRESS:PORT, ipv6:[ADDRESS]:PORT, unix:PATH)"
)
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
#: Bytes of a socket's path that the operating system takes.
_MAX_PATH = 107
#: A password in a URL, which an error must not show.
_PASSWORD = re.compile(r"(?<=//)[^/]*@")


def resolve_target(target: str | None) -> str:
    """Return the argument, else ARENA_LLM_TARGET, else localhost:50050.

    Raises InvalidArgumentError (reason INVALID_TARGET) if it has none of grpc's forms.
    """
    source = "argument"
    if target is None:
        target, source = os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET, TARGET_VARIABLE
    try:
        _check_text(target)
        hosts_of(target)
    except ValueError as error:
        shown = _PASSWORD.sub("***@", target) if isinstance(target, str) else target
        raise InvalidArgumentError(
            f"the target {shown!r} ({source}) {error}: {_FORM}",
            reason="INVALID_TARGET",
            field="target",
        ) from None
    return target


def is_local(target: str) -> bool:
    """Whether a target leads to this machine.

    It does if it is a Unix socket, or if one of its hosts is a loopback address or this
    machine's own name. No name is looked up. Raises ValueError as hosts_of does.
    """
    hosts = hosts_of(target)
    return not hosts or any(_is_this_machine(host) for host, _ in hosts)


def hosts_of(target: str) -> list[tuple[str, int]]:
    """Return the hosts and ports of a target; an empty list for a Unix socket.

    Raises ValueError, which says what is wrong, if the target has none of grpc's forms.
    """
    scheme, colon, rest = target.partition(":")
    match scheme.lower():
        case "unix" | "unix-abstract" if colon:
            _check_path(unquote(_path(rest)))
            return []
        case "ipv4" | "ipv6" as kind if colon:
            pairs = [_host_port(text) for text in unquote(_path(rest)).split(",")]
            for host, _ in pairs:
                if _address(host, socket.AF_INET if kind == "ipv4" else socket.AF_INET6) is None:
                    raise ValueError(f"has {host!r}, which is not an {kind} address")
            return pairs
        case "dns" if colon:
            # dns://SERVER/HOST:PORT names the server that is to resolve the host.
            rest = re.sub("^//[^/]+/", "", rest)
            return [_host_port(unquote(_path(rest)).removeprefix("/"))]
    if "://" in target:
        raise ValueError(f"begins with {_PASSWORD.sub('', scheme)}://, which is not for gRPC")
    return [_host_port(target)]


def _check_text(target: object) -> None:
    if not isinstance(target, str):
        raise ValueError("is not a string")
    if not target.strip():
        raise ValueError("is empty")
    if target != target.strip() or not target.isprintable():
        raise ValueError("has blanks around it or control characters")


def _path(rest: str) -> str:
    """The path of a URI that has no authority."""
    if not rest.startswith("//"):
        return rest
    if not rest.startswith("///"):
        raise ValueError("needs three slashes, or none, before the address")
    return rest.removeprefix("//")


def _check_path(path: str) -> None:
    if not path or "\0" in path:
        raise ValueError("has no path of a socket")
    if (size := len(os.fsencode(path))) > _MAX_PATH:
        raise ValueError(f"has a path of {size} bytes; a socket's path has at most {_MAX_PATH}")


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        raise ValueError("has no port")
    if not host:
        raise ValueError("has no host")
    if not re.fullmatch("[1-9][0-9]{0,4}", port, re.ASCII) or int(port) > 65535:
        raise ValueError(f"has the port {port!r}, which is not between 1 and 65535")
    if ":" in host and not host.startswith("["):
        raise ValueError("has an IPv6 address without brackets, or more than one port")
    if not _is_host(host):
        raise ValueError(f"has {host!r}, which is not a host")
    return host, int(port)


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return host.endswith("]") and _address(host, socket.AF_INET6) is not None
    if host.rstrip(".").rpartition(".")[2].isdecimal():
        # The last part of a name is never a number: this is meant to be an address.
        return _address(host, socket.AF_INET) is not None
    return len(host) <= 253 and _NAME.fullmatch(host) is not None


def _address(
    host: str, family: socket.AddressFamily
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address, in every spelling that the system knows, such as 127.1.

    None for a name.
    """
    try:
        infos = socket.getaddrinfo(
            host.strip("[]"), None, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
        return ipaddress.ip_address(infos[0][4][0])
    except (OSError, ValueError):
        return None


def _is_this_machine(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name in {"localhost", socket.gethostname().lower()} or name.endswith(".localhost"):
        return True
    address = _address(host, socket.AF_UNSPEC)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    # To connect to the unspecified address is to connect to this machine.
    return address is not None and (address.is_loopback or address.is_unspecified)

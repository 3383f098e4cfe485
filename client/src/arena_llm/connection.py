"""Connections: the forms of a target that grpc accepts, and the options of both ends.

grpc ignores a channel option whose name it does not know. A test therefore compares every
name with those in grpc's library.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypedDict
from urllib.parse import unquote

from arena_llm.errors import InvalidArgumentError
from arena_llm.tls import SWITCH, VARIABLES, Tls, find_tls

TARGET_VARIABLE = "ARENA_LLM_TARGET"
TOKEN_VARIABLE = "ARENA_LLM_TOKEN"  # noqa: S105 - a name, not a token
#: The router's configuration file reads its port from the same variable.
PORT_VARIABLE = "ARENA_ROUTER_PORT"
#: Of the router's metrics and its page.
METRICS_PORT_VARIABLE = "ARENA_ROUTER_METRICS_PORT"
DEFAULT_PORT = 50050
#: Default timeout of a call in seconds: enough for a long completion behind a full queue.
DEFAULT_TIMEOUT = 600.0

Options = tuple[tuple[str, int], ...]

#: The largest message in bytes, sent or received. grpc's default of 4 MiB is too small for
#: long prompts and images. Without a bound one message could fill the memory, and copying a larger
#: one delays all other calls of a process.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024

#: A caller pings its server after PING_MS without data, and closes the connection when no
#: answer comes within PING_TIMEOUT_MS: it notices a hanging server within 30 seconds. A server
#: whose machine is overloaded can need several seconds for an answer; a shorter timeout would
#: fail its running calls, which cost money.
PING_MS = 10_000
PING_TIMEOUT_MS = 18_000

_FORM = (
    "write HOST:PORT, such as localhost:50050 "
    "(or dns:///HOST:PORT, ipv4:ADDRESS:PORT, ipv6:[ADDRESS]:PORT, unix:PATH)"
)
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
#: The longest path of a socket, in bytes, that the operating system accepts.
_MAX_PATH = 107
#: A password in a URL, which an error must not show.
_PASSWORD = re.compile(r"(?<=//)[^/]*@")
_SETTINGS = "|".join(
    (
        *(TARGET_VARIABLE, PORT_VARIABLE, METRICS_PORT_VARIABLE, TOKEN_VARIABLE, SWITCH),
        *VARIABLES.values(),
    )
)
_SETTING = re.compile(rf"""^\s*(?:export\s+)?({_SETTINGS})\s*=\s*["']?([^"'#\s]*)""", re.M)


def message_options() -> Options:
    """Return the options that channels and servers share: size and compression."""
    return (
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Accept uncompressed messages only (bit 0). grpc checks the size of a message
        # before it unpacks it, so that 1 MB of gzip could take gigabytes of memory.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    )


def ping_options() -> Options:
    """Return the options that make a channel or a server ping the other end while a call runs."""
    return (
        ("grpc.keepalive_time_ms", PING_MS),
        # With grpc.keepalive_timeout_ms instead, a hanging server was noticed after 70 s.
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
        # 0 is no limit: a provider can be silent for minutes.
        ("grpc.http2.max_pings_without_data", 0),
    )


def accept_ping_options() -> Options:
    """Return the options that make a server accept the pings of `ping_options`.

    By default a server closes a connection, with all its calls, if it is pinged more often
    than every five minutes.
    """
    return (
        ("grpc.http2.min_ping_interval_without_data_ms", PING_MS // 2),
        # The router also pings between calls.
        ("grpc.keepalive_permit_without_calls", 1),
    )


def reconnect_options(timeout_ms: int) -> Options:
    """Return the options that make a channel find a restarted server within a second.

    The server may have another address then: grpc looks its name up after a lost connection.

    timeout_ms: the time to connect in milliseconds, after which the attempt has failed.
    """
    return (
        # grpc would wait for up to two minutes between two attempts.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # In spite of its name this is the timeout of connecting.
        ("grpc.min_reconnect_backoff_ms", timeout_ms),
        # grpc would look a name up every 30 seconds at most.
        ("grpc.dns_min_time_between_resolutions_ms", 1000),
    )


def read_checkout_settings(folder: Path) -> dict[str, str]:
    """Return the client's variables that the .env of the checkout sets.

    folder: a checkout of this project, or a folder inside one. Elsewhere the result is empty.
    """
    for parent in (folder, *folder.parents):
        if (parent / "configs/router.yaml").is_file():
            try:
                text = (parent / ".env").read_text(encoding="utf-8", errors="replace")
            except OSError:
                return {}
            return dict(_SETTING.findall(text))
    return {}


def resolve_target(target: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the argument, else ARENA_LLM_TARGET, else localhost:$ARENA_ROUTER_PORT.

    If none is set: localhost:50050. Raises InvalidArgumentError (reason
    INVALID_TARGET) if the target has none of grpc's forms.
    """
    source = "argument"
    if target is None:
        source, target = TARGET_VARIABLE, environ.get(TARGET_VARIABLE, "")
        if not target:
            port = environ.get(PORT_VARIABLE) or DEFAULT_PORT
            source, target = PORT_VARIABLE, f"localhost:{port}"
    try:
        _check_text(target)
        parse_hosts(target)
    except ValueError as error:
        shown = _PASSWORD.sub("***@", target) if isinstance(target, str) else target
        raise InvalidArgumentError(
            f"the target {shown!r} ({source}) {error}: {_FORM}",
            reason="INVALID_TARGET",
            field="target",
        ) from None
    return target


def resolve_token(token: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the argument, else ARENA_LLM_TOKEN, else "": calls are sent without a token.

    Raises InvalidArgumentError for a token that no header can hold. The message never shows it.
    """
    source = "argument"
    if token is None:
        source, token = TOKEN_VARIABLE, environ.get(TOKEN_VARIABLE, "").strip()
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]*", token):
        raise InvalidArgumentError(
            f"the token ({source}) must be one word of printable ASCII characters",
            reason="INVALID_REQUEST",
            field="token",
        )
    return token


class ConnectionSettings(TypedDict):
    """The arguments of a client that say where and how it connects."""

    target: str
    token: str
    tls: Tls | bool


def find_connection(target: str | None) -> ConnectionSettings:
    """Return the connection of a command: the argument, else the environment, else .env."""
    environ = {**read_checkout_settings(Path.cwd()), **os.environ}
    return ConnectionSettings(
        target=resolve_target(target, environ),
        token=resolve_token(None, environ),
        tls=find_tls(None, environ) or False,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener at a host. False for names except localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_local(target: str) -> bool:
    """Whether a target is on this machine.

    True for a Unix socket, and if one of the hosts is a loopback address or this machine's
    own name. No name is looked up. Raises ValueError as parse_hosts does.
    """
    hosts = parse_hosts(target)
    return not hosts or any(_is_this_machine(host) for host, _ in hosts)


def parse_hosts(target: str) -> list[tuple[str, int]]:
    """Return the hosts and ports of a target; an empty list for a Unix socket.

    Raises ValueError if the target has none of grpc's forms.
    """
    scheme, colon, rest = target.partition(":")
    match scheme.lower():
        case "unix" | "unix-abstract" if colon:
            check_socket_path(unquote(_strip_authority(rest)))
            return []
        case "ipv4" | "ipv6" as kind if colon:
            family = socket.AF_INET if kind == "ipv4" else socket.AF_INET6
            pairs = [split_host_port(text) for text in unquote(_strip_authority(rest)).split(",")]
            for host, _ in pairs:
                if _parse_address(host, family) is None:
                    raise ValueError(f"has {host!r}, which is not an {kind} address")
            return pairs
        case "dns" if colon:
            # In dns://SERVER/HOST:PORT, SERVER is the name server that resolves the host.
            rest = re.sub("^//[^/]+/", "", rest)
            return [split_host_port(unquote(_strip_authority(rest)).removeprefix("/"))]
    if "://" in target:
        raise ValueError(f"begins with {_PASSWORD.sub('', scheme)}://, which gRPC does not use")
    return [split_host_port(target)]


def _check_text(target: object) -> None:
    if not isinstance(target, str):
        raise ValueError("is not a string")
    if not target.strip():
        raise ValueError("is empty")
    if target != target.strip() or not target.isprintable():
        raise ValueError("has blanks around it or control characters")


def _strip_authority(rest: str) -> str:
    """Return the path of a URI without an authority."""
    if not rest.startswith("//"):
        return rest
    if not rest.startswith("///"):
        raise ValueError("needs three slashes, or none, before the address")
    return rest.removeprefix("//")


def check_socket_path(path: str) -> None:
    """Raise ValueError, with what is wrong, for a path at which no socket can be."""
    if not path or "\0" in path:
        raise ValueError("has no path of a socket")
    if (size := len(os.fsencode(path))) > _MAX_PATH:
        raise ValueError(f"has a path of {size} bytes; a socket's path has at most {_MAX_PATH}")


def split_host_port(text: str, lowest_port: int = 1) -> tuple[str, int]:
    """Return host and port of HOST:PORT; an IPv6 address keeps its brackets.

    Raises ValueError for any other text, with what is wrong with it.
    """
    host, colon, port = text.rpartition(":")
    if "//" in text:
        raise ValueError("is a URL")
    if not colon or port.endswith("]"):
        raise ValueError("has no port")
    if not host:
        raise ValueError("has no host")
    is_number = re.fullmatch("[0-9]{1,5}", port, re.ASCII)
    if not is_number or not lowest_port <= int(port) <= 65535 or port != str(int(port)):
        raise ValueError(f"has the port {port!r}, which is not between {lowest_port} and 65535")
    if ":" in host and not host.startswith("["):
        raise ValueError("has an IPv6 address without brackets, or more than one port")
    if not _is_host(host):
        raise ValueError(f"has {host!r}, which is not a host")
    return host, int(port)


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return host.endswith("]") and _parse_address(host, socket.AF_INET6) is not None
    if host.rstrip(".").rpartition(".")[2].isdecimal():
        # The last part of a name is never a number, so this must be an address.
        return _parse_address(host, socket.AF_INET) is not None
    return len(host) <= 253 and _NAME.fullmatch(host) is not None


def _parse_address(
    host: str, family: socket.AddressFamily
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address in every spelling that the system knows, such as 127.1.

    Returns None for a host's name.
    """
    with suppress(ValueError):  # the usual spellings
        address = ipaddress.ip_address(host.strip("[]"))
        versions = {socket.AF_INET: 4, socket.AF_INET6: 6}
        return address if versions.get(family, address.version) == address.version else None
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
    address = _parse_address(host, socket.AF_UNSPEC)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    # A connection to the unspecified address (0.0.0.0 or ::) goes to this machine.
    return address is not None and (address.is_loopback or address.is_unspecified)

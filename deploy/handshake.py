"""Tries in memory, before a service starts, whether its callers can trust its certificate.

It uses the standard library alone, because the part `cryptography` may be missing.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from arena_llm.tls import Tls
from services.common.config import ConfigError, ConnectionTls, ServerTls, load_config

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_certificate(path: Path) -> Mapping[str, Any]:
    """Return a certificate as ssl.SSLSocket.getpeercert does. Raises OSError."""
    found: dict[str, Any] = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
    return found


def find_server_name(path: Path, host: str) -> str:
    """Return a name by which a certificate can be checked; "" if `host` is in the certificate.

    A listener's address need not be in it, because callers elsewhere may use a name.
    """
    try:
        names = read_certificate(path).get("subjectAltName", ())
    except OSError:
        return ""  # the service says what is wrong with the file
    if is_for(names, host):
        return ""
    return next((name for kind, name in names if kind == "DNS" and "*" not in name), "")


def is_for(names: Any, host: str) -> bool:
    """Whether a certificate with these alternative names is for a host."""
    address = find_ip(host)
    if address is not None:
        return address in [find_ip(name) for kind, name in names if kind == "IP Address"]
    return ("DNS", host) in names


def find_ip(host: str) -> IpAddress | None:
    """Return an IP address; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def try_handshake(server: ServerTls, caller: Tls, host: str) -> str:
    """Return why a caller and this listener cannot connect; empty if they can."""
    try:
        here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        here.load_cert_chain(server.certificate, server.key)
        if server.client_ca is not None:
            here.verify_mode = ssl.CERT_REQUIRED
            here.load_verify_locations(server.client_ca)
        there = ssl.create_default_context(cafile=caller.ca or None)
        if caller.certificate:
            there.load_cert_chain(caller.certificate, caller.key)
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = caller.server_name or host.strip("[]")
        ends = {
            "certificate": there.wrap_bio(down, up, server_hostname=name),
            "client_ca": here.wrap_bio(up, down, server_side=True),
        }
    except OSError as error:
        return f"tls: {error.strerror or error}"
    for _ in range(4):  # rounds of messages; TLS needs two
        for part, end in ends.items():
            try:
                end.do_handshake()
                end.read(1)  # with TLS 1.3 the server looks at the caller's certificate last
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                reason = getattr(error, "verify_message", "") or error.reason or str(error)
                return f"tls.{part}: {reason}"
    return ""


class _Door(BaseModel):
    """How the gateway calls the router."""

    router: str = "localhost:50050"
    router_tls: ConnectionTls | None = None


def check_gateway(path: Path, router: str, tls: ServerTls | None) -> None:
    """Raise ConfigError if the gateway's configuration does not lead to the router of this system.

    router: where the router can be called. tls: its encryption.
    """
    door = load_config(path, _Door)
    host, _, port = door.router.rpartition(":")
    address = find_ip("127.0.0.1" if host == "localhost" else host)
    if address is None or not address.is_loopback:
        return  # a router on another machine, or another name of this machine
    if f"{address}:{port}" != router.replace("[", "").replace("]", ""):
        raise ConfigError(f"{path}: router: the router listens on {router}, not on {door.router}")
    if (tls is None) != (door.router_tls is None):
        remedy = "leave it out" if tls is None else "write router_tls: {ca: certs/ca.crt}"
        has = "has no tls" if tls is None else "has tls"
        raise ConfigError(f"{path}: router_tls: the router {has}: {remedy} (docs/security.md)")

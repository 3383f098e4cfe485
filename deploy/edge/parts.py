"""Small parts of Envoy's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.common.addresses import is_unix

Json = dict[str, Any]

_TYPES = "type.googleapis.com/envoy"
#: No limit of time.
FOREVER = "0s"
#: Both ends notice within 15 seconds that the other one has vanished.
PING = {"interval": "10s", "timeout": "5s"}


def typed(kind: str, settings: Mapping[str, Any]) -> Json:
    """Return settings with their type in Envoy's API."""
    return {"@type": f"{_TYPES}.{kind}", **settings}


def follow(name: str) -> Json:
    """Return the file whose changes Envoy follows."""
    return {"resource_api_version": "V3", "path_config_source": {"path": f"./{name}.json"}}


def match_header(name: str, how: str, value: object) -> Json:
    """Return a condition for a header: exact, prefix or safe_regex."""
    return {"name": name, "string_match": {how: value}}


def make_address(address: str) -> Json:
    """Return an address in Envoy's form."""
    if is_unix(address):
        return {"pipe": {"path": str(Path(address.removeprefix("unix:")).absolute())}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def name_pair(certificate: Path, key: Path) -> Json:
    """Return a certificate with its key."""
    return {
        "certificate_chain": {"filename": str(certificate.absolute())},
        "private_key": {"filename": str(key.absolute())},
    }


def make_trust(authorities: Path) -> Json:
    """Return the authorities whose certificates are trusted."""
    return {"trusted_ca": {"filename": str(authorities.absolute())}}


def make_tls(kind: str, settings: Json) -> Json:
    """Return the encryption of a listener or of a cluster."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": typed(f"extensions.transport_sockets.tls.v3.{kind}", settings),
    }

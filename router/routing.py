"""Pure functions that choose the backend of a call and build its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

import grpc

from router.config import ip_version
from services.common.addresses import is_unix
from services.common.digits import read_digits
from services.common.errors import RouteLoop, UnknownPrefix
from services.common.hops import HOPS_HEADER
from services.common.tenant import TENANT_HEADER
from services.common.validation import MAX_NAME, check_model_is_set

Metadata = tuple[tuple[str, str | bytes], ...]


class Headers(grpc.aio.Metadata):
    """Metadata that is only sent: grpc.aio builds no dictionary of it, which saves 5 us a call."""

    def __init__(self, pairs: Metadata) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return iter(self._pairs)


#: The session, else the request_id, percent-encoded; the ring hash chooses a replica by it.
SESSION_HEADER = "arena-session"
#: The name of the model, by which proxies choose a route.
MODEL_HEADER = "arena-model"
#: Routers in a row that a call may pass. A call that passes more goes in a circle.
MAX_HOPS = 4

#: The metadata with the caller's token, which only the router needs.
AUTHORIZATION = "authorization"

#: Headers of the caller's own connection, which are not forwarded.
_NOT_FORWARDED = frozenset({"user-agent", "content-type", "te", "host", HOPS_HEADER, AUTHORIZATION})
_RESERVED = ("grpc-", ":")


def find_prefix(model: str, prefixes: Iterable[str]) -> str:
    """Return the longest of the prefixes that a model's name starts with.

    Raises InvalidRequest if the model is empty, UnknownPrefix if no prefix fits.
    """
    check_model_is_set(model)
    prefixes = tuple(prefixes)
    found = ""
    for prefix in prefixes:
        if len(prefix) > len(found) and model.startswith(prefix):
            found = prefix
    if not found:
        raise UnknownPrefix(
            f"no backend serves {model[:MAX_NAME]!r}: a model's name starts with one of "
            f"{', '.join(prefixes)}",
            field="model",
            metadata={"model": model[:MAX_NAME], "prefixes": ", ".join(prefixes)},
        )
    return found


def build_metadata(
    received: Iterable[tuple[str, str | bytes]],
    session: str = "",
    tenant: str = "",
    model: str = "",
) -> Metadata:
    """Return the metadata for the backend: the caller's headers, the hops and the session.

    tenant: the name of the caller's token; "": that of the caller's headers, if any. model: the
    model that is called, which may differ from the one that the caller's header names.

    A header holds printable ASCII only, so the session is percent-encoded. It is cut after
    MAX_NAME characters: every backend refuses a longer one.

    Raises RouteLoop if the call has passed MAX_HOPS routers.
    """
    hops = "0"
    has_session = not session
    metadata: list[tuple[str, str | bytes]] = []
    for key, value in received:
        if key == HOPS_HEADER:
            hops = str(value)
        elif key == TENANT_HEADER and tenant:
            pass  # only the router knows who calls
        elif key == MODEL_HEADER and model and value != model:
            if model.isascii() and model.isprintable():
                metadata.append((key, model))
        elif key not in _NOT_FORWARDED and not key.startswith(_RESERVED):
            metadata.append((key, value))
            has_session = has_session or key == SESSION_HEADER
    metadata.append((HOPS_HEADER, _count_hop(hops)))
    if tenant:
        metadata.append((TENANT_HEADER, tenant))
    if not has_session:
        metadata.append((SESSION_HEADER, quote(session[:MAX_NAME])))
    return tuple(metadata)


def _count_hop(hops: str) -> str:
    passed = read_digits(hops) or 0
    if passed >= MAX_HOPS:
        raise RouteLoop(
            f"the call has passed {MAX_HOPS} routers: a route leads back to a router; fix "
            "the targets under routes in the configuration of the routers (configs/router.yaml)"
        )
    return str(passed + 1)


def build_target(targets: Sequence[str]) -> str:
    """Return the targets in gRPC's naming (ipv4:a,b, ipv6:a,b, dns:///name or unix:path)."""
    if is_unix(targets[0]):
        return targets[0]
    versions = {ip_version(target) for target in targets}
    if None in versions:
        return f"dns:///{targets[0]}"
    if versions == {4}:
        return f"ipv4:{','.join(targets)}"
    return f"ipv6:{','.join(map(_map_to_ipv6, targets))}"


def _map_to_ipv6(target: str) -> str:
    """Return an IPv4 address in its form for IPv6, because gRPC takes only one of both."""
    host, _, port = target.rpartition(":")
    return target if ip_version(target) == 6 else f"[::ffff:{host}]:{port}"


#: Entries of each replica on the ring that chooses a session's replica. By default, all replicas
#: share about 1,024 entries: the busiest of 100 replicas has 1.9 times its share, and of 1,000
#: replicas 5.4 times. With 128 entries each it has 1.2 and 1.3 times. By default a new replica also
#: takes entries from the old ones, so that sessions move between those.
_RING_ENTRIES = 128
#: gRPC cuts a ring off at 4,096 entries unless a channel's option allows more.
LARGEST_RING = 1 << 20


def build_service_config(policy: str, replicas: int = 1, *, has_health: bool = True) -> str:
    """Return the load balancing of one route, as gRPC's service config (JSON).

    has_health: the targets have the health service.

    Both policies skip a replica whose connection is down or whose health is not SERVING,
    so that a replica that still loads its model gets no calls.
    """
    balancing: dict[str, dict[str, object]] = (
        {
            "ring_hash_experimental": {
                "requestHashHeader": SESSION_HEADER,
                "minRingSize": min(LARGEST_RING, _RING_ENTRIES * replicas),
                "maxRingSize": min(LARGEST_RING, _RING_ENTRIES * replicas),
            }
        }
        if policy == "session"
        else {"round_robin": {}}
    )
    checks = {"healthCheckConfig": {"serviceName": ""}} if has_health else {}
    return json.dumps({"loadBalancingConfig": [balancing], **checks})

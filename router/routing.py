"""Where a call goes and what goes with it: pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from router.config import Route, ip_version
from services.common.errors import InvalidRequest, UnknownPrefix

Metadata = tuple[tuple[str, str | bytes], ...]

SESSION_HEADER = "arena-session"

#: Of the caller's own connection, or gRPC's own: not to be passed on.
_OWN = frozenset({"user-agent", "content-type", "te", "host"})
_RESERVED = ("grpc-", ":")


def prefix_of(model: str, prefixes: Iterable[str]) -> str:
    """The longest of the prefixes that the model's name starts with.

    Raises InvalidRequest without a model, UnknownPrefix where none fits.
    """
    if not model.strip():
        raise InvalidRequest("model must be set, such as hf_smollm2-135m-instruct", field="model")
    known = tuple(prefixes)
    fitting = [prefix for prefix in known if model.startswith(prefix)]
    if not fitting:
        raise UnknownPrefix(
            f"no backend serves {model[:256]!r}: a model's name starts with one of "
            f"{', '.join(known)}",
            field="model",
        )
    return max(fitting, key=len)


def forwarded(metadata: Iterable[tuple[str, str | bytes]], session: str) -> Metadata:
    """The caller's metadata for the backend, with the session for the ring hash.

    A header holds printable ASCII only, so the session is percent-encoded; longer
    ones than 256 characters are cut, as every backend refuses them.
    """
    passed = [
        (key, value) for key, value in metadata if key not in _OWN and not key.startswith(_RESERVED)
    ]
    if session and all(key != SESSION_HEADER for key, _ in passed):
        passed.append((SESSION_HEADER, quote(session[:256])))
    return tuple(passed)


def channel_target(targets: Sequence[str]) -> str:
    """The targets in gRPC's naming (ipv4:a,b or ipv6:a,b or dns:///name)."""
    version = ip_version(targets[0])
    return f"ipv{version}:{','.join(targets)}" if version else f"dns:///{targets[0]}"


def service_config(policy: str) -> str:
    """The load balancing of one route, as gRPC's service config (JSON).

    Either policy leaves out a replica whose connection is down or whose health
    says that it is not serving, so one that still loads its model gets no calls.
    """
    balancing: dict[str, dict[str, object]] = (
        {"ring_hash_experimental": {"requestHashHeader": SESSION_HEADER}}
        if policy == "session"
        else {"round_robin": {}}
    )
    return json.dumps(
        {"loadBalancingConfig": [balancing], "healthCheckConfig": {"serviceName": ""}}
    )


def backend_name(prefix: str) -> str:
    """What people call the backend of a prefix: "hf" for "hf_"."""
    return prefix.removesuffix("_")


def down_message(name: str, route: Route, problem: str) -> str:
    """What is wrong with a backend, where it should be, and what to do."""
    remedy = f"start it with `{route.start}`" if route.start else "see that it runs"
    return f"backend {name} at {', '.join(route.targets)} {problem}; {remedy}"

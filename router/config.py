"""configs/router.yaml: which prefix is served where."""

from __future__ import annotations

import ipaddress
import socket
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from services.common.config import Address, ServiceConfig, StrictModel


def split_address(address: str) -> tuple[str, str]:
    """("127.0.0.1", "50054"), or ("[::1]", "50054")."""
    host, _, port = address.rpartition(":")
    return host, port


def ip_version(address: str) -> int | None:
    """4 or 6; None for the name of a host."""
    try:
        return ipaddress.ip_address(split_address(address)[0].strip("[]")).version
    except ValueError:
        return None


def leads_to(listen: str, target: str) -> bool:
    """Whether who calls the target reaches what listens there, by whichever name of it.

    Names are looked up only where the ports are the same. One that nobody knows (yet)
    leads nowhere.
    """
    (host, port), (other, theirs) = split_address(listen), split_address(target)
    if port != theirs or port == "0":
        return False
    own, found = _resolved(host), _resolved(other)
    if own & _ANY:
        return any(map(_is_here, found))
    # Who calls "all addresses" calls loopback.
    return not own.isdisjoint(found | ({"127.0.0.1", "::1"} if found & _ANY else set()))


_ANY = {"0.0.0.0", "::"}  # noqa: S104 - it is looked for, not listened on


def _resolved(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {str(address[0]) for *_, address in found}


def _is_here(address: str) -> bool:
    """Whether it is an address of this machine: on others nothing can be bound."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as trial:
        try:
            trial.bind((address, 0))
        except OSError:
            return False
    return True


def _targets(targets: list[str]) -> list[str]:
    for index, target in enumerate(targets):
        if split_address(target)[1] == "0":
            raise ValueError(f"{target!r} has port 0, where nothing can listen")
        if target in targets[:index]:
            raise ValueError(f"{target!r} is listed twice")
    versions = {ip_version(target) for target in targets}
    if len(targets) > 1 and (None in versions or len(versions) > 1):
        # What gRPC can resolve in one channel: ipv4:a,b or ipv6:a,b or dns:///name.
        raise ValueError(
            "several targets must be IP addresses of one kind; a host's name stands alone, "
            "and every address that it resolves to is used"
        )
    return targets


class Route(StrictModel):
    """Where the models of one prefix are served.

    targets: host:port of each replica: several IP addresses, or one host's name,
    every address of which is a replica.
    policy: which replica takes a call: each in turn, or by the request's session,
    which then stays on one replica as long as that is up.
    start: how a person starts the backend; errors say so while it is down.
    """

    targets: Annotated[list[Address], Field(min_length=1), AfterValidator(_targets)]
    policy: Literal["round_robin", "session"] = "round_robin"
    start: str = ""


Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]


class RouterConfig(ServiceConfig):
    """The whole file.

    routes: by prefix; the longest that a model's name starts with takes the call.
    ask_timeout_seconds: how long ListModels and IsAvailable wait for a backend.
    """

    routes: Annotated[dict[Prefix, Route], Field(min_length=1)]
    ask_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0

    @model_validator(mode="after")
    def _not_itself(self) -> Self:
        for prefix, route in self.routes.items():
            for target in route.targets:
                if leads_to(self.listen, target):
                    raise ValueError(f"routes.{prefix}: {target} is where the router listens")
        return self

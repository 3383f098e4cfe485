"""configs/router.yaml: which backend serves which prefix."""

from __future__ import annotations

import ipaddress
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    StringConstraints,
    model_validator,
)

from services.common.addresses import Address, HostPort, is_loopback, is_unix
from services.common.config import ConnectionTls, SharedConfig, StrictModel
from services.common.validation import MAX_FALLBACKS


def ip_version(address: str) -> int | None:
    """Return 4 or 6 for host:port with an IP address; None for a host's name."""
    try:
        return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).version
    except ValueError:
        return None


def is_one_address(target: str) -> bool:
    """Whether a target is one address, not a host's name, which may have several."""
    return is_unix(target) or ip_version(target) is not None


def _check_targets(targets: list[str]) -> list[str]:
    for index, target in enumerate(targets):
        if target.endswith(":0"):
            raise ValueError(f"{target!r} has port 0, where nothing can listen")
        if target in targets[:index]:
            raise ValueError(f"{target!r} is listed twice")
    versions = {ip_version(target) for target in targets}
    if len(targets) > 1 and (None in versions or len(versions) > 1):
        # gRPC resolves one of these in a channel: ipv4:a,b or ipv6:a,b or dns:///name.
        raise ValueError(
            "several targets must be IP addresses of one version; a host's name stands alone, "
            "and every address that it resolves to is used"
        )
    return targets


class Route(StrictModel):
    """Where the models of one prefix are served.

    targets: host:port of each replica: several IP addresses, or one host's name. If a name
    has several addresses, each is a replica.
    policy: how a replica is chosen: session sends all calls of a session, and all calls with the
    same request_id, to the same replica while that is up; round_robin takes each in turn, so that
    another replica may answer a repeated request.
    start: the command that starts the backend; errors show it while the backend is down.
    connections: to each target. A target with several workers needs several, because each
    connection leads to one worker. A call takes the connection with the fewest calls.
    tls: the encryption of these connections; None: none.
    hold: calls, of each worker, that may wait for a replica while none serves, each until its
    deadline; 0: such a call fails with BACKEND_DOWN. For a backend that scales to zero.
    application: the target is the ingress of Ray Serve, which runs the backend under this name.
    It gets the name, and what remains of the deadline, as metadata.
    """

    targets: Annotated[list[Address], Field(min_length=1), AfterValidator(_check_targets)]
    policy: Literal["round_robin", "session"] = "session"
    start: str = ""
    connections: Annotated[int, Field(ge=1, le=256)] = 1
    tls: ConnectionTls | None = None
    hold: Annotated[int, Field(ge=0)] = 0
    application: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]*$")] = ""

    @model_validator(mode="after")
    def _check_server_name(self) -> Self:
        if self.tls and len(self.targets) > 1 and not self.tls.server_name:
            raise ValueError(
                "tls.server_name: several targets need a name that all certificates have"
            )
        return self


def _read_blank(value: Any) -> Any:
    """Return None for the value of a variable that is not set."""
    return value or None


def _in_run_dir(name: str) -> Path:
    return Path(os.environ.get("ARENA_RUN_DIR") or ".run") / name


Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]


FallbackList = Annotated[list[str], Field(min_length=1, max_length=MAX_FALLBACKS)]


_CACHE_SCHEMES = ("valkey", "valkeys", "unix")


def _default_cache() -> str:
    return os.path.join(os.environ.get("ARENA_CACHE_DIR") or ".cache", "replies.sqlite")


class CacheConfig(StrictModel):
    """The section `cache`: where replies are kept, and for which calls.

    mode: cache answers an equal call again; record forwards every call and keeps its reply; replay
    answers with the recorded replies alone, and calls no backend. store: a file of this machine,
    relative to the working directory, or valkey://HOST:PORT, which several routers can share.
    models: patterns of names; other models are never answered by the cache. max_bytes: of all
    replies in the file; the least recently used ones are dropped. A Valkey server has its own
    bound (maxmemory). max_reply_bytes: a larger reply is not kept. max_age_seconds: of a reply.
    A recording has no bounds of bytes and age.
    """

    mode: Literal["cache", "record", "replay"] = "cache"
    store: Annotated[str, Field(min_length=1)] = Field(default_factory=_default_cache)
    models: Annotated[list[str], Field(min_length=1)] = Field(["*"])
    max_bytes: PositiveInt = 2**30
    max_reply_bytes: PositiveInt = 4 * 2**20
    max_age_seconds: Annotated[float, Field(gt=0, le=10 * 365 * 86_400)] = 30 * 86_400.0

    @property
    def is_shared(self) -> bool:
        """Whether the store is a server, and not a file."""
        return urlsplit(self.store).scheme in _CACHE_SCHEMES

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.is_shared and self.mode != "cache":
            raise ValueError(f"mode {self.mode} needs a file as store")
        return self


#: Patterns of the variables that the file may name, besides ARENA_*.
ENVIRONMENT = ("VALKEY_*",)


class RouterConfig(SharedConfig):
    """The whole file.

    routes: by prefix. A call goes to the longest prefix that its model's name starts with.
    replicas: the file of the replicas that `make scale` has started, see router/targets.py;
    default: replicas.json in $ARENA_RUN_DIR. ask_timeout_seconds: how long ListModels and
    IsAvailable wait for a backend. tokens: the file of tokens, relative to the working directory,
    see router/tokens.py; None: anybody may call. usage: the file that counts what each token uses;
    default: usage.sqlite in $ARENA_RUN_DIR. open_health, open_reflection: whether these services
    need no token. edge: the address of Envoy, see deploy/edge. fallbacks: by model, the models that
    answer if it cannot, for a reason that waiting does not fix. They are used for requests that do
    not set `fallback_models`. cache: answers equal calls again, records or replays; None: no cache.
    """

    # Half of max_calls_in_flight, so that one machine cannot take all of it. A service has one
    # caller, the router.
    max_calls_of_address: Annotated[int, Field(ge=0)] = 2048
    routes: Annotated[dict[Prefix, Route], Field(min_length=1)]
    ask_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    replicas: Path = Field(default_factory=partial(_in_run_dir, "replicas.json"))
    tokens: Annotated[Path | None, BeforeValidator(_read_blank)] = None
    usage: Path = Field(default_factory=partial(_in_run_dir, "usage.sqlite"))
    open_health: bool = True
    open_reflection: bool = False
    edge: HostPort | None = None
    fallbacks: dict[str, FallbackList] = Field({})
    cache: CacheConfig | None = None

    @classmethod
    def needs_restart(cls, key: str) -> bool:
        """Whether a running router keeps the value of a key when its file changes."""
        return key in ("usage", "edge") or super().needs_restart(key)

    @model_validator(mode="after")
    def _check_edge(self) -> Self:
        is_safe = self.tls is not None and self.knows_callers
        if self.edge and not is_safe and not self.insecure and not is_loopback(self.edge):
            raise ValueError(
                f"edge: other machines can reach {self.edge}: it needs the router's tls and tokens "
                "(see docs/security.md), or an address of 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _check_capture(self) -> Self:
        if self.capture_content:
            raise ValueError("capture_content: the router reads no prompts; set it for a service")
        return self

    @model_validator(mode="after")
    def _check_recording(self) -> Self:
        if self.cache is not None and self.cache.mode != "cache" and self.workers > 1:
            raise ValueError(
                f"cache.mode: {self.cache.mode} needs workers: 1, so that calls have one order"
            )
        return self

    @model_validator(mode="after")
    def _check_fallbacks(self) -> Self:
        for model, names in self.fallbacks.items():
            for index, name in enumerate((model, *names)):
                place = f"fallbacks.{model}" + (f"[{index - 1}]" if index else "")
                if not name.startswith(tuple(self.routes)):
                    raise ValueError(f"{place}: no route has the prefix of {name!r}")
                if name in (model, *names)[:index]:
                    raise ValueError(f"{place}: {name!r} is already called before this place")
        return self

    @property
    def knows_callers(self) -> bool:
        """Whether callers must say who they are."""
        return self.tokens is not None or super().knows_callers

    @model_validator(mode="after")
    def _check_targets_are_others(self) -> Self:
        """Raise ValueError for a route to the router itself.

        A route under another name of this machine is not noticed here: the router refuses
        calls that have passed too many routers.
        """
        for prefix, route in self.routes.items():
            if self.listen in route.targets:
                raise ValueError(f"routes.{prefix}: the router itself listens on {self.listen}")
        return self

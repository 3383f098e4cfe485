"""configs/router.yaml: which backend serves which prefix."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from arena_llm.tls import Tls
from router.cache.config import CacheConfig
from services.common.config import Address, SharedConfig, StrictModel
from services.common.validation import MAX_FALLBACKS


def ip_version(address: str) -> int | None:
    """Return 4 or 6 for host:port with an IP address; None for a host's name."""
    try:
        return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).version
    except ValueError:
        return None


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


class RouteTls(StrictModel):
    """The encryption of a route, as in arena_llm.tls.Tls; relative paths begin at the working
    directory."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        self.settings  # noqa: B018 - it refuses a certificate without its key
        return self

    @property
    def settings(self) -> Tls:
        """The same for a connection."""
        return Tls(self.ca, self.certificate, self.key, self.server_name)


class Route(StrictModel):
    """Where the models of one prefix are served.

    targets: host:port of each replica: several IP addresses, or one host's name. If a name
    has several addresses, each is a replica.
    policy: how a replica is chosen: session sends all calls of a session, and all calls with the
    same request_id, to the same replica while that is up; round_robin takes each in turn, so that
    another replica may answer a repeated request.
    start: the command that starts the backend; errors show it while the backend is down.
    connections: to each target. A target with several workers needs some, because each connection
    leads to one worker; calls go to the connection with the fewest.
    tls: the encryption of these connections; None: none.
    """

    targets: Annotated[list[Address], Field(min_length=1), AfterValidator(_check_targets)]
    policy: Literal["round_robin", "session"] = "session"
    start: str = ""
    connections: Annotated[int, Field(ge=1, le=256)] = 1
    tls: RouteTls | None = None

    @model_validator(mode="after")
    def _check_server_name(self) -> Self:
        if self.tls and len(self.targets) > 1 and not self.tls.server_name:
            raise ValueError(
                "tls.server_name: several targets need a name that all certificates have"
            )
        return self


def _default_usage() -> Path:
    return Path(os.environ.get("ARENA_RUN_DIR") or ".run") / "usage.sqlite"


Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]


FallbackList = Annotated[list[str], Field(min_length=1, max_length=MAX_FALLBACKS)]


class RouterConfig(SharedConfig):
    """The whole file.

    routes: by prefix. A call goes to the longest prefix that its model's name starts with.
    ask_timeout_seconds: how long ListModels and IsAvailable wait for a backend.
    tokens: the file of tokens, relative to the working directory, see router/tokens.py; None:
    anybody may call. usage: the file that counts what each token uses; default: usage.sqlite in
    $ARENA_RUN_DIR. open_health, open_reflection: whether these services need no token.
    fallbacks: by model, those that answer in its place if it cannot for a reason that waiting does
    not cure. They hold for requests that do not set `fallback_models`. cache: answers equal calls
    again, records or replays; None: no cache.
    """

    routes: Annotated[dict[Prefix, Route], Field(min_length=1)]
    ask_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    tokens: Path | None = None
    usage: Path = Field(default_factory=_default_usage)
    open_health: bool = True
    open_reflection: bool = False
    fallbacks: dict[str, FallbackList] = Field({})
    cache: CacheConfig | None = None

    @classmethod
    def needs_restart(cls, key: str) -> bool:
        """Whether a running router keeps the value of a key when its file changes."""
        return key == "cache" or super().needs_restart(key)

    @model_validator(mode="after")
    def _check_recording(self) -> Self:
        if self.cache is not None and self.cache.mode != "cache" and self.workers > 1:
            raise ValueError(f"cache.mode: {self.cache.mode} needs workers: 1, one order of calls")
        return self

    @model_validator(mode="after")
    def _check_fallbacks(self) -> Self:
        for model, names in self.fallbacks.items():
            for index, name in enumerate((model, *names)):
                place = f"fallbacks.{model}" + (f"[{index - 1}]" if index else "")
                if not name.startswith(tuple(self.routes)):
                    raise ValueError(f"{place}: no route has the prefix of {name!r}")
                if name in (model, *names)[:index]:
                    raise ValueError(f"{place}: {name!r} is called before")
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

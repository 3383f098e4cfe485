"""configs/gateway.yaml: where the gateway listens, and which router it calls."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from arena_llm.connection import MAX_MESSAGE_BYTES, parse_hosts
from services.common.config import ConnectionTls, ListenerConfig


def _check_target(value: str) -> str:
    try:
        parse_hosts(value)
    except ValueError as error:
        raise ValueError(f"{value!r} {error}: write host:port of a router") from None
    return value


class GatewayConfig(ListenerConfig):
    """The whole file.

    router: the target of all calls; router_tls: the encryption of the connection to it.
    require_token: refuse calls without `Authorization: Bearer`; the router checks the token.
    drop_unknown: ignore fields that the API here does not have, and name them in the header
    arena-ignored-fields; otherwise such a call is refused.
    timeout_seconds: of a call to the router. max_body_bytes: of one request.
    head_seconds, body_seconds, write_seconds: how long a caller may take to send the head of a
    request, to send its body, and to read what was sent.
    """

    router: Annotated[str, AfterValidator(_check_target)] = "localhost:50050"
    router_tls: ConnectionTls | None = None
    require_token: bool = False
    drop_unknown: bool = False
    max_idle_seconds: Annotated[float, Field(gt=0, le=86_400)] = 75.0
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    max_body_bytes: Annotated[int, Field(ge=1024, le=MAX_MESSAGE_BYTES * 4 // 3)] = (
        MAX_MESSAGE_BYTES
    )
    head_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    body_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    write_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0

    @classmethod
    def needs_restart(cls, key: str) -> bool:
        """Whether a running gateway keeps the value of a key when its file changes."""
        return key in ("router", "router_tls") or super().needs_restart(key)

    @property
    def knows_callers(self) -> bool:
        """Whether callers must say who they are."""
        return self.require_token or super().knows_callers

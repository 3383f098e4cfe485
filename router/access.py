"""Who calls the router, and whether it may: the one place that checks tokens and quotas.

The interceptor identifies the caller of every call, also of health and reflection. The router
then asks `admit` for each call that uses a model, and reports what the call took.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import grpc

from arena_llm.v1 import reply_pb2
from router.config import RouterConfig
from router.routing import AUTHORIZATION
from router.tokens import TokenEntry, TokenHolder, TokenTable
from router.usage import UsageBook, seconds_to_midnight
from services.common.call import CallRecord, CallScope
from services.common.config import ConfigError
from services.common.errors import (
    ModelNotAllowed,
    QuotaExceeded,
    TokenMissing,
    TokenRejected,
)
from services.common.handlers import Context
from services.common.tenant import has_share, make_overload
from services.common.validation import MAX_NAME

_SCHEME = "bearer "

#: Who makes this call; None if the router has no tokens.
_CALLER: ContextVar[TokenHolder | None] = ContextVar("caller", default=None)

_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection."
_PICOUSD = 10**12
_HOW = (
    "set ARENA_LLM_TOKEN or Client(token=...) to a token that `arena-llm token new NAME` has "
    "printed on the router's machine"
)

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Charge(Protocol):
    """What one call takes of its caller's quotas, from its start to `close`."""

    def open(self) -> None:
        """Count the call."""

    def add_message(self) -> None:
        """Note a message of a stream."""

    def add_usage(self, usage: reply_pb2.Usage | None) -> None:
        """Note what the call has paid; None if that is not known, or nothing was paid for it."""

    def close(self) -> None:
        """End the call."""


class Access(Protocol):
    """Who may call."""

    interceptors: Sequence[Any]

    async def start(self) -> None:
        """Read what the callers have used today."""

    async def aclose(self) -> None:
        """Write what they have used."""

    def reconfigure(self, config: RouterConfig) -> None:
        """Read the file of tokens again. Raises ConfigError, and changes nothing then."""

    def may_list(self, model: str) -> bool:
        """Whether the caller may know of a model."""

    def check_model(self, model: str) -> None:
        """Raise ModelNotAllowed if the caller's token does not include the model."""

    def admit(self, model: str, record: CallRecord) -> Charge:
        """Return the charge of a call that may begin.

        Raises ModelNotAllowed, and QuotaExceeded with the time at which the quota is renewed.
        """


def find_tenant() -> str:
    """Return the name of this call's caller; "" if the router has no tokens."""
    holder = _CALLER.get()
    return "" if holder is None else holder.name


def make_access(config: RouterConfig) -> Access:
    """Return the access that the configuration describes. Raises ConfigError for its file."""
    return Anyone() if config.tokens is None else TokenAccess(config, config.tokens)


class TokenAccess(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs only
    """Access with tokens. path: of their file."""

    def __init__(self, config: RouterConfig, path: Path) -> None:
        self.interceptors: Sequence[Any] = (self,)
        self._book = UsageBook(config.usage)
        self._in_flight: dict[str, int] = {}
        self._all_in_flight = 0
        self._set(config, path)

    def _set(self, config: RouterConfig, path: Path) -> None:
        self._table = TokenTable.load(path)
        self._workers = config.workers
        self._places = config.max_calls_in_flight
        services = {_HEALTH: config.open_health, _REFLECTION: config.open_reflection}
        self._open = tuple(prefix for prefix, is_open in services.items() if is_open)

    async def start(self) -> None:
        await self._book.start()

    async def aclose(self) -> None:
        await self._book.aclose()

    def reconfigure(self, config: RouterConfig) -> None:
        if config.tokens is None:
            raise ConfigError("tokens: only a restart lets anybody call")
        self._set(config, config.tokens)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Identify the caller, or end the call with UNAUTHENTICATED."""
        method = handler_call_details.method
        if not method.startswith(self._open):
            try:
                _CALLER.set(self._identify(handler_call_details.invocation_metadata))
            except (TokenMissing, TokenRejected) as error:
                return _refuse(method, error)
        return await continuation(handler_call_details)

    def _identify(self, metadata: Iterable[tuple[str, str | bytes]]) -> TokenHolder:
        for key, value in metadata:
            if key == AUTHORIZATION:
                text = value if isinstance(value, str) else ""
                if text[: len(_SCHEME)].lower() != _SCHEME:
                    raise TokenRejected(f"the header {AUTHORIZATION} is not `Bearer TOKEN`: {_HOW}")
                holder = self._table.find(text[len(_SCHEME) :].strip())
                if holder is None:
                    raise TokenRejected(f"the token is unknown, or was revoked: {_HOW}")
                return holder
        raise TokenMissing(f"the router needs a token: {_HOW}")

    def may_list(self, model: str) -> bool:
        holder = _CALLER.get()
        return holder is not None and holder.entry.may_call(model)

    def check_model(self, model: str) -> None:
        self._check(_CALLER.get(), model)

    def admit(self, model: str, record: CallRecord) -> Charge:
        record.add(token=find_tenant())
        name, entry = self._check(_CALLER.get(), model)
        self._check_quotas(name, entry)
        return TokenCharge(self, name)

    def _check(self, holder: TokenHolder | None, model: str) -> TokenHolder:
        if holder is None:
            raise AssertionError("the interceptor has identified every caller of a model")
        name, entry = holder
        if not entry.may_call(model):
            allowed = ", ".join(entry.models)
            raise ModelNotAllowed(
                f"the token {name} may not call {model[:MAX_NAME]!r}: its models begin with "
                f"{allowed}; the operator of the router can change that in its file of tokens",
                field="model",
                metadata={"token": name, "prefixes": allowed},
            )
        return holder

    def _check_quotas(self, name: str, entry: TokenEntry) -> None:
        running, most = self._in_flight.get(name, 0), entry.max_in_flight
        if self._places and not has_share(running, self._all_in_flight, self._places):
            raise make_overload(name, running)
        if most is not None:
            most = max(1, most // self._workers)
            if running >= most:
                raise _make_quota_error(name, "max_in_flight", running, most, 1.0)
        if not entry.has_day:
            return
        used = self._book.today(name)
        usd = entry.usd_per_day
        for quota, amount, limit in (
            ("calls_per_day", used.calls, entry.calls_per_day),
            ("tokens_per_day", used.tokens, entry.tokens_per_day),
            ("usd_per_day", used.picousd, None if usd is None else int(usd * _PICOUSD)),
        ):
            if limit is not None and amount >= limit:
                if quota == "usd_per_day":
                    raise _make_quota_error(name, quota, f"{amount / _PICOUSD:.4f}", usd)
                raise _make_quota_error(name, quota, amount, limit)

    def enter(self, name: str) -> None:
        """Count a call that begins."""
        self._all_in_flight += 1
        self._in_flight[name] = self._in_flight.get(name, 0) + 1
        self._book.add(name, calls=1)

    def leave(self, name: str, tokens: int, picousd: int) -> None:
        """Count what a call has taken."""
        self._all_in_flight -= 1
        self._in_flight[name] -= 1
        if tokens or picousd:
            self._book.add(name, tokens=tokens, picousd=picousd)


class TokenCharge:
    """The charge of a call with a token.

    A call that ends without saying its usage, because its caller has left, counts a token for
    each message of its stream; its cost is not known.
    """

    __slots__ = ("_access", "_name", "_picousd", "_tokens")

    def __init__(self, access: TokenAccess, name: str) -> None:
        self._access = access
        self._name = name
        self._tokens = self._picousd = 0

    def open(self) -> None:
        self._access.enter(self._name)

    def add_message(self) -> None:
        self._tokens += 1

    def add_usage(self, usage: reply_pb2.Usage | None) -> None:
        if usage is not None:
            self._tokens = usage.prompt_tokens + usage.completion_tokens
            self._picousd = usage.cost_picousd

    def close(self) -> None:
        self._access.leave(self._name, self._tokens, self._picousd)


class Anyone:
    """Access without tokens: to everything, and nothing is counted. It is its own charge."""

    interceptors: Sequence[Any] = ()

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def reconfigure(self, config: RouterConfig) -> None:
        if config.tokens is not None:
            raise ConfigError("tokens: the router begins to check tokens at its next start")

    def may_list(self, model: str) -> bool:
        return True

    def check_model(self, model: str) -> None:
        pass

    def admit(self, model: str, record: CallRecord) -> Charge:
        return self

    def open(self) -> None:
        pass

    def add_message(self) -> None:
        pass

    def add_usage(self, usage: reply_pb2.Usage | None) -> None:
        pass

    def close(self) -> None:
        pass


#: Of a call that uses no model.
NO_CHARGE: Charge = Anyone()


def _make_quota_error(
    name: str, quota: str, used: object, limit: object, wait: float | None = None
) -> QuotaExceeded:
    now = time.time()
    seconds = seconds_to_midnight(now) if wait is None else wait
    reset = datetime.fromtimestamp(now, UTC) + timedelta(seconds=seconds)
    when = "when a call ends" if wait is not None else f"at {reset:%Y-%m-%d %H:%M} UTC"
    return QuotaExceeded(
        f"the token {name} has used its {quota}: {used} of {limit}; it can call again {when}",
        retry_after=seconds,
        metadata={
            "token": name,
            "quota": quota,
            "used": f"{used}",
            "limit": f"{limit}",
            "resets_at": f"{reset:%Y-%m-%dT%H:%M:%SZ}",
        },
    )


def _refuse(method: str, error: TokenMissing | TokenRejected) -> Any:
    """Return a handler that ends the call with the error, of any kind of method."""

    async def refuse(_: bytes, context: Context) -> bytes:
        async with CallScope(method.rpartition("/")[2], context):
            raise error

    return grpc.unary_unary_rpc_method_handler(refuse)

"""Who calls the router, and what a caller may do: the only place that checks tokens and quotas.

The guard identifies the caller of every call, also of health and reflection. The router then asks
`admit` for each call that uses a model, and reports what the call took.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import grpc

from router.config import RouterConfig
from router.edge import METHOD, make_check_handler
from router.reply import Paid
from router.routing import AUTHORIZATION, find_prefix
from router.tokens import TokenEntry, TokenHolder, TokenTable
from router.usage import UsageBook, seconds_to_midnight
from services.common.call import CallRecord, CallScope
from services.common.errors import (
    InvalidRequest,
    ModelNotAllowed,
    QuotaExceeded,
    TokenMissing,
    TokenRejected,
    UnknownPrefix,
)
from services.common.handlers import Context
from services.common.log import log
from services.common.reload import list_entries
from services.common.tenant import has_share, make_overload
from services.common.validation import MAX_NAME

_SCHEME = "bearer "

#: Who makes this call; None if the router had no tokens when it began. There is no default, so a
#: call that no guard has seen fails.
_CALLER: ContextVar[TokenHolder | None] = ContextVar("caller")

_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection."
_PICOUSD = 10**12
#: Bytes of a stream's message besides its text, and bytes of a token of usual text.
_BYTES_OF_EVENT, _BYTES_OF_TOKEN = 16, 4
_HOW = (
    "set ARENA_LLM_TOKEN or Client(token=...) to a token that `arena-llm token new NAME` has "
    "printed on the router's machine"
)


#: Estimates what a call counts for the quotas, from the number of answer tokens that have come.
Estimate = Callable[[int], Awaitable[Paid]]


class Charge(Protocol):
    """What one call takes of its caller's quotas, from its start to `close`."""

    def open(self) -> None:
        """Count the call."""

    def add_message(self, size: int) -> None:
        """Note a message of a stream. size: its bytes."""

    def add_usage(self, paid: Paid | None) -> None:
        """Note what the call has paid; None if that is not known."""

    def add_lost(self, picousd: int) -> None:
        """Note the most that lost attempts can have cost."""

    def close(self, estimate: Estimate | None = None) -> None:
        """End the call. estimate: for a call that does not report all that it took."""


def find_tenant() -> str:
    """Return the name of this call's caller; "" if the router had no tokens when it began."""
    holder = _CALLER.get()
    return "" if holder is None else holder.name


class Access(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in the stubs only
    """Who may call: callers with a token of the file, or all callers if there is no file.

    gRPC asks this object first for the handler of a call. For a caller that may call it returns
    None, and gRPC asks the next one. An interceptor would cost one more coroutine for each call.
    """

    def __init__(self, config: RouterConfig) -> None:
        self.guards: Sequence[Any] = (self, make_check_handler(self.find_straight))
        self._book = UsageBook(config.usage)
        self._in_flight: defaultdict[str, int] = defaultdict(int)
        self._all_in_flight = 0
        #: Estimates of calls that have ended.
        self._estimating: set[asyncio.Task[None]] = set()
        self._table: TokenTable | None = None
        self._set(config, _load_table(config))

    def _set(self, config: RouterConfig, table: TokenTable | None) -> None:
        if self._table is not None and table is None:
            log.warning("the router has no tokens any more: anybody can call")
        self._table = table
        self._workers = config.workers
        self._places = config.max_calls_in_flight
        self._prefixes = tuple(config.routes)
        services = {_HEALTH: config.open_health, _REFLECTION: config.open_reflection, METHOD: True}
        self._open = tuple(prefix for prefix, is_open in services.items() if is_open)

    async def start(self) -> None:
        """Read what the callers have used today."""
        if self._table is not None:
            await self._book.start()

    async def aclose(self) -> None:
        """Write what they have used."""
        await asyncio.gather(*self._estimating, return_exceptions=True)
        await self._book.aclose()

    async def prepare(self, config: RouterConfig) -> Callable[[], Sequence[str]]:
        """Return a function that puts the tokens of a configuration into force.

        Running calls keep their callers. The function returns the names of the changed tokens.
        Raises ConfigError.
        """
        table = _load_table(config)
        if table is not None:
            await self._book.start()

        def change() -> Sequence[str]:
            before = {} if self._table is None else self._table.entries
            self._set(config, table)
            return [*list_entries("tokens", before, {} if table is None else table.entries)]

        return change

    def find_straight(self, authorization: str, model: str) -> str:
        """Return the name of the token if its call may skip the router, else "".

        The token must have no quotas, which the router would count. It must include every model of
        the route, because the header may name another model than the request.
        """
        if self._table is None:
            return ""
        try:
            name, entry = _identify(self._table, [(AUTHORIZATION, authorization)])
            prefix = find_prefix(model, self._prefixes)
        except (TokenMissing, TokenRejected, InvalidRequest, UnknownPrefix):
            return ""
        has_quota = entry.has_day or entry.max_in_flight is not None
        return "" if has_quota or not entry.may_call(prefix) else name

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Identify the caller and return None, or a handler that answers UNAUTHENTICATED.

        The handler that gRPC finds then runs in the same task, and knows the caller.
        """
        method = handler_call_details.method
        if self._table is None:
            _CALLER.set(None)
        elif not method.startswith(self._open):
            try:
                _CALLER.set(_identify(self._table, handler_call_details.invocation_metadata))
            except (TokenMissing, TokenRejected) as error:
                return _refuse(method, error)
        return None

    def may_list(self, model: str) -> bool:
        """Whether the caller may know of a model."""
        holder = _CALLER.get()
        return holder is None or holder.entry.may_call(model)

    def check_model(self, model: str) -> None:
        """Raise ModelNotAllowed if the caller's token does not include the model."""
        holder = _CALLER.get()
        if holder is None or holder.entry.may_call(model):
            return
        allowed = ", ".join(holder.entry.models)
        raise ModelNotAllowed(
            f"the token {holder.name} may not call {model[:MAX_NAME]!r}: its models begin with "
            f"{allowed}; the operator of the router can change that in its file of tokens",
            field="model",
            metadata={"token": holder.name, "prefixes": allowed},
        )

    def admit(self, model: str, record: CallRecord) -> Charge:
        """Return the charge of a call that may begin.

        Raises ModelNotAllowed, and QuotaExceeded with the time at which the quota is renewed.
        """
        holder = _CALLER.get()
        if holder is None:
            return NO_CHARGE
        record.add(token=holder.name)
        self.check_model(model)
        self._check_quotas(*holder)
        return TokenCharge(self, holder.name)

    def _check_quotas(self, name: str, entry: TokenEntry) -> None:
        running, most = self._in_flight[name], entry.max_in_flight
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
        self._in_flight[name] += 1
        self._book.add(name, 1, 0, 0)

    def leave(self, name: str, tokens: int, picousd: int) -> None:
        """Count a call that ends, and what it has taken."""
        self._all_in_flight -= 1
        self._in_flight[name] -= 1
        if tokens or picousd:
            self._book.add(name, 0, tokens, picousd)

    def add_later(self, name: str, estimate: Awaitable[Paid], *, with_tokens: bool) -> None:
        """Count what a call that has ended is estimated to have taken."""

        async def add() -> None:
            paid = await estimate
            self._book.add(name, 0, paid.tokens if with_tokens else 0, paid.picousd)

        task = asyncio.create_task(add())
        self._estimating.add(task)
        task.add_done_callback(self._estimating.discard)


def _load_table(config: RouterConfig) -> TokenTable | None:
    return None if config.tokens is None else TokenTable.load(config.tokens)


def _identify(table: TokenTable, metadata: Iterable[tuple[str, str | bytes]]) -> TokenHolder:
    for key, value in metadata:
        if key == AUTHORIZATION:
            text = value if isinstance(value, str) else ""
            if text[: len(_SCHEME)].lower() != _SCHEME:
                raise TokenRejected(f"the header {AUTHORIZATION} is not `Bearer TOKEN`: {_HOW}")
            holder = table.find(text[len(_SCHEME) :].strip())
            if holder is None:
                raise TokenRejected(f"the token is unknown, or was revoked: {_HOW}")
            return holder
    raise TokenMissing(f"the router needs a token: {_HOW}")


class TokenCharge:
    """The charge of a call with a token."""

    __slots__ = ("_access", "_bytes", "_lost", "_messages", "_name", "_paid")

    def __init__(self, access: Access, name: str) -> None:
        self._access = access
        self._name = name
        self._paid: Paid | None = None
        self._lost = self._messages = self._bytes = 0

    def open(self) -> None:
        self._access.enter(self._name)

    def add_message(self, size: int) -> None:
        self._messages += 1
        self._bytes += size

    def add_usage(self, paid: Paid | None) -> None:
        if paid is not None:
            self._paid = paid

    def add_lost(self, picousd: int) -> None:
        self._lost = picousd

    def close(self, estimate: Estimate | None = None) -> None:
        # At least one token for each message, and one for each few bytes of a large one.
        text = self._bytes - _BYTES_OF_EVENT * self._messages
        received = max(self._messages, text // _BYTES_OF_TOKEN)
        is_known = self._paid is not None or estimate is not None
        tokens, picousd = self._paid or Paid(0 if is_known else received, 0)
        self._access.leave(self._name, tokens, picousd + self._lost)
        if estimate is not None:
            self._access.add_later(self._name, estimate(received), with_tokens=self._paid is None)


class NoCharge:
    """The charge of a call without a token: nothing is counted."""

    def open(self) -> None:
        pass

    def add_message(self, size: int) -> None:
        pass

    def add_usage(self, paid: Paid | None) -> None:
        pass

    def add_lost(self, picousd: int) -> None:
        pass

    def close(self, estimate: Estimate | None = None) -> None:
        pass


NO_CHARGE: Charge = NoCharge()


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

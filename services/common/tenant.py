"""Who calls a service, by the name that the router gives, and a fair order of tenants' calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, zip_longest
from typing import TypeVar

from services.common.errors import Overloaded
from services.common.handlers import Context
from services.common.hops import set_hops

T = TypeVar("T")

#: The metadata with the name of the caller's token. Only the router sets it.
TENANT_HEADER = "arena-tenant"
#: The tenant of this call; "" if the router has no tokens.
TENANT: ContextVar[str] = ContextVar("tenant", default="")


def set_tenant(context: Context) -> None:
    """Note who makes this call, and its hops, for everything that it starts."""
    metadata = tuple(context.invocation_metadata() or ())
    set_hops(metadata)
    for key, value in metadata:
        if key == TENANT_HEADER:
            TENANT.set(str(value))
            return


def has_share(held: int, taken: int, places: int) -> bool:
    """Whether a tenant that holds `held` places may have another one.

    It may while it holds fewer places than are free: alone, it gets half of all places, and a place
    is always free for another tenant (the dynamic thresholds of Choudhury and Hahne, 1998).

    taken: places that all tenants hold. places: all places.
    """
    return held < max(1, places - taken)


class Shares:
    """The places of a model, which tenants share."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._held: dict[str, int] = {}
        self._taken = 0

    @contextmanager
    def hold(self, tenant: str) -> Iterator[None]:
        """Hold a place. Raises Overloaded if the tenant has its share."""
        held = self._held.get(tenant, 0)
        if tenant and not has_share(held, self._taken, self._places):
            raise make_overload(tenant, held)
        self._held[tenant] = held + 1
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._held[tenant] -= 1
            if not self._held[tenant]:
                del self._held[tenant]


def make_overload(tenant: str, held: int) -> Overloaded:
    """Return the error of a tenant that holds its whole share of the places."""
    return Overloaded(
        f"{held} calls of {tenant} run or wait, which is its share while others call: try again "
        "later",
        retry_after=1.0,
    )


def take_turns(items: Iterable[T], find_tenant: Callable[[T], str]) -> list[T]:
    """Return the items in an order in which tenants take turns; each tenant's own order stays."""
    lines: dict[str, list[T]] = {}
    for item in items:
        lines.setdefault(find_tenant(item), []).append(item)
    missing = object()
    turns = chain.from_iterable(zip_longest(*lines.values(), fillvalue=missing))
    return [item for item in turns if item is not missing]  # type: ignore[misc]

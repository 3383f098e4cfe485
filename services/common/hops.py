"""What a router adds to the metadata of a call: the routers that it has passed, and its deadline.

The number of routers ends a call that goes in a circle. It is also sent to HTTP providers, as a
header of the same name, because a provider may be a gateway that leads back here. The remaining
time of the deadline is for servers behind an ingress that drops gRPC's own deadline.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

from services.common.digits import read_digits

#: The number of routers that a call has passed.
HOPS_HEADER = "arena-hops"
#: The milliseconds that remain until the deadline.
REMAINING_HEADER = "arena-remaining-ms"

_hops: ContextVar[str] = ContextVar("hops", default="")


def set_hops(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Note the hops of this call, for the requests to providers that it makes."""
    for key, value in metadata:
        if key == HOPS_HEADER:
            _hops.set(str(value))
            return


def list_hop_headers() -> dict[str, str]:
    """The HTTP headers that carry the hops of this call; none if it came without a router."""
    hops = _hops.get()
    return {HOPS_HEADER: hops} if hops else {}


def describe_remaining(seconds: float) -> tuple[str, str]:
    """Return the metadata that says how much time remains."""
    return REMAINING_HEADER, str(max(0, int(seconds * 1000)))


def read_remaining(metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
    """Return the seconds that remain; None if the metadata does not say it.

    The last value counts, which the nearest router has added.
    """
    found = None
    for key, value in metadata:
        if key == REMAINING_HEADER and isinstance(value, str):
            milliseconds = read_digits(value)
            found = None if milliseconds is None else milliseconds / 1000
    return found

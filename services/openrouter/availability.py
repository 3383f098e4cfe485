"""Whether a model can be called now: key, credits, OpenRouter's own list."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from arena_llm.types import Availability, Credits, ModelState, Price
from services.common.errors import BackendError, ModelNotFound, UpstreamUnavailable
from services.common.hosted.config import nearest
from services.common.hosted.statuses import TRANSIENT
from services.openrouter.catalogue import Catalogue, Listing
from services.openrouter.config import PREFIX, OpenRouterConfig
from services.openrouter.credits import CreditWatch, left, warnings

#: Seconds that OpenRouter has to answer: less than the router's `ask_timeout_seconds`.
#: What comes later is there for the next who asks.
_WAIT = 1.8


async def availability(
    config: OpenRouterConfig,
    model: str,
    key_problem: BackendError | None,
    catalogue: Catalogue,
    credits: CreditWatch,
) -> Availability:
    """The model's availability, its credits and SPEC's warnings; raises nothing."""
    slug = model.removeprefix(PREFIX)
    openrouter = config.dialect == "openrouter"
    who = "OpenRouter" if openrouter else _shown(config.base_url)
    if key_problem is not None:
        return _unavailable(key_problem.message, key_problem.reason)
    try:
        config.listed(model)
        async with asyncio.timeout(_WAIT):
            listing, spendable = await asyncio.gather(
                catalogue.find(slug), credits.credits() if openrouter else _none_told()
            )
        if listing is None:
            known = await catalogue.models()
            detail = f"{who} has no model {slug!r}{nearest(slug, known)}"
            return _unavailable(detail, "MODEL_NOT_FOUND", spendable)
    except TimeoutError:
        detail = f"{who} has not answered within {_WAIT:g} s: ask again"
        return Availability(False, ModelState.UNKNOWN, detail, reason="UPSTREAM_UNAVAILABLE")
    except BackendError as error:
        status = error.metadata.get("upstream_status")
        if not openrouter and status and isinstance(error, ModelNotFound | UpstreamUnavailable):
            # It is there, and what it can do without a list, a call will tell.
            detail = f"{who} does not list its models (HTTP {status})"
            return Availability(True, ModelState.UNKNOWN, detail, warnings=(detail,))
        if isinstance(error, TRANSIENT):
            return Availability(False, ModelState.UNKNOWN, error.message, reason=error.reason)
        return _unavailable(error.message, error.reason)
    if not openrouter:
        return Availability(True, ModelState.READY, f"{who} lists it", price=listing.price)
    return _judged(listing, spendable)


def _shown(url: str) -> str:
    """The URL without the user and password that it may hold."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


async def _none_told() -> Credits:
    return Credits()


def _judged(listing: Listing, spendable: Credits) -> Availability:
    """A model that is there, by what is left; null limits and untold balances say nothing."""
    dollars = left(spendable)
    if dollars is not None and dollars <= 0:
        detail = f"${dollars:.2f} left on OpenRouter: add credits or raise the key's limit"
        if dollars == 0 and listing.free:
            detail += "; a free model may still answer if asked"
        return _unavailable(detail, "INSUFFICIENT_CREDITS", spendable, listing.price)
    return Availability(
        True,
        ModelState.READY,
        "credits are not told to this key" if dollars is None else f"${dollars:.2f} left",
        warnings=warnings(dollars),
        credits=spendable,
        price=listing.price,
    )


def _unavailable(
    detail: str, reason: str, credits: Credits | None = None, price: Price | None = None
) -> Availability:
    warned = warnings(left(credits)) if credits else ()
    return Availability(
        False,
        ModelState.MISCONFIGURED,
        detail,
        warnings=warned,
        credits=credits,
        reason=reason,
        price=price,
    )

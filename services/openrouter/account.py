"""Whether a model can be called now: the key, its credits, and the catalogue.

https://openrouter.ai/docs/api/reference/limits
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from arena_llm.suggestions import did_you_mean
from arena_llm.types import Availability, Credits, ModelState, Price
from services.common.errors import (
    ApiKeyRejected,
    BackendError,
    ModelNotFound,
    RefusedByProvider,
    UpstreamUnavailable,
)
from services.common.hosted.errors import TRANSIENT
from services.common.hosted.values import number
from services.openrouter.catalogue import ListedModel, OpenRouterCatalogue
from services.openrouter.config import DIALECTS, OpenRouterConfig, remove_prefix
from services.openrouter.errors import unreadable
from services.openrouter.upstream import KEY_VARIABLE, Cached, OpenRouterUpstream

#: Seconds to wait for OpenRouter: less than the router's `ask_timeout_seconds`. A later answer
#: is cached for the next caller.
_WAIT = 1.8

#: US dollars below which there is a warning.
_LOW, _SOON_LOW = 1.0, 5.0


class Account:
    """The account behind the key: its credits, and which models it can call."""

    def __init__(
        self, config: OpenRouterConfig, upstream: OpenRouterUpstream, catalogue: OpenRouterCatalogue
    ) -> None:
        self._config = config
        self._dialect = DIALECTS[config.dialect]
        self._server = "OpenRouter" if self._dialect.has_credits else _hide_login(config.base_url)
        self._upstream = upstream
        self._catalogue = catalogue
        self._credits = Cached(self._fetch_credits, config.credits_seconds)

    async def aclose(self) -> None:
        """Stop the timers of the cache."""
        await self._credits.aclose()

    async def check(self, model: str) -> Availability:
        """Check a model, by its full name. Never raises."""
        if (problem := self._upstream.key_problem()) is not None:
            return _unavailable(problem.message, problem.reason)
        name = remove_prefix(model)
        try:
            self._config.find_entry(model)
            async with asyncio.timeout(_WAIT):
                details, credits = await asyncio.gather(self._catalogue.find(name), self._read())
            if details is None:
                names = await self._catalogue.models()
                detail = f"{self._server} has no model {name!r}{did_you_mean(name, names)}"
                return _unavailable(detail, "MODEL_NOT_FOUND", credits)
        except TimeoutError:
            detail = f"{self._server} has not answered within {_WAIT:g} s: try again"
            return Availability(False, ModelState.UNKNOWN, detail, reason="UPSTREAM_UNAVAILABLE")
        except BackendError as error:
            return self._explain(error)
        if not self._dialect.has_credits:
            return Availability(
                True, ModelState.READY, f"{self._server} lists it", price=details.price
            )
        return _judge(details, credits)

    def _explain(self, error: BackendError) -> Availability:
        """The availability of a model if the server answered with an error."""
        status = error.metadata.get("upstream_status")
        no_list = isinstance(error, ModelNotFound | UpstreamUnavailable) and status is not None
        if no_list and not self._dialect.must_list_models:
            # The server is up. Only a call can show whether it has the model.
            detail = f"{self._server} does not list its models (HTTP {status})"
            return Availability(True, ModelState.UNKNOWN, detail, warnings=(detail,))
        if isinstance(error, TRANSIENT):
            return Availability(False, ModelState.UNKNOWN, error.message, reason=error.reason)
        return _unavailable(error.message, error.reason)

    async def _read(self) -> Credits:
        """The key's credits, cached. A figure is None if the key may not see it.

        Raises ApiKeyRejected, UpstreamUnavailable, RateLimited.
        """
        return await self._credits.get() if self._dialect.has_credits else Credits()

    async def _fetch_credits(self) -> Credits:
        limit, balance = await asyncio.gather(self._fetch_limit(), self._fetch_balance())
        return Credits(balance_usd=balance, limit_remaining_usd=limit)

    async def _fetch_limit(self) -> float | None:
        try:
            key = await self._fetch_data("key")
        except ApiKeyRejected as error:
            raise ApiKeyRejected(
                f"OpenRouter rejects the key in {KEY_VARIABLE}",
                metadata={**error.metadata, "variable": KEY_VARIABLE},
            ) from error
        except ModelNotFound:
            return None  # 404: another server, which has no credits
        return number(key.get("limit_remaining"))

    async def _fetch_balance(self) -> float | None:
        try:
            account = await self._fetch_data("credits")
        except (ApiKeyRejected, RefusedByProvider, ModelNotFound):
            return None  # only for management keys; /key shows whether the key is valid
        total, used = number(account.get("total_credits")), number(account.get("total_usage"))
        if total is None or used is None:
            return None
        # In decimal, so that 10.1 - 10 is 0.1.
        return float(Decimal(repr(total)) - Decimal(repr(used)))

    async def _fetch_data(self, path: str) -> dict[str, Any]:
        data = (await self._upstream.get(path)).get("data")
        if not isinstance(data, dict):
            raise unreadable(f"/{path} has no data")
        return data


def _hide_login(url: str) -> str:
    """The URL without the user and password that it may hold."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _judge(model: ListedModel, credits: Credits) -> Availability:
    """Decide from the remaining credits whether a listed model is available. It is if they are
    unknown."""
    dollars = _remaining(credits)
    if dollars is not None and dollars <= 0:
        detail = f"${dollars:.2f} left on OpenRouter: add credits or raise the key's limit"
        if dollars == 0 and model.free:
            detail += "; a free model may still answer if asked"
        return _unavailable(detail, "INSUFFICIENT_CREDITS", credits, model.price)
    return Availability(
        True,
        ModelState.READY,
        "this key may not see its credits" if dollars is None else f"${dollars:.2f} left",
        warnings=_warnings(dollars),
        credits=credits,
        price=model.price,
    )


def _remaining(credits: Credits) -> float | None:
    """US dollars that can be spent: the smaller of the balance and the key's limit."""
    figures = [c for c in (credits.balance_usd, credits.limit_remaining_usd) if c is not None]
    return min(figures) if figures else None


def _warnings(dollars: float | None) -> tuple[str, ...]:
    if dollars is None or dollars >= _SOON_LOW:
        return ()
    name = "Low balance" if dollars < _LOW else "Balance warning"
    return (f"{name}: ${dollars:.2f} left on OpenRouter",)


def _unavailable(
    detail: str, reason: str, credits: Credits | None = None, price: Price | None = None
) -> Availability:
    return Availability(
        False,
        ModelState.MISCONFIGURED,
        detail,
        warnings=_warnings(_remaining(credits)) if credits else (),
        credits=credits,
        reason=reason,
        price=price,
    )

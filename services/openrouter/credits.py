"""What the key may still spend: /key and, where the key may ask, /credits.

https://openrouter.ai/docs/api/reference/limits
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from async_lru import alru_cache

from arena_llm.types import Credits
from services.common.errors import (
    ApiKeyRejected,
    ModelNotFound,
    RefusedByProvider,
)
from services.common.hosted.values import number
from services.openrouter.upstream import KEY_VARIABLE, Upstream, unreadable

#: SPEC's bounds, in US dollars.
_LOW, _SOON_LOW = 1.0, 5.0


class CreditWatch:
    """The key's credits, kept for some seconds; one request however many ask."""

    def __init__(self, upstream: Upstream, seconds: float) -> None:
        self._upstream = upstream
        self._cached = alru_cache(maxsize=1, ttl=seconds)(self._fetch)

    async def credits(self) -> Credits:
        """What is left; a figure is None where OpenRouter does not tell this key.

        Raises ApiKeyRejected, UpstreamUnavailable, RateLimited.
        """
        # Shielded: who gives up waiting does not take the answer from the others.
        return await asyncio.shield(self._cached())

    async def aclose(self) -> None:
        """Stop the cache's timers."""
        await self._cached.cache_close()

    async def _fetch(self) -> Credits:
        limit, balance = await asyncio.gather(self._limit(), self._balance())
        return Credits(balance_usd=balance, limit_remaining_usd=limit)

    async def _limit(self) -> float | None:
        try:
            key = await self._data("key")
        except ApiKeyRejected as error:
            raise ApiKeyRejected(
                f"OpenRouter rejects the key in {KEY_VARIABLE}",
                metadata={**error.metadata, "variable": KEY_VARIABLE},
            ) from error
        except ModelNotFound:
            return None  # 404: another server stands in, which has no credits
        return number(key.get("limit_remaining"))

    async def _balance(self) -> float | None:
        try:
            account = await self._data("credits")
        except (ApiKeyRejected, RefusedByProvider, ModelNotFound):
            return None  # for management keys only; whether the key is good, /key says
        total, used = number(account.get("total_credits")), number(account.get("total_usage"))
        if total is None or used is None:
            return None
        # In decimal: 10.1 - 10 is to be 0.1.
        return float(Decimal(repr(total)) - Decimal(repr(used)))

    async def _data(self, path: str) -> dict[str, Any]:
        data = (await self._upstream.get(path)).get("data")
        if not isinstance(data, dict):
            raise unreadable(f"/{path} has no data")
        return data


def left(credits: Credits) -> float | None:
    """US dollars that can be spent: the balance or the key's limit, the smaller one."""
    told = [c for c in (credits.balance_usd, credits.limit_remaining_usd) if c is not None]
    return min(told) if told else None


def warnings(dollars: float | None) -> tuple[str, ...]:
    """SPEC's warnings."""
    if dollars is None or dollars >= _SOON_LOW:
        return ()
    name = "Low balance" if dollars < _LOW else "Balance warning"
    return (f"{name}: ${dollars:.2f} left on OpenRouter",)

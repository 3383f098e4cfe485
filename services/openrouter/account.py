"""Whether a model can be called now: the key, its credits, and the catalogue.

https://openrouter.ai/docs/api/reference/limits
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode, urlsplit

from arena_llm.prices import format_dollars
from arena_llm.suggestions import did_you_mean
from arena_llm.types import Availability, Credits, FreePrice, Model, ModelState, to_picousd
from services.common.errors import (
    ApiKeyRejected,
    BackendError,
    ModelNotFound,
    RefusedByProvider,
    UpstreamUnavailable,
)
from services.common.hosted.errors import TRANSIENT
from services.common.hosted.usage import find_cost
from services.common.hosted.values import number
from services.openrouter.catalogue import (
    ListedModel,
    OpenRouterCatalogue,
    describe,
    remove_preset,
)
from services.openrouter.config import DIALECTS, OpenRouterConfig, OpenRouterModel, remove_prefix
from services.openrouter.errors import unreadable
from services.openrouter.upstream import KEY_VARIABLE, Cached, OpenRouterUpstream

#: Seconds to wait for OpenRouter: less than the router's `ask_timeout_seconds`. A later answer
#: is cached for the next caller.
_WAIT = 1.8

#: Seconds before each request for the cost of a generation.
LOOK_UPS = (0, 0.5, 1)

#: Credits in 10^-12 US dollars below which there is a warning.
_LOW, _SOON_LOW = 10**12, 5 * 10**12
#: US dollars. A larger amount is a provider's mistake, and could not be sent.
_MOST = 9e6


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
                advice = did_you_mean(remove_preset(name), names)
                detail = f"{self._server} has no model {name!r}{advice}"
                return _unavailable(detail, "MODEL_NOT_FOUND", credits)
        except TimeoutError:
            detail = f"{self._server} has not answered within {_WAIT:g} s: try again"
            return Availability(False, ModelState.UNKNOWN, detail, reason="UPSTREAM_UNAVAILABLE")
        except BackendError as error:
            return self._explain(error)
        if not self._dialect.has_credits:
            detail = f"{self._server} lists it"
            return Availability(
                True, ModelState.READY, detail, model=self._describe(model, details)
            )
        return _judge(self._describe(model, details), credits)

    async def find_cost(self, generation: str) -> int | None:
        """Return what a generation cost in 10^-12 US dollars; None if that cannot be found out.

        OpenRouter knows it some moments after the end of the generation. Never raises.
        https://openrouter.ai/docs/api-reference/get-a-generation
        """
        if not self._dialect.has_credits:
            return None
        for pause in LOOK_UPS:
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(_WAIT):
                    found = await self._fetch_data("generation", urlencode({"id": generation}))
            except ModelNotFound:
                continue  # not yet
            except (BackendError, TimeoutError):
                return None
            return find_cost({**found, "cost": found.get("total_cost"), "cost_details": found}, [])
        return None

    def _describe(self, name: str, details: ListedModel) -> Model:
        return describe(self._config.find_entry(name) or OpenRouterModel(name=name), details)

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
        return Credits(balance, limit)

    async def _fetch_limit(self) -> int | None:
        try:
            key = await self._fetch_data("key")
        except ApiKeyRejected as error:
            raise ApiKeyRejected(
                f"OpenRouter rejects the key in {KEY_VARIABLE}",
                metadata={**error.metadata, "variable": KEY_VARIABLE},
            ) from error
        except ModelNotFound:
            return None  # 404: another server, which has no credits
        return _picousd(key.get("limit_remaining"))

    async def _fetch_balance(self) -> int | None:
        try:
            account = await self._fetch_data("credits")
        except (ApiKeyRejected, RefusedByProvider, ModelNotFound):
            return None  # only for management keys; /key shows whether the key is valid
        total, used = _picousd(account.get("total_credits")), _picousd(account.get("total_usage"))
        return None if total is None or used is None else total - used

    async def _fetch_data(self, path: str, query: str = "") -> dict[str, Any]:
        data = (await self._upstream.get(path, query=query)).get("data")
        if not isinstance(data, dict):
            raise unreadable(f"/{path} has no data")
        return data


def _hide_login(url: str) -> str:
    """The URL without the user and password that it may hold."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _picousd(value: Any) -> int | None:
    """10^-12 US dollars, which may be negative; None if the amount cannot be read."""
    dollars = number(value)
    return None if dollars is None or abs(dollars) > _MOST else to_picousd(dollars)


def _judge(model: Model, credits: Credits) -> Availability:
    """Decide from the remaining credits whether a listed model is available. It is if they are
    unknown."""
    left = _remaining(credits)
    if left is not None and left <= 0:
        detail = f"{format_dollars(left)} left on OpenRouter: add credits or raise the key's limit"
        if left == 0 and isinstance(model.price, FreePrice):
            detail += "; a free model may still answer if asked"
        return _unavailable(detail, "INSUFFICIENT_CREDITS", credits, model)
    return Availability(
        True,
        ModelState.READY,
        "this key may not see its credits" if left is None else f"{format_dollars(left)} left",
        warnings=_warnings(left),
        credits=credits,
        model=model,
    )


def _remaining(credits: Credits) -> int | None:
    """What can be spent: the smaller of the balance and the key's limit."""
    figures = (credits.balance_picousd, credits.limit_remaining_picousd)
    return min((figure for figure in figures if figure is not None), default=None)


def _warnings(left: int | None) -> tuple[str, ...]:
    if left is None or left >= _SOON_LOW:
        return ()
    name = "Low balance" if left < _LOW else "Balance warning"
    return (f"{name}: {format_dollars(left)} left on OpenRouter",)


def _unavailable(
    detail: str, reason: str, credits: Credits | None = None, model: Model | None = None
) -> Availability:
    return Availability(
        False,
        ModelState.MISCONFIGURED,
        detail,
        warnings=_warnings(_remaining(credits)) if credits else (),
        credits=credits,
        reason=reason,
        model=model,
    )

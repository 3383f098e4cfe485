"""The prices that an experiment's file gives for models whose price no service knows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from arena.agents.settings import StrictModel
from arena.results.rows import canonical_json
from arena_llm.prices import find_most as find_most_of_request
from arena_llm.types import (
    Attempt,
    CostBasis,
    FreePrice,
    Price,
    PriceTable,
    PriceUnit,
    Rate,
    Usage,
    to_picousd,
)

_Dollars = Annotated[float, Field(ge=0, le=1e6)]

_MILLION = 10**6


class PriceEntry(StrictModel):
    """The price of one model, in US dollars for a million tokens; `request`: for one call.

    cached, cache_write: of prompt tokens that are read from a cache, and written to it; None: as
    other prompt tokens.
    """

    prompt: _Dollars
    completion: _Dollars
    cached: _Dollars | None = None
    cache_write: _Dollars | None = None
    request: _Dollars = 0

    @property
    def price(self) -> Price:
        """The price as a table, in 10^-12 dollars for one token."""
        dollars = {
            PriceUnit.PROMPT_TOKEN: self.prompt,
            PriceUnit.COMPLETION_TOKEN: self.completion,
            PriceUnit.CACHED_TOKEN: self.cached,
            PriceUnit.CACHE_WRITE_TOKEN: self.cache_write,
        }
        rates = [
            Rate(unit, to_picousd(usd) // _MILLION)
            for unit, usd in dollars.items()
            if usd is not None
        ]
        rates += [Rate(PriceUnit.REQUEST, to_picousd(self.request))] if self.request else []
        return PriceTable(tuple(rates)) if any(rate.picousd for rate in rates) else FreePrice()


def price_usage(usage: Usage, price: Price) -> int | None:
    """The cost of one call in 10^-12 US dollars; None if its tokens or the price are not known."""
    match price:
        case FreePrice():
            return 0
        case PriceTable():
            rates = {rate.unit: rate.picousd for rate in price.rates}
        case _:
            return None
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    plain = rates[PriceUnit.PROMPT_TOKEN]
    return (
        rates.get(PriceUnit.REQUEST, 0)
        + max(0, usage.prompt_tokens - cached - written) * plain
        + cached * rates.get(PriceUnit.CACHED_TOKEN, plain)
        + written * rates.get(PriceUnit.CACHE_WRITE_TOKEN, plain)
        + usage.completion_tokens * rates[PriceUnit.COMPLETION_TOKEN]
    )


#: Tokens that the chat template and the service add: to each message, and to the whole request.
_FOR_EACH, _FOR_ALL = 16, 1000
#: A service may repeat the choices or the schema in its instructions: a factor of their length.
_REPEATED = 8


def find_most(request: str, price: Price | None) -> int | None:
    """Return the most that a lost call can have cost, in 10^-12 US dollars; None: not known.

    request: its JSON. A token of a prompt has at least one byte. A call is one request to the
    provider, or two if its reply must fit a constraint.
    """
    if price is None:
        return None
    values = json.loads(request)
    completion = values["sampling"].get("max_tokens")
    prompt = len(request) + _FOR_EACH * len(values["messages"]) + _FOR_ALL
    constraint = values["choices"] or values.get("preferred_schema")
    if not constraint or completion is None:
        return find_most_of_request(price, prompt, completion)
    prompt += _REPEATED * len(canonical_json(constraint)) + completion
    most = find_most_of_request(price, prompt, completion)
    return None if most is None else 2 * most


def add_cost(
    usage: Usage, attempts: Sequence[Attempt], price: Price | None
) -> tuple[Usage, Sequence[Attempt]]:
    """Add the cost by this price to a call whose provider and service report none.

    The tokens are those of the answered attempts, so the cost is theirs. That of failed attempts
    stays unknown.
    """
    if price is None or usage.cost_picousd is not None:
        return usage, attempts
    places = [n for n, a in enumerate(attempts) if not a.reason and a.cost_picousd is None]
    if (attempts and not places) or (cost := price_usage(usage, price)) is None:
        return usage, attempts
    if not attempts:
        return replace(usage, cost_picousd=cost, cost_basis=CostBasis.PRICE_LIST), attempts
    priced = list(attempts)
    for place in places:
        paid = cost if place == places[-1] else 0
        priced[place] = replace(priced[place], cost_picousd=paid)
    return replace(usage, cost_basis=CostBasis.PRICE_LIST), priced

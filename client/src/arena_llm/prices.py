"""The price of a request, the most that it can cost, and the format of amounts."""

from __future__ import annotations

import math

from arena_llm.types import FreePrice, Price, PriceTable, PriceUnit

#: The most expensive cache write, for an hour, costs this many times a plain prompt token:
#: https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#pricing
_LONG_CACHE = 2


def find_rates(price: PriceTable, prompt_tokens: float) -> dict[PriceUnit, int]:
    """Return the price of each unit, in 10^-12 US dollars, for prompts of this many tokens."""
    rates = sorted(price.rates, key=lambda rate: rate.above_prompt_tokens)
    return {
        rate.unit: rate.picousd
        for rate in rates
        if not rate.above_prompt_tokens or prompt_tokens > rate.above_prompt_tokens
    }


def find_most(price: Price | None, prompt_tokens: int, completion_tokens: int | None) -> int | None:
    """Return the most that a request of texts can cost, in 10^-12 US dollars.

    prompt_tokens, completion_tokens: upper bounds; None if unknown. Returns None if the price or a
    number of tokens is unknown.
    """
    if isinstance(price, FreePrice):
        return 0
    if not isinstance(price, PriceTable) or completion_tokens is None:
        return None
    most: dict[PriceUnit, int] = {}
    for rate in price.rates:
        if prompt_tokens > rate.above_prompt_tokens or not rate.above_prompt_tokens:
            most[rate.unit] = max(rate.picousd, most.get(rate.unit, 0))
    if not {PriceUnit.PROMPT_TOKEN, PriceUnit.COMPLETION_TOKEN} <= most.keys():
        return None
    prompt, completion = most[PriceUnit.PROMPT_TOKEN], most[PriceUnit.COMPLETION_TOKEN]
    if (written := most.get(PriceUnit.CACHE_WRITE_TOKEN)) is not None:
        prompt = max(_LONG_CACHE * prompt, written)
    completion = max(completion, most.get(PriceUnit.REASONING_TOKEN, 0))
    return most.get(PriceUnit.REQUEST, 0) + prompt_tokens * prompt + completion_tokens * completion


#: Amounts of at least this many dollars have two decimals. Smaller ones would lose digits.
_DECIMALS_FROM = 0.0995


def format_dollars(picousd: float) -> str:
    """Format 10^-12 US dollars: two decimals, or two significant digits if it is a small amount."""
    sign, value = "-" * (picousd < 0), abs(picousd) / 10**12
    if value == 0 or value >= _DECIMALS_FROM:
        return f"{sign}${value:,.2f}"
    # Format g would write an exponent.
    return f"{sign}${value:.{1 - math.floor(math.log10(value))}f}".rstrip("0")

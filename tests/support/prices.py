"""Prices and credits, in dollars."""

from __future__ import annotations

from arena_llm.types import Credits, PriceTable, PriceUnit, Rate, to_picousd


def price(prompt: float, completion: float) -> PriceTable:
    """A table with the price of a prompt token and of a completion token."""
    return PriceTable(
        (
            Rate(PriceUnit.PROMPT_TOKEN, to_picousd(prompt)),
            Rate(PriceUnit.COMPLETION_TOKEN, to_picousd(completion)),
        )
    )


def credits_of(balance: float | None, limit: float | None = None) -> Credits:
    """The credits of an account and of a key."""
    return Credits(*(None if usd is None else to_picousd(usd) for usd in (balance, limit)))

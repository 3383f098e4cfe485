"""Cells that several tables have."""

from __future__ import annotations

from arena_llm.types import Credits, Price


def credits_cell(credit: Credits | None) -> str:
    """What the account has left / what the key may still spend."""
    known = (credit.balance_usd, credit.limit_remaining_usd) if credit else ()
    return " / ".join(f"${usd:.2f}" for usd in known if usd is not None) or "-"


def price_cell(price: Price | None) -> str:
    """US dollars for a million tokens."""
    if price is None:
        return "-"
    return f"{_million(price.prompt_usd)} in, {_million(price.completion_usd)} out"


def _million(usd: float) -> str:
    return f"{usd * 1e6:,.6f}".rstrip("0").removesuffix(".")

"""Tokens and cost in OpenAI's format. What cannot be read is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_llm.types import CostBasis, Usage
from services.common.hosted.values import count, picousd
from services.common.log import log


def find_usage(value: Mapping[str, Any]) -> Any:
    """Return the usage of an answer, not parsed yet; None if it has none."""
    if (usage := value.get("usage")) is None and isinstance(value.get("x_groq"), dict):
        usage = value["x_groq"].get("usage")  # Groq's streams
    return usage


def parse_usage(value: Any) -> Usage:
    """Parse tokens and cost. What cannot be read is unknown, and the log names it."""
    if value is None:
        return Usage()
    if not isinstance(value, dict):
        log.warning("a provider's usage cannot be read", fields="usage")
        return Usage()
    unreadable: list[str] = []
    prompt, completion = value.get("prompt_tokens_details"), value.get("completion_tokens_details")
    cost = find_cost(value, unreadable)
    usage = Usage(
        prompt_tokens=_count(value, "prompt_tokens", unreadable),
        completion_tokens=_count(value, "completion_tokens", unreadable),
        reasoning_tokens=_count(completion, "reasoning_tokens", unreadable),
        cached_tokens=_count(prompt, "cached_tokens", unreadable),
        cache_write_tokens=_count(prompt, "cache_write_tokens", unreadable),
        image_tokens=_count(prompt, "image_tokens", unreadable),
        cost_picousd=cost,
        cost_basis=None if cost is None else CostBasis.BILLED,
    )
    if unreadable:
        log.warning("a provider's usage cannot be read", fields=", ".join(unreadable))
    return usage


def find_cost(value: Mapping[str, Any], unreadable: list[str]) -> int | None:
    """The cost in 10^-12 US dollars; None if it is not reported or cannot be read.

    With the caller's own key at the provider, OpenRouter's cost is its fee alone, and what the
    provider takes comes beside it: https://openrouter.ai/docs/use-cases/usage-accounting
    """
    amounts = {"cost": value.get("cost")}
    details = value.get("cost_details")
    if value.get("is_byok", True) is not False and isinstance(details, dict):
        amounts["upstream_inference_cost"] = details.get("upstream_inference_cost")
    costs = {name: picousd(amount) for name, amount in amounts.items() if amount is not None}
    unreadable += (name for name, cost in costs.items() if cost is None)
    known = [cost for cost in costs.values() if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def _count(values: Any, name: str, unreadable: list[str]) -> int | None:
    value = values.get(name) if isinstance(values, dict) else None
    if value is None:
        return None
    if (tokens := count(value)) is None:
        unreadable.append(name)
    return tokens

"""The expected tokens and cost of an experiment, compared with credits and budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from arena.experiment.budget import NEAR, Budget
from arena.experiment.checks import ModelCheck
from arena.experiment.plan import Plan, Work
from arena_llm import Credits, FreePrice, PriceTable, UnknownPrice
from arena_llm.prices import find_rates, format_dollars
from arena_llm.types import Price, PriceUnit

#: Prices that an estimate leaves out. Cached parts of a prompt count at the prompt's usual price,
#: and the arena sends no images.
_LEFT_OUT = frozenset({PriceUnit.CACHED_TOKEN, PriceUnit.CACHE_WRITE_TOKEN, PriceUnit.IMAGE})


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """The expected usage of one model.

    picousd: in 10^-12 US dollars; None if its price is unknown. at_least: the model has prices
    whose units cannot be predicted, so it costs this or more.
    """

    model: str
    calls: float
    prompt_tokens: float
    completion_tokens: float
    picousd: int | None
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected usage of a whole run.

    picousd: without the models in `unpriced`, whose price is unknown. at_least: it is a lower
    bound, because of these models or of prices that cannot be predicted. failures: the credits of
    a backend are not enough. warnings: the credits are almost used up, the budget will
    stop the run, or a price is unknown. notes: assumptions.
    """

    models: tuple[ModelEstimate, ...]
    picousd: int
    unpriced: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    at_least: bool = False


def estimate_cost(
    plan: Plan, checks: Iterable[ModelCheck], budget: Budget | None = None
) -> Estimate:
    """The tokens and the cost of a plan, at the prices in the checks. Pure.

    A model without a check has no price.
    """
    by_name = {check.model: check for check in checks}
    works: dict[str, list[Work]] = defaultdict(list)
    for work in plan.works:
        works[work.model].append(work)
    models = tuple(_estimate_model(name, parts, by_name.get(name)) for name, parts in works.items())
    total = _add_up(models)
    unpriced = tuple(model.model for model in models if model.picousd is None)
    warnings = [
        f"{name}: its price is unknown{_explain_price(by_name.get(name))}" for name in unpriced
    ]
    failures = []
    for backend, credit in _list_credits(by_name[name] for name in works if name in by_name):
        own = [model for model in models if _backend(by_name.get(model.model)) == backend]
        cost = _add_up(own)
        about = "at least" if _is_bound(own) else "about"
        line = (
            f"{backend}: will cost {about} {format_dollars(cost)}, "
            f"and {format_dollars(credit)} of credits are left"
        )
        if cost > credit:
            failures.append(line)
        elif cost > NEAR * credit:
            warnings.append(line)
    warnings += _compare_with_budget(models, total, budget or Budget())
    return Estimate(
        models, total, unpriced, tuple(failures), tuple(warnings), plan.notes, _is_bound(models)
    )


def _estimate_model(name: str, works: list[Work], check: ModelCheck | None) -> ModelEstimate:
    costs = [_price_work(work, check.price if check else None) for work in works]
    known = [cost for cost, _ in costs if cost is not None]
    return ModelEstimate(
        name,
        sum(work.calls for work in works),
        sum(work.calls * work.prompt_tokens for work in works),
        sum(work.calls * work.completion_tokens for work in works),
        sum(known) if len(known) == len(costs) else None,
        any(at_least for _, at_least in costs),
    )


def _price_work(work: Work, price: Price | None) -> tuple[int | None, bool]:
    """The cost of the calls in 10^-12 US dollars, and whether it is a lower bound."""
    match price:
        case FreePrice():
            return 0, False
        case PriceTable():
            rates = find_rates(price, work.prompt_tokens)
        case _:
            return None, False
    units = {
        PriceUnit.REQUEST: 1.0,
        PriceUnit.PROMPT_TOKEN: work.prompt_tokens,
        PriceUnit.COMPLETION_TOKEN: work.completion_tokens,
    }
    if not rates.keys() & units.keys():
        return None, False
    cost = sum(rates[unit] * count for unit, count in units.items() if unit in rates)
    other = rates.keys() - units.keys() - _LEFT_OUT
    if PriceUnit.REASONING_TOKEN in other:
        # Reasoning tokens are completion tokens, so a price that is not higher adds nothing.
        completion = rates.get(PriceUnit.COMPLETION_TOKEN, 0)
        if rates[PriceUnit.REASONING_TOKEN] <= completion or not work.completion_tokens:
            other.remove(PriceUnit.REASONING_TOKEN)
    return round(work.calls * cost), bool(other)


def _add_up(models: Iterable[ModelEstimate]) -> int:
    return sum(model.picousd or 0 for model in models)


def _is_bound(models: Iterable[ModelEstimate]) -> bool:
    return any(model.picousd is None or model.at_least for model in models)


def _explain_price(check: ModelCheck | None) -> str:
    """Why a price is unknown, in brackets; empty if that is not known either."""
    price = check.price if check else None
    return f" ({price.detail})" if isinstance(price, UnknownPrice) and price.detail else ""


def _backend(check: ModelCheck | None) -> str:
    return check.backend if check else ""


def _compare_with_budget(
    models: Iterable[ModelEstimate], picousd: int, budget: Budget
) -> Iterator[str]:
    tokens = sum(model.prompt_tokens + model.completion_tokens for model in models)
    stops = "the run will stop before its end"
    if budget.max_cost_picousd is not None and picousd > budget.max_cost_picousd:
        cost = format_dollars(picousd)
        yield f"about {cost} is over max_cost_usd {budget.max_cost_usd:g}: {stops}"
    limit = budget.max_tokens_total
    if limit is not None and tokens > limit:
        yield f"about {tokens:,.0f} tokens is over max_tokens_total {limit:,}: {stops}"


def _list_credits(checks: Iterable[ModelCheck]) -> Iterable[tuple[str, int]]:
    """What the key of each backend can still spend, in 10^-12 US dollars."""
    credit: dict[str, int] = {}
    for check in checks:
        for picousd in _list_amounts(check.credits):
            credit[check.backend] = min(picousd, credit.get(check.backend, picousd))
    return credit.items()


def _list_amounts(credits: Credits | None) -> list[int]:
    """What the account has left, and what the key may still spend, as far as known."""
    amounts = (credits.balance_picousd, credits.limit_remaining_picousd) if credits else ()
    return [picousd for picousd in amounts if picousd is not None]

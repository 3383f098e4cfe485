"""The expected tokens and cost of an experiment, compared with credits and budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from arena.experiment.budget import NEAR, Budget
from arena.experiment.checks import ModelCheck
from arena.experiment.plan import Plan, Work
from arena_llm import Credits


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """The part of one model. usd: None if its price is unknown."""

    model: str
    calls: float
    prompt_tokens: float
    completion_tokens: float
    usd: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected usage of a whole run.

    usd: without the models in `unpriced`, whose price is unknown. failures: the credits of
    a backend are not enough. warnings: the credits are almost used up, the budget will
    stop the run, or a price is unknown. notes: assumptions.
    """

    models: tuple[ModelEstimate, ...]
    usd: float
    unpriced: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def estimate_cost(
    plan: Plan, checks: Iterable[ModelCheck], budget: Budget | None = None
) -> Estimate:
    """The tokens and US dollars of a plan, at the prices in the checks. Pure.

    A model without a check has no price.
    """
    by_name = {check.model: check for check in checks}
    works: dict[str, list[Work]] = defaultdict(list)
    for work in plan.works:
        works[work.model].append(work)
    models = tuple(_estimate_model(name, parts, by_name.get(name)) for name, parts in works.items())
    usd = sum(model.usd or 0 for model in models)
    unpriced = tuple(model.model for model in models if model.usd is None)
    warnings = [f"{name}: its price is unknown" for name in unpriced]
    failures = []
    for backend, credit in _list_credits(by_name[name] for name in works if name in by_name):
        own = [model for model in models if _backend(by_name.get(model.model)) == backend]
        cost = sum(model.usd or 0 for model in own)
        about = "at least" if any(model.usd is None for model in own) else "about"
        line = f"{backend}: will cost {about} ${cost:.2f}, and ${credit:.2f} of credits are left"
        if cost > credit:
            failures.append(line)
        elif cost > NEAR * credit:
            warnings.append(line)
    warnings += _compare_with_budget(models, usd, budget or Budget())
    return Estimate(models, usd, unpriced, tuple(failures), tuple(warnings), plan.notes)


def _estimate_model(name: str, works: list[Work], check: ModelCheck | None) -> ModelEstimate:
    prompt = sum(work.calls * work.prompt_tokens for work in works)
    completion = sum(work.calls * work.completion_tokens for work in works)
    price = check.price if check else None
    usd = None if price is None else prompt * price.prompt_usd + completion * price.completion_usd
    return ModelEstimate(name, sum(work.calls for work in works), prompt, completion, usd)


def _backend(check: ModelCheck | None) -> str:
    return check.backend if check else ""


def _compare_with_budget(
    models: Iterable[ModelEstimate], usd: float, budget: Budget
) -> Iterator[str]:
    tokens = sum(model.prompt_tokens + model.completion_tokens for model in models)
    stops = "the run will stop before its end"
    if budget.max_cost_usd is not None and usd > budget.max_cost_usd:
        yield f"about ${usd:,.2f} is over max_cost_usd {budget.max_cost_usd:g}: {stops}"
    limit = budget.max_tokens_total
    if limit is not None and tokens > limit:
        yield f"about {tokens:,.0f} tokens is over max_tokens_total {limit:,}: {stops}"


def _list_credits(checks: Iterable[ModelCheck]) -> Iterable[tuple[str, float]]:
    """The US dollars that the key of each backend can still spend."""
    credit: dict[str, float] = {}
    for check in checks:
        for usd in _list_amounts(check.credits):
            credit[check.backend] = min(usd, credit.get(check.backend, usd))
    return credit.items()


def _list_amounts(credits: Credits | None) -> list[float]:
    """What the account has left, and what the key may still spend, as far as known."""
    amounts = (credits.balance_usd, credits.limit_remaining_usd) if credits else ()
    return [usd for usd in amounts if usd is not None]

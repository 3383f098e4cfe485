"""What an experiment will cost, against the credits that are left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from arena_llm.types import Credits
from arena_llm.validation.plan import Plan, Work
from arena_llm.validation.verdict import Verdict

#: Part of the credits from which on there is a warning.
_NEAR = 0.8


@dataclass(frozen=True, slots=True)
class ModelEstimate:
    """One model's part; usd is None where its price is not known."""

    model: str
    calls: float
    prompt_tokens: float
    completion_tokens: float
    usd: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the whole run is expected to take.

    usd: of the models whose price is known; `unpriced` names the others.
    failures: the credits of a backend do not last. warnings: they hardly do, or the
    cost is not known. notes: what had to be guessed.
    """

    models: tuple[ModelEstimate, ...]
    usd: float
    unpriced: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def estimate(plan: Plan, verdicts: Iterable[Verdict]) -> Estimate:
    """Tokens and dollars of a plan, at the verdicts' prices, against their credits.

    A pure function. A model without a verdict is one without a price.
    """
    by_name = {verdict.model: verdict for verdict in verdicts}
    works: dict[str, list[Work]] = defaultdict(list)
    for work in plan.works:
        works[work.model].append(work)
    models = tuple(_of_model(name, parts, by_name.get(name)) for name, parts in works.items())
    unpriced = tuple(one.model for one in models if one.usd is None)
    warnings = [f"{name}: no price is known (see `arena-llm models`)" for name in unpriced]
    failures = []
    for backend, left in _credits(by_name[one.model] for one in models if one.model in by_name):
        of_backend = [one for one in models if _backend(by_name.get(one.model)) == backend]
        usd = sum(one.usd or 0 for one in of_backend)
        about = "at least" if any(one.usd is None for one in of_backend) else "about"
        line = f"{backend}: {about} ${usd:.2f} to be spent, ${left:.2f} of credits left"
        if usd > left:
            failures.append(line)
        elif usd > _NEAR * left:
            warnings.append(line)
    return Estimate(
        models=models,
        usd=sum(one.usd or 0 for one in models),
        unpriced=unpriced,
        failures=tuple(failures),
        warnings=tuple(warnings),
        notes=plan.notes,
    )


def _of_model(name: str, works: list[Work], verdict: Verdict | None) -> ModelEstimate:
    prompt = sum(work.calls * work.prompt_tokens for work in works)
    completion = sum(work.calls * work.completion_tokens for work in works)
    price = verdict.price if verdict else None
    usd = None if price is None else prompt * price.prompt_usd + completion * price.completion_usd
    return ModelEstimate(name, sum(work.calls for work in works), prompt, completion, usd)


def _backend(verdict: Verdict | None) -> str:
    return verdict.backend if verdict else ""


def _credits(verdicts: Iterable[Verdict]) -> Iterable[tuple[str, float]]:
    """What each backend's key may still spend, in US dollars."""
    left: dict[str, float] = {}
    for verdict in verdicts:
        for usd in _amounts(verdict.credits):
            left[verdict.backend] = min(usd, left.get(verdict.backend, usd))
    return left.items()


def _amounts(credit: Credits | None) -> list[float]:
    both = (credit.balance_usd, credit.limit_remaining_usd) if credit else ()
    return [usd for usd in both if usd is not None]

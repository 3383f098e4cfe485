"""Asks the router for each model whether it can run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from enum import StrEnum

from arena.experiment.budget import Budget
from arena.experiment.uses import ModelUse
from arena_llm import (
    ArenaError,
    Availability,
    Capability,
    Client,
    Credits,
    Model,
    ModelList,
    ModelState,
    UnknownPrice,
)
from arena_llm.types import Price

#: Reasons whose cause is the experiment's file: `lenient` does not accept them.
_WRONG_FILE = frozenset({"UNKNOWN_PREFIX", "INVALID_REQUEST", "UNSUPPORTED"})


class CheckStatus(StrEnum):
    """The result of a check. A model with a warning can run."""

    OK = "ok"
    WARNING = "warning"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The result for one model.

    backend: empty if no backend serves the name's prefix. reason: what a call would fail
    with, such as "API_KEY_MISSING"; empty if the model is available. detail: how to fix
    it, or the model's state. price: None, or an UnknownPrice, if it is unknown.
    """

    model: str
    backend: str
    status: CheckStatus
    state: ModelState
    reason: str = ""
    detail: str = ""
    warnings: tuple[str, ...] = ()
    credits: Credits | None = None
    price: Price | None = None


def check_models(
    client: Client,
    models: Iterable[str],
    *,
    uses: Mapping[str, ModelUse] | None = None,
    lenient: bool = False,
    concurrency: int = 32,
) -> list[ModelCheck]:
    """Check all models concurrently, each once. Returns the results in order.

    uses: what the experiment needs of a model. lenient: a model of another backend than
    OpenRouter is assumed to be valid, with a warning.

    An error in the answer about a model is a failed check. Raises ArenaError if the router
    itself does not answer (UnavailableError with reason UNREACHABLE: it does not run).
    """
    names = list(dict.fromkeys(models))
    # A separate client over the same connection: after an interrupt it is closed first,
    # which ends the calls, so that leaving the pool has nothing to wait for.
    with (
        ThreadPoolExecutor(min(concurrency, len(names) + 1), "arena-check") as pool,
        copy(client) as own,
    ):
        listing = pool.submit(own.list_models)
        answers = list(pool.map(lambda name: _ask(own, name), names))
        listed = listing.result()
    by_name = {model.name: model for model in listed}
    unable = _find_backends_without_scores(listed)
    unlisted = {backend.backend: backend.detail for backend in listed.unreachable}
    checks = []
    for name, answer in zip(names, answers, strict=True):
        model, use = by_name.get(name), (uses or {}).get(name, ModelUse())
        if isinstance(answer, Availability) and answer.available:
            described = answer.model or model
            if use.scores and _find_backend(name, model) in unable:
                answer = _refuse_scoring(_find_backend(name, model))
            elif refused := use.list_refused(described):
                answer = _refuse_fields(refused)
            else:
                warnings = (*answer.warnings, *use.list_warnings(described))
                answer = replace(answer, warnings=warnings)
        checks.append(judge_answer(name, answer, model, unlisted, lenient=lenient))
    return checks


def judge_answer(
    name: str,
    answer: Availability | ArenaError,
    model: Model | None = None,
    unlisted: Mapping[str, str] | None = None,
    *,
    lenient: bool = False,
) -> ModelCheck:
    """The check of one model, from the answer about it.

    model: its entry in the list of models, if it has one. unlisted: the backends that
    did not list their models, and the reason.
    """
    backend = _find_backend(name, model)
    if isinstance(answer, ArenaError):
        answer = Availability(
            False, ModelState.UNKNOWN, answer.message, reason=answer.reason or answer.code
        )
    warnings = answer.warnings
    price = next((m.price for m in (answer.model, model) if m and m.price), None)
    if answer.available:
        status = CheckStatus.OK
        if price is None and unlisted and backend in unlisted:
            price = UnknownPrice(unlisted[backend])
            warnings = (*warnings, f"its price is unknown: {price.detail}")
    elif lenient and not name.startswith("openrouter_") and answer.reason not in _WRONG_FILE:
        status = CheckStatus.OK
        warnings = (f"assumed to be valid, but {answer.reason}: {answer.detail}", *warnings)
    else:
        status = CheckStatus.FAIL
    return ModelCheck(
        model=name,
        backend="" if answer.reason == "UNKNOWN_PREFIX" else backend,
        status=CheckStatus.WARNING if status is CheckStatus.OK and warnings else status,
        state=answer.state,
        reason=answer.reason,
        detail=answer.detail,
        warnings=warnings,
        credits=answer.credits,
        price=price,
    )


def require_prices(
    checks: Iterable[ModelCheck], prices: Mapping[str, Price], budget: Budget
) -> list[ModelCheck]:
    """The checks with the prices of the experiment's file.

    With a budget in dollars, a model without any price fails: its cost could not be limited.
    """
    priced = []
    for check in checks:
        known = check.price is not None and not isinstance(check.price, UnknownPrice)
        if check.model in prices:
            check = replace(check, price=prices[check.model])
        elif budget.max_cost_usd is not None and not known and check.status is not CheckStatus.FAIL:
            why = check.price.detail if isinstance(check.price, UnknownPrice) else ""
            why = f" ({why})" if why else ""
            check = replace(
                check,
                status=CheckStatus.FAIL,
                reason="PRICE_UNKNOWN",
                detail=f"its price is not known{why}, so max_cost_usd cannot be kept: add "
                f"prices: {{{check.model}: {{prompt: ..., completion: ...}}}} in US dollars for a "
                "million tokens, or remove max_cost_usd",
            )
        priced.append(check)
    return priced


def _ask(client: Client, model: str) -> Availability | ArenaError:
    try:
        return client.is_available(model)
    except ArenaError as error:
        return error


def _find_backend(name: str, model: Model | None) -> str:
    return model.backend if model else name.partition("_")[0]


def _find_backends_without_scores(listed: ModelList) -> set[str]:
    """The backends whose models list capabilities, but never scoring."""
    models = [model for model in listed if model.capabilities]
    able = {model.backend for model in models if Capability.SCORE in model.capabilities}
    return {model.backend for model in models} - able


def _refuse_scoring(backend: str) -> Availability:
    return Availability(
        False,
        ModelState.MISCONFIGURED,
        f"reply: score needs probabilities, which the backend {backend} does not return: set "
        "reply: choices or json, or use a local model",
        reason="UNSUPPORTED",
    )


def _refuse_fields(fields: Sequence[str]) -> Availability:
    return Availability(
        False,
        ModelState.MISCONFIGURED,
        f"it does not honour {', '.join(fields)}: leave the setting out, or use another model",
        reason="UNSUPPORTED",
    )

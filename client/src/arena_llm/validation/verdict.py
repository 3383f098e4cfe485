"""Whether each model can run: what the router says of it, and what that means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from arena_llm.client import Client
from arena_llm.errors import ArenaError, InvalidArgumentError
from arena_llm.types import Availability, Credits, Model, ModelList, ModelState, Price

#: Backends whose models run on one's own machines: without a price they are free,
#: while a hosted model without one costs nobody knows what.
LOCAL_BACKENDS = frozenset({"hf", "vllm"})

FREE = Price(0.0, 0.0)

_UNKNOWN_PREFIX = "UNKNOWN_PREFIX"
#: Failures of the name itself, which no leniency can run.
_WRONG_NAMES = frozenset({_UNKNOWN_PREFIX, "INVALID_REQUEST"})


class Status(StrEnum):
    """Whether a model can run: warning means that it can, but read why."""

    OK = "ok"
    WARNING = "warning"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to know of one model before an expensive run.

    backend: empty where nobody serves the name's prefix.
    reason: what a call would fail with, such as "API_KEY_MISSING"; empty if available.
    detail: how to fix it, or what the model is doing.
    warnings: to be shown whatever the status.
    price: US dollars for one token; None where it is not known.
    """

    model: str
    backend: str
    status: Status
    state: ModelState
    reason: str = ""
    detail: str = ""
    warnings: tuple[str, ...] = ()
    credits: Credits | None = None
    price: Price | None = None


def validate(
    client: Client, models: Iterable[str], *, lenient: bool = False, concurrency: int = 32
) -> list[Verdict]:
    """Ask for every model at once, each once, and return the verdicts in order.

    lenient: a model that is not OpenRouter's is assumed to be valid, with a warning.
    concurrency: most calls at once, each on a thread of its own.

    A model that cannot be asked for gets a verdict. Raises ArenaError where the router
    itself does not answer (UnavailableError, reason UNREACHABLE: it does not run).
    """
    names = list(dict.fromkeys(models))
    # A client of its own (over the same connection): when this is interrupted, closing
    # it ends these calls, so that the pool, which is left last, has nothing to wait for.
    with (
        ThreadPoolExecutor(min(concurrency, len(names) + 1), "arena-llm") as pool,
        Client(client.target, timeout=client.timeout) as own,
    ):
        asked = pool.submit(own.list_models)
        answers = list(pool.map(lambda name: _ask(own, name), names))
        listed = asked.result()
    by_name = {model.name: model for model in listed}
    return [
        judge(name, answer, by_name.get(name), _missing_lists(listed), lenient=lenient)
        for name, answer in zip(names, answers, strict=True)
    ]


def _ask(client: Client, model: str) -> Availability | ArenaError:
    try:
        if not model.strip():
            # On the wire it would ask after the service as a whole.
            raise InvalidArgumentError(
                "the model's name is empty", reason="INVALID_REQUEST", field="model"
            )
        return client.is_available(model)
    except ArenaError as error:
        return error


def _missing_lists(listed: ModelList) -> dict[str, str]:
    """Why a backend's models, and so their prices, are not in the list."""
    return {missing.backend: missing.detail for missing in listed.unreachable}


def judge(
    name: str,
    answer: Availability | ArenaError,
    listed: Model | None = None,
    missing_lists: Mapping[str, str] | None = None,
    *,
    lenient: bool = False,
) -> Verdict:
    """The verdict on one model, from what was answered.

    listed: its entry in the list of models, where it has one.
    missing_lists: backends that did not list their models, and why not.
    """
    backend = (listed and listed.backend) or name.partition("_")[0]
    if isinstance(answer, ArenaError):
        answer = Availability(
            False, ModelState.UNKNOWN, answer.message, reason=answer.reason or answer.code
        )
    if answer.reason == _UNKNOWN_PREFIX:
        backend = ""
    warnings = answer.warnings
    price = answer.price or (listed.price if listed else None)
    if price is None and backend in LOCAL_BACKENDS:
        price = FREE
    if answer.available:
        status = Status.OK
        if price is None and missing_lists and backend in missing_lists:
            warnings = (*warnings, f"its price could not be asked for: {missing_lists[backend]}")
    elif lenient and not name.startswith("openrouter_") and answer.reason not in _WRONG_NAMES:
        status = Status.OK
        warnings = (f"assumed to be valid, but {answer.reason}: {answer.detail}", *warnings)
    else:
        status = Status.FAIL
    return Verdict(
        model=name,
        backend=backend,
        status=Status.WARNING if status is Status.OK and warnings else status,
        state=answer.state,
        reason=answer.reason,
        detail=answer.detail,
        warnings=warnings,
        credits=answer.credits,
        price=price,
    )

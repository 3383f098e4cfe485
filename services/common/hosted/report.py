"""What a call has tried and paid: its attempts, the sum of its usage, a failure's report."""

from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

from arena_llm.types import Attempt, CallReport, Completion, Usage
from services.common.errors import BackendError
from services.common.hosted.journal import Entry
from services.common.trailers import cut_text

_MAX_DETAIL = 200  # bytes of an attempt's detail

#: The numbers of a Usage that are added up.
_NUMBERS = tuple(f.name for f in fields(Usage) if f.name.endswith(("tokens", "picousd")))


def make_report(completion: Completion) -> CallReport:
    """The report for a completion that is refused."""
    return CallReport(
        attempts=completion.attempts, usage=completion.usage, served_by=completion.served_by
    )


def succeeded(completion: Completion, seconds: float) -> Attempt:
    """The attempt that a completion came from."""
    return Attempt(
        provider=completion.served_by.provider,
        upstream_id=completion.id[:_MAX_DETAIL],
        http_status=200,
        seconds=seconds,
        cost_picousd=completion.usage.cost_picousd,
    )


#: HTTP statuses of a gateway that gave up: its own request may go on, and be billed.
_GAVE_UP = frozenset((408, 499, 504, 522, 524))


def end_request(entry: Entry, completion: Completion) -> None:
    """Note what an answered request cost."""
    entry.end(completion.served_by.provider, completion.id, completion.usage.cost_picousd)


def fail_request(entry: Entry, error: BackendError, begun: bool = False) -> None:
    """Note what a failed request cost, and add it to the error's report.

    It cost nothing if it was not sent, or if the provider reports an error in place of an answer.
    Otherwise the cost is unknown, unless the answer has it. begun: a part of the answer has come.
    """
    report = error.report or CallReport()
    cost = report.usage.cost_picousd
    if cost is None and not report.usage.completion_tokens:
        status = error.metadata.get("upstream_status", "")
        refused = status.isdecimal() and int(status) >= 300 and int(status) not in _GAVE_UP
        if not entry.sent or (refused and not begun):
            cost = 0
            error.report = replace(report, usage=replace(report.usage, cost_picousd=0))
    provider = report.served_by.provider or error.metadata.get("provider", "")
    entry.end(provider, "", cost)
    if entry.upstream_id:
        error.metadata["upstream_id"] = entry.upstream_id[:_MAX_DETAIL]


def failed(error: BackendError, seconds: float) -> Attempt:
    """The attempt that an error ended."""
    status = error.metadata.get("upstream_status", "")
    known = error.report.served_by.provider if error.report else ""
    return Attempt(
        provider=known or error.metadata.get("provider", ""),
        upstream_id=error.metadata.get("upstream_id", ""),
        http_status=int(status) if status.isdecimal() else 0,
        reason=error.reason,
        seconds=seconds,
        cost_picousd=error.report.usage.cost_picousd if error.report else None,
        detail=cut_text(error.message, _MAX_DETAIL),
    )


def add_attempts(error: BackendError, attempts: tuple[Attempt, ...]) -> None:
    """Add attempts before those that the error's report has."""
    if not attempts:
        return
    report = error.report or CallReport()
    attempts += report.attempts
    error.report = replace(report, attempts=attempts, usage=with_cost(report.usage, attempts))


def add_failures(completion: Completion, failures: tuple[Attempt, ...]) -> Completion:
    """Add failed attempts before those of a completion, and their cost to its usage."""
    attempts, usage = failures + completion.attempts, completion.usage
    costs = [attempt.cost_picousd for attempt in failures]
    if usage.cost_picousd is not None and any(cost != 0 for cost in costs):
        usage = with_cost(usage, attempts)
    return replace(completion, attempts=attempts, usage=usage)


def with_attempts(completion: Completion, attempts: tuple[Attempt, ...]) -> Completion:
    """The completion with these attempts, and with their cost."""
    return replace(completion, attempts=attempts, usage=with_cost(completion.usage, attempts))


def with_cost(usage: Usage, attempts: tuple[Attempt, ...]) -> Usage:
    """The usage with the sum of the attempts' costs, which is unknown if one of these is."""
    known = [a.cost_picousd for a in attempts if a.cost_picousd is not None]
    cost = sum(known) if len(known) == len(attempts) else None
    return replace(usage, cost_picousd=cost, cost_basis=None if cost is None else usage.cost_basis)


def describe_cost(report: CallReport) -> dict[str, str]:
    """The metadata of an error that says what its call cost, in US dollars."""
    if (cost := report.usage.cost_usd) is not None:
        return {"cost_usd": f"{cost.normalize():f}"}
    bounds = [
        attempt.max_cost_picousd if attempt.cost_picousd is None else attempt.cost_picousd
        for attempt in report.attempts
    ]
    known = [bound for bound in bounds if bound is not None]
    if len(known) < len(bounds):
        return {"cost_usd": "unknown"}
    most = Decimal(sum(known)).scaleb(-12)
    return {"cost_usd": "unknown", "max_cost_usd": f"{most.normalize():f}"}


def add_earlier(error: BackendError, earlier: Completion) -> None:
    """Add the attempts and the usage of an earlier completion to an error's report."""
    report = error.report or CallReport()
    attempts = earlier.attempts + report.attempts
    usage = add_usage(earlier.usage, report.usage)
    # A report has the tokens that are known.
    known = {
        name: value
        for name in _NUMBERS
        if getattr(usage, name) is None
        and (value := getattr(earlier.usage, name) or getattr(report.usage, name)) is not None
    }
    basis = earlier.usage.cost_basis or report.usage.cost_basis
    usage = with_cost(replace(usage, **known, cost_basis=basis), attempts)
    error.report = replace(report, attempts=attempts, usage=usage)


def add_usage(first: Usage, second: Usage) -> Usage:
    """The sum of two usages. A number that is unknown in one of them is unknown in the sum."""
    sums: dict[str, Any] = {}
    for name in _NUMBERS:
        left, right = getattr(first, name), getattr(second, name)
        sums[name] = None if left is None or right is None else left + right
    basis = first.cost_basis if first.cost_basis is second.cost_basis else None
    return Usage(**sums, cost_basis=basis, estimated=first.estimated or second.estimated)

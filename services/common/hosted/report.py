"""What a call has tried and paid: its attempts, the sum of its usage, a failure's report."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from arena_llm.types import Attempt, CallReport, Completion, Usage
from services.common.errors import BackendError, cut_text

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


def failed(error: BackendError, seconds: float) -> Attempt:
    """The attempt that an error ended."""
    status = error.metadata.get("upstream_status", "")
    known = error.report.served_by.provider if error.report else ""
    return Attempt(
        provider=known or error.metadata.get("provider", ""),
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
    error.report = replace(report, attempts=attempts + report.attempts)


def add_earlier(error: BackendError, earlier: Completion) -> None:
    """Add the attempts and the usage of an earlier completion to an error's report."""
    report = error.report or CallReport()
    usage = earlier.usage
    if report.usage != Usage():
        usage = add_usage(usage, report.usage)
    error.report = replace(report, attempts=earlier.attempts + report.attempts, usage=usage)


def add_usage(first: Usage, second: Usage) -> Usage:
    """The sum of two usages. A number that one of them does not know is unknown."""
    sums: dict[str, Any] = {}
    for name in _NUMBERS:
        left, right = getattr(first, name), getattr(second, name)
        sums[name] = None if left is None or right is None else left + right
    basis = first.cost_basis if first.cost_basis is second.cost_basis else None
    return Usage(**sums, cost_basis=basis, estimated=first.estimated or second.estimated)

"""Calls other models if a model cannot answer for a reason that waiting does not cure.

A model that is overloaded, limited or down is waited for. One without credits, key or permission
stays so: the next model of the list gets the same request. That happens only before the first
token, and the reply says which models failed before the one that answered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2

from arena_llm.errors import DETAILS_TRAILER
from arena_llm.v1 import call_report_pb2, error_pb2, generate_pb2, models_pb2, reply_pb2
from services.common.call import CallRecord
from services.common.errors import MAX_DETAILS_BYTES, BackendError, cut_message, cut_text
from services.common.handlers import scan
from services.common.validation import check_fallbacks

#: What waiting does not cure, and the next model may not have.
REASONS = frozenset(
    (
        *("API_KEY_MISSING", "API_KEY_REJECTED", "INSUFFICIENT_CREDITS", "REFUSED_BY_PROVIDER"),
        *("MODEL_MISCONFIGURED", "MODEL_NOT_FOUND"),
    )
)
#: Why a model of the list is passed over, too: it cannot honour what was written for another one.
UNFIT = REASONS | {"UNSUPPORTED", "CONTEXT_TOO_LONG", "STATE_MISMATCH"}

#: The path by which a model's supported_fields name what the router honours for it.
FIELD = "fallback_models.names"

_MAX_DETAIL = 200  # bytes of an error's message

_FIELDS = generate_pb2.GenerateRequest.DESCRIPTOR.fields_by_name
_RENAMED = frozenset((_FIELDS["model"].number, _FIELDS["fallback_models"].number))


class PassedOver(Exception):
    """A model cannot answer, and the next one is called. error: how its call ended."""

    def __init__(self, error: grpc.aio.AioRpcError, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


class FailedCall(NamedTuple):
    """A model that could not answer. report: what it tried and paid, if it says so."""

    model: str
    reason: str
    detail: str
    report: call_report_pb2.CallReport | None


def list_models(
    request: generate_pb2.GenerateRequest, configured: Mapping[str, Sequence[str]]
) -> Sequence[str]:
    """Return the models that may answer in place of the request's. Raises InvalidRequest.

    configured: by model, for requests that do not say.
    """
    if not request.HasField("fallback_models"):
        return configured.get(request.model, ())
    check_fallbacks(request.fallback_models, request.model)
    return tuple(request.fallback_models.names)


def name_model(data: bytes, model: str) -> bytes:
    """Return the bytes of a request for this model alone."""
    found = scan(generate_pb2.GenerateRequest.DESCRIPTOR, data, deep=False)
    rest = (data[begin:end] for number, begin, end in found.top if number not in _RENAMED)
    return b"".join((generate_pb2.GenerateRequest(model=model).SerializeToString(), *rest))


@dataclass
class Fallbacks:
    """One call over a list of models. start: begins a call to a model, with its own request.

    record: of the caller's call. failed: the models that could not answer.
    """

    models: Sequence[str]
    start: Callable[[str, bytes], Any]
    data: bytes
    record: CallRecord
    failed: list[FailedCall] = field(default_factory=list)

    async def reply(self) -> bytes:
        """Return the reply of the first model that can answer."""
        for place, model in enumerate(self.models):
            try:
                return add_failed(await self._begin(place, model).reply(), self.failed)
            except PassedOver as passed:
                self._note(model, passed)
            except BackendError as error:
                self._explain(error)
                raise
        raise AssertionError("the last model is never passed over")

    async def messages(self, request_id: str) -> AsyncGenerator[bytes, None]:
        """Yield the events of the first model that can answer, after a start of our own.

        Who answers is not known at the start.
        """
        start = generate_pb2.StreamStart(request_id=request_id)
        yield generate_pb2.StreamGenerateResponse(start=start).SerializeToString()
        sequence = 1
        for place, model in enumerate(self.models):
            try:
                async with (
                    self._begin(place, model) as call,
                    aclosing(call.messages(initial=False)) as messages,
                ):
                    async for message in messages:
                        event = generate_pb2.StreamGenerateResponse.FromString(message)
                        kind = event.WhichOneof("event")
                        if kind == "start":
                            continue
                        if kind != "progress":
                            call.passed_over = frozenset()  # the first token has come
                        if kind in ("completion", "interruption"):
                            _add_failed(getattr(event, kind), self.failed)
                        event.sequence = sequence
                        sequence += 1
                        yield event.SerializeToString()
                return
            except PassedOver as passed:
                self._note(model, passed)
            except BackendError as error:
                self._explain(error)
                raise

    def _begin(self, place: int, model: str) -> Any:
        call = self.start(model, name_model(self.data, model))
        call.failed = self.failed
        if place + 1 < len(self.models):
            call.passed_over = UNFIT if place else REASONS
        return call

    def _note(self, model: str, passed: PassedOver) -> None:
        detail = cut_text(passed.error.details() or "", _MAX_DETAIL)
        trailers: Any = passed.error.trailing_metadata()
        report = _read_report(tuple(trailers))
        self.failed.append(FailedCall(model, passed.reason, detail, report))
        self.record.add(failed_models=describe(self.failed))

    def _explain(self, error: BackendError) -> None:
        """Say in an error of the router itself which models failed before."""
        if self.failed:
            error.metadata["failed_models"] = describe(self.failed)


def describe(failed: Sequence[FailedCall]) -> str:
    """Return in one line which models failed and why, for logs and errors."""
    return ", ".join(f"{one.model}: {one.reason}" for one in failed)


def add_failed(reply: bytes, failed: Sequence[FailedCall]) -> bytes:
    """Return a serialized GenerateResponse with the models that failed before, and their cost."""
    if not failed:
        return reply
    message = reply_pb2.GenerateResponse.FromString(reply)
    _add_failed(message, failed)
    return message.SerializeToString()


def _add_failed(message: reply_pb2.GenerateResponse, failed: Sequence[FailedCall]) -> None:
    for one in failed:
        reason = error_pb2.ErrorReason.Value(f"ERROR_REASON_{one.reason}")
        message.failed_models.add(model=one.model, reason=reason, detail=one.detail)
    _add_reports(message, failed)


def _add_reports(
    message: reply_pb2.GenerateResponse | call_report_pb2.CallReport, failed: Sequence[FailedCall]
) -> None:
    """Add what failed calls tried and paid to a reply, or to the report of an error.

    A call without a report has not reached a provider.
    """
    reports = [one.report for one in failed if one.report is not None]
    earlier = [attempt for report in reports for attempt in report.attempts]
    own = list(message.attempts)
    del message.attempts[:]
    message.attempts.extend([*earlier, *own])
    usage = message.usage
    for report in reports:
        if not report.usage.HasField("cost_picousd") and report.attempts:
            usage.ClearField("cost_picousd")
            usage.ClearField("cost_basis")
        elif usage.HasField("cost_picousd"):
            usage.cost_picousd += report.usage.cost_picousd


def extend_error(
    details: str, trailers: tuple[tuple[str, str | bytes], ...], failed: Sequence[FailedCall]
) -> tuple[str, tuple[tuple[str, str | bytes], ...]]:
    """Return an error's message and trailers with the models that failed before the last one."""
    names = describe(failed)
    extended = tuple(
        (key, _extend_status(value, names, failed) if isinstance(value, bytes) else value)
        if key == DETAILS_TRAILER
        else (key, value)
        for key, value in trailers
    )
    return cut_message(f"{details} (models that failed before: {names})"), extended


def _extend_status(data: bytes, names: str, failed: Sequence[FailedCall]) -> bytes:
    status = status_pb2.Status.FromString(data)
    info, report = error_details_pb2.ErrorInfo(), call_report_pb2.CallReport()
    report.usage.cost_picousd = 0  # the last call has no report if it paid nothing
    _add_reports(report, failed)
    has_report = bool(report.attempts)
    for detail in status.details:
        if detail.Unpack(info):
            info.metadata["failed_models"] = cut_text(names, 400)
            detail.Pack(info)
        elif detail.Unpack(report):
            _add_reports(report, failed)
            detail.Pack(report)
            has_report = False
    if has_report:
        status.details.add().Pack(report)
    extended = status.SerializeToString()
    return extended if len(extended) <= MAX_DETAILS_BYTES else data


def _read_report(
    trailers: tuple[tuple[str, str | bytes], ...],
) -> call_report_pb2.CallReport | None:
    report = call_report_pb2.CallReport()
    for key, value in trailers:
        if key == DETAILS_TRAILER and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(report):
                    return report
    return None


def add_field(model: models_pb2.ModelInfo) -> None:
    """Add to a model's fields, if they are known, the one that the router honours for it."""
    if model.supported_fields and FIELD not in model.supported_fields:
        model.supported_fields.append(FIELD)

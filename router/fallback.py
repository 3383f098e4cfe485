"""Calls other models if a model cannot answer for a reason that waiting does not fix.

If a model is overloaded, limited or down, a retry can help, so the caller gets the error. If it
lacks credits, a key or permission, the next model of the list gets the same request. That happens
only before the first token, and the reply says which models failed before the one that answered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from arena_llm.v1 import error_pb2, generate_pb2, models_pb2, reply_pb2
from router.events import JoinedStream
from router.failure import CallFailed, extend_own
from router.ledger import Reports, add_reports
from services.common.call import CallRecord
from services.common.errors import BackendError
from services.common.handlers import scan
from services.common.trailers import cut_text
from services.common.validation import check_fallbacks

#: Reasons that waiting does not fix, and that may not hold for the next model.
REASONS = frozenset(
    (
        *("API_KEY_MISSING", "API_KEY_REJECTED", "INSUFFICIENT_CREDITS", "REFUSED_BY_PROVIDER"),
        *("MODEL_MISCONFIGURED", "MODEL_NOT_FOUND"),
    )
)
#: A later model is also passed over if it cannot honour a request written for the first one.
UNFIT = REASONS | {"UNSUPPORTED", "CONTEXT_TOO_LONG", "STATE_MISMATCH"}

#: The path by which a model's supported_fields name what the router honours for it.
FIELD = "fallback_models.names"

_MAX_DETAIL = 200  # bytes of an error's message

_FIELDS = generate_pb2.GenerateRequest.DESCRIPTOR.fields_by_name
_RENAMED = frozenset((_FIELDS["model"].number, _FIELDS["fallback_models"].number))


class FailedCall(NamedTuple):
    """A model that could not answer. reports: what it tried and paid, if it says so."""

    model: str
    reason: str
    detail: str
    reports: Reports


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

    record, request_id: of the caller's call. failed: the models that could not answer.
    """

    models: Sequence[str]
    start: Callable[[str, bytes], Any]
    data: bytes
    record: CallRecord
    request_id: str
    failed: list[FailedCall] = field(default_factory=list)

    async def reply(self) -> bytes:
        """Return the reply of the first model that can answer."""
        for place, model in enumerate(self.models):
            try:
                reply = await self.start(model, name_model(self.data, model)).reply()
            except CallFailed as failed:
                self._pass_over(place, failed)
            except BackendError as error:
                raise self._explain(error) from error
            else:
                message = reply_pb2.GenerateResponse.FromString(reply)
                _add_failed(message, self.failed)
                return message.SerializeToString()
        raise AssertionError("the last model is never passed over")

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Yield a start of the router's own, then the events of the first model that can answer."""
        stream = JoinedStream()
        yield stream.start(self.request_id)
        for place, model in enumerate(self.models):
            call = self.start(model, name_model(self.data, model))
            stream.join()
            try:
                async with aclosing(call.messages(initial=False)) as messages:
                    async for message in messages:
                        if (event := stream.read(message)) is None:
                            continue
                        kind = event.WhichOneof("event")
                        if kind in ("completion", "interruption"):
                            _add_failed(getattr(event, kind), self.failed)
                        yield stream.add(event)
                return
            except CallFailed as failed:
                if stream.has_answer:
                    raise self._after(failed) from failed
                self._pass_over(place, failed)
            except BackendError as error:
                raise self._explain(error) from error

    def _pass_over(self, place: int, failed: CallFailed) -> None:
        """Note that a model could not answer. Raises the error if no other model may answer."""
        is_last = place + 1 == len(self.models)
        if is_last or failed.reason not in (UNFIT if place else REASONS):
            raise self._after(failed) from failed
        detail = cut_text(failed.message, _MAX_DETAIL)
        one = FailedCall(self.models[place], failed.reason, detail, failed.reports)
        self.failed.append(one)
        self.record.pass_over()
        self.record.add(failed_models=describe(self.failed))

    def _after(self, failed: CallFailed) -> CallFailed:
        return failed.after(_list_reports(self.failed), describe(self.failed))

    def _explain(self, error: BackendError) -> Exception:
        """Return an error of the router itself, with what the models before it took."""
        if not self.failed:
            return error
        return extend_own(error, _list_reports(self.failed), describe(self.failed))


def describe(failed: Sequence[FailedCall]) -> str:
    """Return in one line which models failed and why, for logs and errors."""
    return ", ".join(f"{one.model}: {one.reason}" for one in failed)


def _list_reports(failed: Sequence[FailedCall]) -> Reports:
    return [report for one in failed for report in one.reports]


def _add_failed(message: reply_pb2.GenerateResponse, failed: Sequence[FailedCall]) -> None:
    """Add to an answer the models that failed before, and what they took."""
    for one in failed:
        reason = error_pb2.ErrorReason.Value(f"ERROR_REASON_{one.reason}")
        message.failed_models.add(model=one.model, reason=reason, detail=one.detail)
    add_reports(message, _list_reports(failed))


def add_field(model: models_pb2.ModelInfo) -> None:
    """Add to a model's fields, if they are known, the one that the router honours for it."""
    if model.supported_fields and FIELD not in model.supported_fields:
        model.supported_fields.append(FIELD)

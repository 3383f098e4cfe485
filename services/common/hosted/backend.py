"""The base class of the backends that call a provider over the network."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self, TypeVar

from arena_llm.types import (
    Attempt,
    Availability,
    CallReport,
    Completion,
    Delta,
    GenerationRequest,
    ModelState,
    Price,
    Progress,
    Timings,
)
from services.common.backend import BaseLLMBackend, BreakerState, describe_breaker
from services.common.errors import (
    ApiKeyRejected,
    BackendError,
    InvalidRequest,
    ModelNotFound,
    Unsupported,
    UpstreamUnavailable,
)
from services.common.hosted.config import HostedConfig
from services.common.hosted.constraints import generate_constrained
from services.common.hosted.journal import Bill, Journal
from services.common.hosted.keys import Redactor
from services.common.hosted.most import find_most_paid
from services.common.hosted.provider_call import (
    ProviderCall,
    explain_missing,
    next_event,
    open_stream,
    request_completion,
)
from services.common.hosted.report import (
    add_attempts,
    add_failures,
    describe_cost,
    succeeded,
    with_attempts,
    with_cost,
)
from services.common.hosted.request import HONOURED, ResponseFormat, estimate_tokens
from services.common.hosted.retry import Outcome, Retrier
from services.common.log import log

C = TypeVar("C", bound=HostedConfig[Any])

#: Models that are remembered because they refused a JSON schema.
_MAX_REMEMBERED = 4096


class HostedBackend(BaseLLMBackend[C]):
    """Retries, limits, timings and constraints of all hosted models.

    A subclass implements `_build_call`, `_check_model` and `_takes_schema`, and sets `_redact` in
    `start`.
    """

    forwards_calls = True
    fields = HONOURED
    refused: ClassVar[Mapping[str, str]] = {
        "constraint.regex": "use choices or json_schema, or a local backend (hf, vllm)",
        "constraint.grammar": "use choices or json_schema, or a local backend (hf, vllm)",
        "raw": "use prompt or messages, or a local backend (hf, vllm)",
        "returns": "use a local backend (hf, vllm)",
        "config": "use a local backend (hf, vllm)",
        "routing": "use an openrouter model",
        "template_arguments_json": "use reasoning, or a local backend (hf, vllm)",
        "score": "use a local backend (hf, vllm)",
        "count_tokens": "use a local backend (hf, vllm)",
        "fallback_models": "send the call to the router, which calls them",
    }
    _retrier: Retrier
    _redact: Redactor

    def __init__(self, config: C) -> None:
        super().__init__(config)
        self._journal = Journal(None, self.name)
        self._keeps_journal = False

    async def start(self) -> None:
        """Make the limits and queues. No request is sent to the provider."""
        self._retrier = Retrier(self.config)
        entries = (*self.config.limits, *self.config.models)
        self._counts_tokens = any(entry.tpm is not None for entry in entries)
        #: Models that refused a JSON schema although a table says that they take it.
        self._without_schema: set[str] = set()
        if not self._journal.writes:
            self._journal = Journal(self.config.journal, self.name)

    async def reconfigure(self, config: C) -> Self:
        """Return a new backend: new keys, models and limits. It learns its pace again.

        The journal stays the same one, unless its folder changes.
        """
        new = type(self)(config)
        if config.journal == self.config.journal:
            new._journal, self._keeps_journal = self._journal, True
        await new.start()
        self._retrier.close()
        return new

    async def aclose(self) -> None:
        """Close the journal, unless a later backend has it."""
        if not self._keeps_journal:
            self._journal.close()

    def list_breakers(self) -> Sequence[BreakerState]:
        """Return the models whose calls are refused now, because their provider keeps failing."""
        return self._retrier.breakers.list()

    async def is_model_available(self, model: str) -> Availability:
        """Return whether the model can be called, and whether its provider has answered lately."""
        answer = await self._check_model(model)
        breaker = self._retrier.breakers.find(model)
        if breaker is None or not answer.available:
            return answer
        if not breaker.seconds:
            return replace(answer, warnings=(*answer.warnings, describe_breaker(breaker)))
        return replace(
            answer,
            available=False,
            state=ModelState.UNKNOWN,
            detail=describe_breaker(breaker),
            reason=UpstreamUnavailable.reason,
        )

    @abstractmethod
    async def _check_model(self, model: str) -> Availability:
        """Return whether the model can be called, as `is_model_available` does."""

    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Return a whole completion."""
        bill = Bill(self._journal, request.request_id, request.model)
        answered = False
        try:
            completion = await self._generate_constrained(request, bill)
            completion = await self._add_earlier(completion, request, bill)
            answered = True
            return self._hide_keys_in(completion)
        except BackendError as error:
            await self._complete_report(error, request, bill)
            raise
        finally:
            bill.close(answered)

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        """Yield the text as it arrives, then the completion.

        A constrained text is checked before it is sent, so it arrives in one piece.
        """
        if request.constraint is not None:
            async with aclosing(super().stream_response(request)) as events:
                async for event in events:
                    yield event
            return
        bill = Bill(self._journal, request.request_id, request.model)
        answered = False
        try:
            arrived = time.perf_counter()
            call = await self._build_call(request, None)
            try:
                async with self._retrier.open(
                    request.model,
                    request.deadline,
                    lambda: open_stream(call, bill.begin()),
                    self._estimate_tokens(request),
                ) as outcome:
                    first = time.perf_counter() - arrived
                    event, events = outcome.value
                    async with aclosing(events):
                        while isinstance(event, Delta):
                            yield event
                            event = await next_event(events)
                        outcome.tokens = _count_tokens(event)
                        completion = _add_measurements(event, outcome, arrived, first)
                        completion = await self._add_earlier(completion, request, bill)
                        answered = True
                        yield self._hide_keys_in(completion)
            except ModelNotFound as error:
                raise await explain_missing(call, error) from error.__cause__
        except BackendError as error:
            await self._complete_report(error, request, bill)
            raise
        finally:
            bill.close(answered)

    def keep_report(self, request_id: str, report: CallReport) -> None:
        """The next call with this request_id lists these attempts before its own."""
        self._journal.keep_attempts(request_id, report.attempts)

    async def _generate_constrained(self, request: GenerationRequest, bill: Bill) -> Completion:
        """Return a completion. A model that refuses a JSON schema gets its constraint in words."""
        model = request.model
        ask = partial(self._generate, bill)
        structured = (
            request.constraint is not None
            and model not in self._without_schema
            and await self._takes_schema(model)
        )
        try:
            return await generate_constrained(request, ask, structured)
        except (InvalidRequest, Unsupported) as error:
            attempts = error.report.attempts if error.report else ()
            answered = any(attempt.http_status == 200 for attempt in attempts)
            if not structured or answered or "upstream_status" not in error.metadata:
                raise  # the provider did not refuse the schema
            refusal = error
        try:
            completion = await generate_constrained(request, ask, False)
        except (InvalidRequest, Unsupported):
            raise refusal from None  # the schema was not the reason
        if len(self._without_schema) < _MAX_REMEMBERED:
            self._without_schema.add(model)
        log.warning("a model refuses JSON schemas: set structured_output: false", model=model)
        return add_failures(completion, attempts)

    async def _add_earlier(
        self, completion: Completion, request: GenerationRequest, bill: Bill
    ) -> Completion:
        """Add what earlier calls with the same request_id took, and look up unknown costs."""
        attempts = bill.earlier + completion.attempts
        if len(attempts) > 1:
            attempts = await self._look_up_costs(attempts)
        elif attempts[0].cost_picousd is not None:
            return completion
        attempts = await self._bound_costs(attempts, request)
        if attempts == completion.attempts:
            return completion
        return with_attempts(completion, attempts)

    async def _look_up_costs(self, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """The attempts, with unknown costs looked up at the provider."""
        return tuple(
            [
                replace(attempt, cost_picousd=await self._look_up_cost(attempt.upstream_id))
                if attempt.cost_picousd is None and attempt.upstream_id
                else attempt
                for attempt in attempts
            ]
        )

    async def _bound_costs(
        self, attempts: tuple[Attempt, ...], request: GenerationRequest
    ) -> tuple[Attempt, ...]:
        """The attempts, with an upper bound for each unknown cost.

        It also holds for earlier attempts with this request_id, which had the same request.
        """
        if all(attempt.cost_picousd is not None for attempt in attempts):
            return attempts
        most = find_most_paid(request, *await self._find_price(request))
        return tuple(
            replace(attempt, max_cost_picousd=most) if attempt.cost_picousd is None else attempt
            for attempt in attempts
        )

    async def _look_up_cost(self, upstream_id: str) -> int | None:
        """Ask the provider what a request cost. None: it cannot say. Never raises."""
        return None

    async def _find_price(self, request: GenerationRequest) -> tuple[Price | None, int | None]:
        """The price of what is requested, and the most tokens of an answer. Never raises.

        None: not known. The price is not known if options of the provider may add to it.
        """
        return None, None

    async def _find_key_variable(self, model: str) -> str:
        """The variable of the key that the model needs; "" if it is not known. Never raises."""
        return ""

    async def _complete_report(
        self, error: BackendError, request: GenerationRequest, bill: Bill
    ) -> None:
        """Complete the report of an error that leaves the service, and hide keys in the error.

        Its message may repeat any part of an answer: the name of a tool, a field that cannot be
        read.
        """
        if bill.earlier:
            add_attempts(error, bill.earlier)
        if (report := error.report) is not None and report.attempts:
            found = await self._look_up_costs(report.attempts)
            found = await self._bound_costs(found, request)
            if found != report.attempts:
                report = replace(report, attempts=found, usage=with_cost(report.usage, found))
                error.report = report
            error.metadata |= describe_cost(report)
        error.message = self._redact.hide(error.message)
        if (
            isinstance(error, ApiKeyRejected)
            and "variable" not in error.metadata
            and (variable := await self._find_key_variable(request.model))
        ):
            error.message += (
                f": put a valid {variable} into .env, which running services read again"
            )
            error.metadata["variable"] = variable
        error.metadata = {k: self._redact.hide(v) for k, v in error.metadata.items()}
        if report is not None:
            served_by = replace(
                report.served_by,
                backend=self.name,
                model=report.served_by.model or request.model,
                provider=report.served_by.provider or error.metadata.get("provider", ""),
            )
            error.report = replace(
                report,
                request_id=request.request_id,
                served_by=served_by,
                attempts=self._hide_keys(report.attempts),
            )
        bill.report()

    def _hide_keys_in(self, completion: Completion) -> Completion:
        # Usually no attempt has failed, and a copy takes 4 us.
        if not any(attempt.detail for attempt in completion.attempts):
            return completion
        return replace(completion, attempts=self._hide_keys(completion.attempts))

    def _hide_keys(self, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        hide = self._redact.hide
        return tuple(replace(a, detail=hide(a.detail)) if a.detail else a for a in attempts)

    @abstractmethod
    async def _build_call(
        self, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> ProviderCall:
        """Translate the request. Raises BackendError if the request cannot be sent."""

    @abstractmethod
    async def _takes_schema(self, model: str) -> bool:
        """Whether the model takes a JSON schema as `response_format`."""

    async def _generate(
        self, bill: Bill, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> Completion:
        arrived = time.perf_counter()
        call = await self._build_call(request, response_format)
        try:
            outcome = await self._retrier.call(
                request.model,
                request.deadline,
                lambda: request_completion(call, bill.begin()),
                self._estimate_tokens(request),
                _count_tokens,
            )
        except ModelNotFound as error:
            raise await explain_missing(call, error) from error.__cause__
        return _add_measurements(outcome.value, outcome, arrived)

    def _estimate_tokens(self, request: GenerationRequest) -> int:
        return estimate_tokens(request) if self._counts_tokens else 0


def _count_tokens(completion: Completion) -> int | None:
    """Return the tokens that count for a provider's limits, if they are known."""
    usage = completion.usage
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return usage.prompt_tokens + usage.completion_tokens


def _add_measurements(
    completion: Completion, outcome: Outcome[Any], arrived: float, first: float | None = None
) -> Completion:
    """Add attempts and timings to a completion.

    arrived: when the request came, on time.perf_counter's clock. first: seconds until the
    first event; None for a completion that came whole.
    """
    ended = time.perf_counter()
    total = ended - arrived
    timings = Timings(outcome.queue_seconds, total if first is None else first, total)
    answered = (succeeded(completion, ended - outcome.begun),)
    completion = replace(completion, attempts=answered, timings=timings)
    return add_failures(completion, outcome.failures) if outcome.failures else completion

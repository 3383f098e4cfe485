"""Calls models through the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from arena.agents.calls import (
    ModelCall,
    ModelReply,
    describe_usage,
    is_lost,
    is_lost_attempt,
    name_of,
)
from arena.experiment.patience import ModelAway, Outage, Patience, spread
from arena.experiment.prices import add_cost
from arena.results.rows import CallKey, canonical_json
from arena.results.tokens import tokens_to_json
from arena_llm import (
    ArenaError,
    AsyncClient,
    Capability,
    Completion,
    Message,
    ResourceExhaustedError,
    Scoring,
)
from arena_llm.types import Attempt, CallReport, FinishReason, Price, ProviderRouting, Usage

#: Shortest pause in seconds.
_MIN_PAUSE = 0.1


class ModelCaller:
    """Answers calls by asking the models.

    Retries if a queue is full or a rate limit applies, and waits for models that are not available.

    experiment: the experiment's name, sent as a label for accounting. prices: of models, for
    replies whose cost their service does not know. patience: seconds for which it waits for a model
    that is not available.
    """

    def __init__(
        self,
        client: AsyncClient,
        experiment: str,
        prices: Mapping[str, Price] | None = None,
        patience: float = 0,
    ) -> None:
        self._client = client
        self._experiment = experiment
        self._prices = prices or {}
        self._patience = Patience(patience)
        self._structured: dict[str, bool] = {}  # by model, as far as known

    @property
    def target(self) -> str:
        """The address that calls go to."""
        return self._client.target

    async def check_router(self, seconds: float) -> None:
        """Raise ArenaError if the router does not answer within `seconds`."""
        await self._client.health(timeout=seconds)

    def limit_router_patience(self, seconds: float) -> None:
        """Raise RouterAway after waiting this many seconds for the router itself."""
        self._patience.router_seconds = seconds

    @property
    def outages(self) -> dict[str, Outage]:
        """The models that this process waits for now."""
        return self._patience.outages

    async def __call__(self, key: CallKey, call: ModelCall, request_id: str) -> ModelReply:
        """The model's reply. Raises ArenaError, and ModelAway (see patience.py).

        Every try has the same request_id: if an earlier one was answered and the answer was lost,
        the service returns that answer again, and nothing is paid twice.

        The time limit is `timeout` in the call's sampling, or the client's default, without the
        time in which the model was not available. The reply's text is empty if no reply of the
        model satisfied the constraint.
        """
        options: dict[str, Any] = dict(call.sampling)
        timeout = options.pop("timeout", None) or self._client.timeout
        if (routing := options.get("routing")) is not None:
            options["routing"] = ProviderRouting(
                providers=tuple(routing.get("providers", ())),
                allow_fallbacks=routing.get("allow_fallbacks"),
                precisions=tuple(routing.get("precisions", ())),
            )
        options |= {
            "messages": [Message(role, content) for role, content in call.messages],  # type: ignore[arg-type]  # agents know the roles
            "session": _make_session(key.episode),
            "labels": {
                "experiment": self._experiment,
                "player": f"player_{key.seat}",
                "game": key.episode[-_MOST_OF_LABEL:],  # the end tells long keys apart
                "ply": str(key.ply),
            },
        }
        if call.preferred_schema and await self._has_structured_output(call.model):
            options["json_schema"] = call.preferred_schema
        started = time.monotonic()
        earlier = CallReport()  # the usage of the tries before this one
        outages = lost = 0
        while True:
            remaining = started + timeout - time.monotonic()
            try:
                result = await self._send(call, options, request_id, remaining)
                self._patience.answered(call.model)
                latency_ms = (time.monotonic() - started) * 1000
                model = call.model
                if isinstance(result, Completion) and result.failed_models:
                    model = result.served_by.model
                took = self._complete(earlier, result.usage, _attempts_of(result), model)
                answer = _make_reply(result, call, latency_ms, took)
                if lost and not (answer.replayed or answer.finds_lost):
                    # This reply does not report the usage of the lost tries.
                    return replace(answer, unknown_attempts=answer.unknown_attempts + lost)
                return answer
            except ArenaError as error:
                if "json_schema" in options and _refuses_schema(error):
                    # Such as a schema of too many actions. The model writes freely.
                    del options["json_schema"]
                    continue
                if error.report is not None or earlier != CallReport():
                    report = error.report or _describe_silence(error)
                    took = self._complete(earlier, report.usage, report.attempts, call.model)
                    error.report = replace(report, usage=took.usage, attempts=took.attempts)
                latency_ms = (time.monotonic() - started) * 1000
                if (reply := _read_rejected_reply(error, call.model, latency_ms)) is not None:
                    return reply
                pause = _find_pause(error, started + timeout - time.monotonic())
                try:
                    outage = self._patience.find_pause(call.model, error, outages)
                except ModelAway:
                    _add_lost(error, lost)
                    raise
                if pause is None and outage is None:
                    _add_lost(error, lost)
                    raise
                earlier, lost_attempts = _split_lost(error.report or CallReport())
                lost += lost_attempts
                was_lost = is_lost(error) and not lost_attempts
            await asyncio.sleep(outage or pause or 0)
            if outage is not None:
                outages += 1
                lost += earlier == CallReport() and was_lost
                started = time.monotonic()

    def _complete(
        self, earlier: CallReport, usage: Usage, attempts: Sequence[Attempt], model: str
    ) -> CallReport:
        """Return the usage of a try and those before it. Adds costs by the experiment's prices."""
        usage, attempts = add_cost(usage, attempts, self._prices.get(model))
        before = earlier.usage
        if before != Usage():
            cost = None
            if before.cost_picousd is not None and usage.cost_picousd is not None:
                cost = before.cost_picousd + usage.cost_picousd
            usage = replace(
                usage,
                prompt_tokens=_add(before.prompt_tokens, usage.prompt_tokens),
                completion_tokens=_add(before.completion_tokens, usage.completion_tokens),
                reasoning_tokens=_add(before.reasoning_tokens, usage.reasoning_tokens),
                cost_picousd=cost,
            )
        return CallReport(usage=usage, attempts=(*earlier.attempts, *attempts))

    async def _has_structured_output(self, model: str) -> bool:
        """Whether the model itself keeps to a JSON Schema.

        A model that only gets the schema as an instruction is not constrained: its replies are read
        by the arena's own rules.
        """
        if model not in self._structured:
            try:
                described = (await self._client.is_available(model)).model
            except ArenaError:
                return False  # the call itself will say what is wrong
            capabilities = described.capabilities if described else ()
            self._structured[model] = Capability.JSON_SCHEMA in capabilities
        return self._structured[model]

    async def _send(
        self, call: ModelCall, options: dict[str, Any], request_id: str, seconds: float
    ) -> Completion | Scoring:
        if call.continuations is not None:
            return await self._client.score(
                call.model, None, call.continuations, timeout=seconds, **options
            )
        # Only models that the experiment names may answer, even if the router has fallbacks.
        options = {"fallback_models": (), **options}
        return await self._client.generate(
            call.model,
            timeout=seconds,
            choices=call.choices,
            request_id=request_id,
            **options,
        )


def _find_pause(error: ArenaError, remaining: float) -> float | None:
    """Seconds to wait before the next try; None if there must be none."""
    if not isinstance(error, ResourceExhaustedError) or error.retry_after is None:
        return None
    pause = spread(max(error.retry_after, _MIN_PAUSE))
    return pause if pause < remaining else None


def _describe_silence(error: ArenaError) -> CallReport:
    """The usage of a try whose error reports none: zero, or unknown if the try may be lost."""
    if is_lost(error):
        return CallReport(attempts=(Attempt(reason=error.reason or error.code),))
    return CallReport(usage=Usage(cost_picousd=0))


def _split_lost(report: CallReport) -> tuple[CallReport, int]:
    """Return a report without the attempts that were lost, and how many were lost.

    A later try reports their usage if their service remembers it.
    """
    kept = tuple(attempt for attempt in report.attempts if not is_lost_attempt(attempt))
    lost = len(report.attempts) - len(kept)
    if not lost:
        return report, 0
    costs = [attempt.cost_picousd for attempt in kept]
    known = [cost for cost in costs if cost is not None]
    cost = sum(known) if known == costs != [] else None
    return CallReport(attempts=kept, usage=replace(report.usage, cost_picousd=cost)), lost


def _add_lost(error: ArenaError, tries: int) -> None:
    """Add tries without an outcome, which may have cost something, to an error's report."""
    if tries:
        report = error.report or _describe_silence(error)
        lost = (Attempt(reason="CONNECTION_LOST"),) * tries
        error.report = replace(report, attempts=(*lost, *report.attempts))


def _add(before: int | None, tokens: int | None) -> int | None:
    return tokens if before is None else before + (tokens or 0)


def _attempts_of(result: Completion | Scoring) -> Sequence[Attempt]:
    return result.attempts if isinstance(result, Completion) else ()


#: Characters of a label.
_MOST_OF_LABEL = 128


def _make_session(episode: str) -> str:
    """A short ASCII text for each episode, by which its calls find the same prefix cache."""
    return blake2b(episode.encode(), digest_size=16).hexdigest()


def _refuses_schema(error: ArenaError) -> bool:
    return error.field.startswith("constraint") and error.reason != "CONSTRAINT_NOT_MET"


def _read_rejected_reply(error: ArenaError, model: str, latency_ms: float) -> ModelReply | None:
    """The reply for an error that says that the model did not satisfy the constraint, else None.

    Such a model has played badly; the call has not failed. Retrying until it succeeds would
    favour the model, and the cost of the rejected replies would not be counted.
    """
    cut_off = error.field == "config.max_tokens" and error.report is not None
    if error.reason != "CONSTRAINT_NOT_MET" and not cut_off:
        return None
    report = error.report or CallReport()
    return ModelReply(
        text="",
        model=report.served_by.model or model,
        latency_ms=latency_ms,
        finish_reason=FinishReason.LENGTH.value if cut_off else "",
        request_id=report.request_id,
        served_by=report.served_by,
        **describe_usage(report.usage, report.attempts),
    )


def _make_reply(
    result: Completion | Scoring, call: ModelCall, latency_ms: float, took: CallReport
) -> ModelReply:
    common: dict[str, Any] = {
        "model": result.served_by.model or call.model,
        "latency_ms": latency_ms,
        "served_by": result.served_by,
        "request_id": result.request_id,
    }
    if isinstance(result, Scoring):
        logprobs = tuple(score.logprob for score in result)
        return ModelReply("", logprobs=logprobs, **describe_usage(took.usage), **common)
    tokens = result.completion_tokens if call.store_tokens else None
    prompt = result.prompt_tokens if call.store_tokens else None
    return ModelReply(
        text=result.text,
        reasoning=result.reasoning,
        refusal=result.message.refusal,
        finish_reason=name_of(result.finish_reason),
        replayed=result.replayed,
        cached=result.cached,
        enforcement=name_of(result.enforcement),
        tokens=tokens_to_json(tokens) if tokens else "",
        prompt_ids=canonical_json(prompt.ids) if prompt and prompt.ids else "",
        failed_models=", ".join(f"{one.model}: {one.reason}" for one in result.failed_models),
        **describe_usage(took.usage, took.attempts),
        **common,
    )

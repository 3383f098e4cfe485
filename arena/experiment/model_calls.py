"""Calls models through the client."""

from __future__ import annotations

import asyncio
import random
import time
from hashlib import blake2b
from typing import Any

from arena.agents.calls import ModelCall, ModelReply, describe_usage, name_of
from arena.results.rows import CallKey
from arena.results.tokens import tokens_to_json
from arena_llm import ArenaError, AsyncClient, Completion, Message, ResourceExhaustedError, Scoring
from arena_llm.types import CallReport, FinishReason, ProviderRouting

#: Random extra share of a pause, so that not all callers retry at the same time.
_JITTER = 0.25

#: Shortest pause in seconds.
_MIN_PAUSE = 0.1


class ModelCaller:
    """Answers calls by asking the models. Retries if a queue is full or a rate limit applies.

    experiment: the experiment's name, sent as a label for accounting.
    """

    def __init__(self, client: AsyncClient, experiment: str) -> None:
        self._client = client
        self._experiment = experiment

    async def __call__(self, key: CallKey, call: ModelCall, request_id: str) -> ModelReply:
        """The model's reply. Raises ArenaError.

        Every try has the same request_id: if an earlier one was answered and the answer was lost,
        the service returns that answer again, and nothing is paid twice.

        The time limit is `timeout` in the call's sampling, or the client's default. The
        reply's text is empty if no reply of the model satisfied the constraint.
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
            "labels": {"experiment": self._experiment, "player": f"player_{key.seat}"},
        }
        started = time.monotonic()
        while True:
            remaining = started + timeout - time.monotonic()
            try:
                result = await self._send(call, options, request_id, remaining)
                return _make_reply(result, call, (time.monotonic() - started) * 1000)
            except ResourceExhaustedError as error:
                if error.retry_after is None:
                    raise
                pause = max(error.retry_after, _MIN_PAUSE)
                pause *= 1 + random.uniform(0, _JITTER)  # noqa: S311 - no secret
                if pause >= started + timeout - time.monotonic():
                    raise
            except ArenaError as error:
                latency_ms = (time.monotonic() - started) * 1000
                if (reply := _read_rejected_reply(error, call.model, latency_ms)) is None:
                    raise
                return reply
            await asyncio.sleep(pause)

    async def _send(
        self, call: ModelCall, options: dict[str, Any], request_id: str, seconds: float
    ) -> Completion | Scoring:
        if call.continuations is not None:
            return await self._client.score(
                call.model, None, call.continuations, timeout=seconds, **options
            )
        return await self._client.generate(
            call.model,
            timeout=seconds,
            choices=call.choices,
            request_id=request_id,
            **options,
        )


def _make_session(episode: str) -> str:
    """A short ASCII text for each episode, by which its calls find the same prefix cache."""
    return blake2b(episode.encode(), digest_size=16).hexdigest()


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


def _make_reply(result: Completion | Scoring, call: ModelCall, latency_ms: float) -> ModelReply:
    common: dict[str, Any] = {
        "model": result.served_by.model or call.model,
        "latency_ms": latency_ms,
        "served_by": result.served_by,
        "request_id": result.request_id,
    }
    if isinstance(result, Scoring):
        logprobs = tuple(score.logprob for score in result)
        return ModelReply("", logprobs=logprobs, **describe_usage(result.usage), **common)
    tokens = result.completion_tokens if call.store_tokens else None
    return ModelReply(
        text=result.text,
        reasoning=result.reasoning,
        refusal=result.message.refusal,
        finish_reason=name_of(result.finish_reason),
        replayed=result.replayed,
        enforcement=name_of(result.enforcement),
        tokens=tokens_to_json(tokens) if tokens else "",
        **describe_usage(result.usage, result.attempts),
        **common,
    )

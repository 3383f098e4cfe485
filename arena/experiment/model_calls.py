"""Calls models through the client."""

from __future__ import annotations

import asyncio
import random
import time
from hashlib import blake2b
from typing import Any

from arena.agents.calls import ModelCall, ModelReply
from arena.results.rows import CallKey
from arena_llm import ArenaError, AsyncClient, Completion, Message, ResourceExhaustedError, Score

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

    async def __call__(self, key: CallKey, call: ModelCall) -> ModelReply:
        """The model's reply. Raises ArenaError.

        The time limit is `timeout` in the call's sampling, or the client's default. The
        reply's text is empty if no reply of the model satisfied the constraint.
        """
        options: dict[str, Any] = dict(call.sampling)
        timeout = options.pop("timeout", None) or self._client.timeout
        options |= {
            "messages": [Message(role, content) for role, content in call.messages],  # type: ignore[arg-type]  # agents know the roles
            "session": _make_session(key.episode),
            "labels": {"experiment": self._experiment, "player": f"player_{key.seat}"},
        }
        started = time.monotonic()
        while True:
            remaining = started + timeout - time.monotonic()
            try:
                result = await self._send(call, options, remaining)
                return _make_reply(result, call.model, (time.monotonic() - started) * 1000)
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
        self, call: ModelCall, options: dict[str, Any], seconds: float
    ) -> Completion | list[Score]:
        if call.continuations is not None:
            return await self._client.score(
                call.model, None, call.continuations, timeout=seconds, **options
            )
        return await self._client.generate(
            call.model,
            timeout=seconds,
            choices=call.choices,
            **options,
        )


def _make_session(episode: str) -> str:
    """A short ASCII text for each episode, by which its calls find the same prefix cache."""
    return blake2b(episode.encode(), digest_size=16).hexdigest()


def _read_rejected_reply(error: ArenaError, model: str, latency_ms: float) -> ModelReply | None:
    """The reply that a service rejected, from the usage in its error; None if there was none.

    A model that does not satisfy a constraint has played badly; the call has not failed.
    Retrying until it succeeds would favour the model, and the cost of the rejected replies
    would not be counted.
    """
    usage = error.metadata
    if "completion_tokens" not in usage:
        return None
    return ModelReply(
        text="",
        model=model,
        latency_ms=latency_ms,
        finish_reason="length" if error.field == "config.max_tokens" else "",
        prompt_tokens=int(usage["prompt_tokens"]),
        completion_tokens=int(usage["completion_tokens"]),
        cost_usd=float(usage["cost_usd"]) if "cost_usd" in usage else None,
    )


def _make_reply(result: Completion | list[Score], model: str, latency_ms: float) -> ModelReply:
    if isinstance(result, list):
        logprobs = tuple(score.logprob for score in result)
        return ModelReply("", model, latency_ms, logprobs=logprobs)
    return ModelReply(
        text=result.text,
        model=result.model,
        latency_ms=latency_ms,
        reasoning=result.reasoning,
        finish_reason=result.finish_reason.value,
        prompt_tokens=result.usage.prompt_tokens,
        completion_tokens=result.usage.completion_tokens,
        reasoning_tokens=result.usage.reasoning_tokens,
        cost_usd=result.usage.cost_usd,
    )

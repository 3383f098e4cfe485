"""Asking the models themselves, through the client."""

from __future__ import annotations

import asyncio
import random
import time
from hashlib import blake2b
from typing import Any

from arena.calls import ModelCall, ModelReply
from arena.results.rows import CallKey
from arena_llm import ArenaError, AsyncClient, Completion, Message, ResourceExhaustedError, Score

#: Part of a pause that is added at random, so that not all come back at once.
_JITTER = 0.25

#: Seconds that a pause takes at least, whatever the service says.
_SHORTEST = 0.1


class Models:
    """Answers calls by a client; full queues and rate limits are waited for.

    experiment: its name, for the services' accounting.
    """

    def __init__(self, client: AsyncClient, experiment: str) -> None:
        self._client = client
        self._experiment = experiment

    async def __call__(self, key: CallKey, call: ModelCall) -> ModelReply:
        """The reply, within `timeout` (in sampling) or the client's own; raises ArenaError.

        Its text is empty where the model replied, and never as the constraint wants.
        """
        options: dict[str, Any] = dict(call.sampling)
        timeout = options.pop("timeout", None) or self._client.timeout
        options |= {
            "messages": [Message(role, content) for role, content in call.messages],  # type: ignore[arg-type]  # agents know the roles
            "session": _session(key.episode),
            "labels": {"experiment": self._experiment, "player": f"player_{key.seat}"},
        }
        started = time.monotonic()
        while True:
            left = started + timeout - time.monotonic()
            try:
                answer = await self._ask(call, options, left)
                return _reply(answer, call.model, (time.monotonic() - started) * 1000)
            except ResourceExhaustedError as error:
                if error.retry_after is None:
                    raise
                pause = max(error.retry_after, _SHORTEST)
                pause *= 1 + random.uniform(0, _JITTER)  # noqa: S311 - no secret
                if pause >= started + timeout - time.monotonic():
                    raise
            except ArenaError as error:
                latency_ms = (time.monotonic() - started) * 1000
                if (unfit := _unfit(error, call.model, latency_ms)) is None:
                    raise
                return unfit
            await asyncio.sleep(pause)

    async def _ask(
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


def _session(episode: str) -> str:
    """One for each episode, to keep its prefix cache on one replica: short and ASCII."""
    return blake2b(episode.encode(), digest_size=16).hexdigest()


def _unfit(error: ArenaError, model: str, latency_ms: float) -> ModelReply | None:
    """The reply behind an error that says what it took; None: there was none.

    A model that keeps to no constraint has played badly; the call has not failed. To ask
    it anew until it does would favour it, and would pay for replies that nobody counts.
    """
    took = error.metadata
    if "completion_tokens" not in took:
        return None
    return ModelReply(
        text="",
        model=model,
        latency_ms=latency_ms,
        finish_reason="length" if error.field == "config.max_tokens" else "",
        prompt_tokens=int(took["prompt_tokens"]),
        completion_tokens=int(took["completion_tokens"]),
        cost_usd=float(took["cost_usd"]) if "cost_usd" in took else None,
    )


def _reply(answer: Completion | list[Score], model: str, latency_ms: float) -> ModelReply:
    if isinstance(answer, list):
        logprobs = tuple(score.logprob for score in answer)
        return ModelReply("", model, latency_ms, logprobs=logprobs)
    return ModelReply(
        text=answer.text,
        model=answer.model,
        latency_ms=latency_ms,
        reasoning=answer.reasoning,
        finish_reason=answer.finish_reason.value,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        reasoning_tokens=answer.usage.reasoning_tokens,
        cost_usd=answer.usage.cost_usd,
    )

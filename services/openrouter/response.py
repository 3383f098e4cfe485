"""What comes back: a completion whole or in chunks, or an error in any place."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from arena_llm.types import (
    Completion,
    Delta,
    FinishReason,
    GenerationRequest,
    Timings,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from services.common.errors import BackendError, BudgetInFlight, Unsupported, UpstreamUnavailable
from services.common.hosted.attempts import Answered
from services.common.hosted.redaction import Redactor
from services.common.hosted.statuses import CONTEXT_ERRORS, error_of, parse_retry_after
from services.openrouter.config import PREFIX
from services.openrouter.schema import (
    WireChoice,
    WireCompletion,
    WireError,
    WireMessage,
    WireToken,
    WireUsage,
)

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}

#: `metadata.error_type`, OpenRouter's stable names, where they say more than the status.
_TYPES: Mapping[str, type[BackendError]] = {
    **CONTEXT_ERRORS,
    "in_flight_budget_exhausted": BudgetInFlight,
}


def error_from(
    error: WireError, status: int, redact: Redactor, retry_after: str | None = None
) -> BackendError:
    """The error that OpenRouter reports; its own code goes before the HTTP status.

    retry_after: the header's value.
    """
    metadata = error.metadata or {}
    code = error.code
    kind = metadata.get("error_type") or (code if isinstance(code, str) else "")
    if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()):
        status = int(code)
    if status < 400:
        status = 502  # an error that names no status, in a body that came with 200
    said = error.message or f"HTTP {status}"
    if (raw := metadata.get("raw")) and raw != said:  # what the model's provider said
        said = f"{said}: {raw if isinstance(raw, str) else json.dumps(raw)}"
    if reasons := metadata.get("reasons"):
        said = f"{said} ({', '.join(map(str, reasons))})"
    known = {"upstream_status": str(status)}
    for name, key in (("error_type", "error_type"), ("provider", "provider_name")):
        if isinstance(value := metadata.get(key), str):
            known[name] = redact(value, 100)
    return error_of(
        status,
        redact(f"openrouter: {said}"),
        retry_after=parse_retry_after(retry_after),
        error_type=str(kind),
        types=_TYPES,
        metadata=known,
    )


def error_in(answer: WireCompletion) -> WireError | None:
    """The error that an answer holds in place of, or beside, a completion."""
    if answer.error is not None:
        return answer.error
    for choice in answer.choices:
        if choice.error is not None:
            return choice.error
        if choice.finish_reason == "error":
            return WireError(message="the model's provider failed")
    return None


def completion_of(answer: WireCompletion) -> Completion:
    """A whole answer without error; raises UpstreamUnavailable where it holds no choice."""
    if not answer.choices or answer.choices[0].message is None:
        raise UpstreamUnavailable("openrouter answered without any choice")
    choice, message = answer.choices[0], answer.choices[0].message
    return Completion(
        text=message.content or "",
        reasoning=_reasoning(message),
        finish_reason=_FINISH.get(choice.finish_reason or "", FinishReason.UNKNOWN),
        usage=_usage(answer.usage),
        model=PREFIX + (answer.model or ""),
        id=answer.id or "",
        logprobs=tuple(_tokens(choice)),
    )


class Assembly:
    """A streamed completion, put together from its chunks."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish: str | None = None
        self._usage: WireUsage | None = None
        self._model = ""
        self._id = ""

    def add(self, chunk: WireCompletion) -> Delta | None:
        """Take the next chunk; what is new in it, if anything is."""
        self._id = self._id or chunk.id or ""
        self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        self._logprobs.extend(_tokens(choice))
        if choice.delta is None:
            return None
        delta = Delta(choice.delta.content or "", _reasoning(choice.delta))
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        return delta if delta.text or delta.reasoning else None

    def completion(self) -> Completion:
        """The whole; raises UpstreamUnavailable where the stream broke off before its end."""
        if self._finish is None:
            raise UpstreamUnavailable("openrouter's stream ended without a finish_reason")
        return Completion(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=_FINISH.get(self._finish, FinishReason.UNKNOWN),
            usage=_usage(self._usage),
            model=PREFIX + self._model,
            id=self._id,
            logprobs=tuple(self._logprobs),
        )


def finished(
    request: GenerationRequest,
    completion: Completion,
    answered: Answered[Any],
    arrived: float,
    first: float | None = None,
) -> Completion:
    """The completion with its tries and its times; without `first` it came whole.

    Raises Unsupported where log-probabilities were asked for and did not come: some
    providers leave them out although they were told to honour all parameters.
    """
    if request.sampling.logprobs is not None and completion.text and not completion.logprobs:
        raise Unsupported(
            f"the provider of {completion.model} returned no log-probabilities",
            field="config.logprobs",
        )
    total = time.perf_counter() - arrived
    timings = Timings(answered.queue_seconds, total if first is None else first, total)
    return replace(completion, attempts=answered.attempts, timings=timings)


def _reasoning(message: WireMessage) -> str:
    return message.reasoning or message.reasoning_content or ""


def _tokens(choice: WireChoice) -> Iterable[TokenLogprob]:
    return map(_token, (choice.logprobs and choice.logprobs.content) or ())


def _token(token: WireToken) -> TokenLogprob:
    top = tuple(TopLogprob(other.token, other.logprob) for other in token.top_logprobs or ())
    return TokenLogprob(token.token, token.logprob, top)


def _usage(usage: WireUsage | None) -> Usage:
    if usage is None:
        return Usage()
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        reasoning_tokens=(completion and completion.reasoning_tokens) or 0,
        cached_tokens=(prompt and prompt.cached_tokens) or 0,
        cost_usd=usage.cost,
    )

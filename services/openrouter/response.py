"""What comes back: a completion whole or in chunks, or an error in any place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from arena_llm.types import Completion, Delta, TokenLogprob, Usage
from services.common.errors import BackendError, BudgetInFlight, UpstreamUnavailable
from services.common.hosted.assembly import Assembly, finish_reason
from services.common.hosted.redaction import Redactor
from services.common.hosted.statuses import CONTEXT_ERRORS, error_of, parse_retry_after
from services.openrouter.config import PREFIX
from services.openrouter.schema import (
    WireChoice,
    WireCompletion,
    WireError,
    WireMessage,
    WireUsage,
)

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
        finish_reason=finish_reason(choice.finish_reason),
        usage=_usage(answer.usage),
        model=PREFIX + (answer.model or ""),
        id=answer.id or "",
        logprobs=tuple(_tokens(choice)),
    )


class Stream(Assembly):
    """A streamed completion, put together from its chunks."""

    def __init__(self) -> None:
        super().__init__()
        self._model = ""
        self._usage: WireUsage | None = None

    def add(self, chunk: WireCompletion) -> Delta | None:
        self.id = self.id or chunk.id or ""
        self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self.finish = choice.finish_reason or self.finish
        if choice.delta is None:
            return self.grow("", "", _tokens(choice))
        return self.grow(choice.delta.content or "", _reasoning(choice.delta), _tokens(choice))

    def completion(self) -> Completion:
        if not self.finish:
            raise UpstreamUnavailable("openrouter's stream ended without a finish_reason")
        return self.whole(PREFIX + self._model, _usage(self._usage))


def _reasoning(message: WireMessage) -> str:
    return message.reasoning or message.reasoning_content or ""


def _tokens(choice: WireChoice) -> Iterable[TokenLogprob]:
    return choice.logprobs.tokens() if choice.logprobs else ()


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

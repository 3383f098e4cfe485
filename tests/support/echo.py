"""A backend that shows what a request became, so that a caller of any door can check it.

It obeys the last text of the caller, or the result of a tool if the conversation ends with one:

    describe        the reply is the request in JSON, without what has its default
    say TEXT        the reply is TEXT, in pieces of a stream one word each
    call NAME JSON  the reply is a call of the tool NAME
    think           the reply is reasoning and "so"
    refuse          the reply is a refusal
    fail NAME       the call fails with the error NAME of services/common/errors.py
    break           the stream fails after its first piece
    hang            no reply until the caller leaves
    running         the reply is the number of calls that hang
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar

from arena_llm.types import (
    AnyJsonObject,
    Availability,
    Choices,
    Completion,
    Constraint,
    Delta,
    FinishReason,
    GenerationRequest,
    JsonSchema,
    Message,
    Model,
    ModelState,
    Part,
    Progress,
    RawPrompt,
    Reasoning,
    Refusal,
    Score,
    Scoring,
    ScoringRequest,
    Text,
    TokenTrace,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from services.common import errors
from services.common.backend import BaseLLMBackend
from services.common.config import ServiceConfig
from services.common.fields import ALWAYS_HONOURED, PATHS

#: A field that this backend refuses, to show what a refusal looks like.
REFUSED = "config.ignore_eos"


class EchoBackend(BaseLLMBackend[ServiceConfig]):
    """Serves the model echo_model."""

    name = "echo"
    config_type = ServiceConfig
    fields = PATHS - ALWAYS_HONOURED - {REFUSED}
    refused: ClassVar[Mapping[str, str]] = {REFUSED: "this backend shows a refusal"}
    can_score = True

    def __init__(self) -> None:
        super().__init__(ServiceConfig(listen="127.0.0.1:0"))
        self._hanging = 0

    async def get_available_models(self) -> Sequence[Model]:
        return [Model("echo_model", context_length=4096)]

    async def is_model_available(self, model: str) -> Availability:
        return Availability(True, ModelState.READY)

    async def generate_response(self, request: GenerationRequest) -> Completion:
        parts = await self._answer(request)
        trace = _trace(_read(parts)) if _wants_tokens(request) else None
        reason = FinishReason.STOP
        if any(isinstance(part, ToolCall) for part in parts):
            reason = FinishReason.TOOL_CALLS
        words = len(_read(parts).split())
        usage = Usage(prompt_tokens=7, completion_tokens=words)
        prompt = _trace(_last_text(request)) if request.returns.token_ids else None
        return Completion(
            Message("assistant", parts), reason, usage, completion_tokens=trace,
            prompt_tokens=prompt,
        )  # fmt: skip

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        breaks = _last_text(request) == "break"
        completion = await self.generate_response(request)
        for place, part in enumerate(completion.message.parts):
            match part:
                case Text(text):
                    for word in _split(text):
                        trace = _trace(word) if _wants_tokens(request) else None
                        yield Delta(text=word, part=place, tokens=trace)
                        if breaks:
                            raise errors.UpstreamUnavailable("the provider broke off")
                case Reasoning(text):
                    yield Delta(reasoning=text, part=place)
                case Refusal(text):
                    yield Delta(refusal=text, part=place)
                case ToolCall(id, name, arguments):
                    yield Delta(tool_call=ToolCallDelta(id, name, ""), part=place)
                    yield Delta(tool_call=ToolCallDelta(arguments=arguments), part=place)
        yield completion

    async def score(self, request: ScoringRequest) -> Scoring:
        assert isinstance(request.input, RawPrompt)
        prompt = _trace(request.input.text or "a b c", first=False, top=request.top_logprobs)
        scores = tuple(Score(-1.0, True) for _ in request.continuations)
        return Scoring(scores, prompt, Usage(prompt_tokens=len(prompt), completion_tokens=0))

    async def _answer(self, request: GenerationRequest) -> tuple[Part, ...]:
        command, _, rest = _last_text(request).partition(" ")
        match command:
            case "describe":
                return (Text(_obey(request.constraint, json.dumps(describe(request)))),)
            case "call":
                name, _, arguments = rest.partition(" ")
                return (ToolCall("call_1", name, arguments), ToolCall("call_2", name, arguments))
            case "think":
                return (Reasoning("because"), Text("so"))
            case "refuse":
                return (Refusal("I will not"),)
            case "fail":
                kind = getattr(errors, rest)
                raise kind("a planted failure", retry_after=0.2, metadata={"variable": "X"})
            case "running":
                return (Text(str(self._hanging)),)
            case "hang":
                self._hanging += 1
                try:
                    await asyncio.Event().wait()
                finally:
                    self._hanging -= 1
        return (Text(_obey(request.constraint, rest or command or "nothing")),)


def describe(value: Any) -> Any:
    """Return a dataclass as JSON, without the fields that have their default."""
    if is_dataclass(value) and not isinstance(value, type):
        written = {
            field.name: describe(found)
            for field in fields(value)
            if (found := getattr(value, field.name)) not in (None, "", (), {}, False)
            and found != field.default
            and field.name not in ("deadline", "request_id")
        }
        return (
            {"kind": getattr(value, "kind", ""), **written} if hasattr(value, "kind") else written
        )
    if isinstance(value, tuple):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _obey(constraint: Constraint | None, text: str) -> str:
    """Return the text if the constraint allows it, else a text that it allows."""
    match constraint:
        case Choices(values) if text not in values:
            return values[0]
        case JsonSchema() | AnyJsonObject() if not text.startswith("{"):
            return "{}"
    return text


def _last_text(request: GenerationRequest) -> str:
    if isinstance(request.input, RawPrompt):
        return request.input.text or "describe"
    for part in request.messages[-1].parts if request.messages else ():
        if isinstance(part, ToolResult):
            return "".join(text.text for text in part.parts if isinstance(text, Text))
    texts = [message.text for message in request.messages if message.role == "user"]
    return texts[-1] if texts else ""


def _wants_tokens(request: GenerationRequest) -> bool:
    return request.returns.token_ids or request.returns.top_logprobs is not None


def _read(parts: Sequence[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def _split(text: str) -> list[str]:
    """Return the words of a text, each with the blank before it."""
    return re.findall(r" ?[^ ]+", text)


def _trace(text: str, *, first: bool = True, top: int | None = 2) -> TokenTrace:
    """Return a text's words as tokens. first: whether the first token has a log-probability."""
    words = [word.encode() for word in _split(text)]
    scored = words if first else words[1:]
    count = top or 0
    return TokenTrace(
        ids=tuple(range(len(words))),
        logprobs=tuple(-0.5 for _ in scored),
        bytes=tuple(words),
        top_ids=tuple(range(count)) * len(scored),
        top_logprobs=tuple(-0.5 - n for n in range(count)) * len(scored),
        top_bytes=tuple(b"top%d" % n for n in range(count)) * len(scored),
        top_count=count,
        unscored=0 if first else 1,
    )

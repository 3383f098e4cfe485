"""The gateway's answers. The endpoints write plain JSON; tests compare it with these models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.schema.chat import FunctionCall
from gateway.schema.common import ApiModel

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class PromptDetails(ApiModel):
    """Parts of the prompt's tokens."""

    cached_tokens: int


class CompletionDetails(ApiModel):
    """Parts of the completion's tokens."""

    reasoning_tokens: int


class UsageAnswer(ApiModel):
    """Tokens, and what the call cost in US dollars where that is known."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    cost: float | None = None


class TokenAnswer(ApiModel):
    """One token. bytes: of its text in UTF-8, which may be a part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenWithTop(TokenAnswer):
    """One token with its alternatives."""

    top_logprobs: list[TokenAnswer]


class ChatLogprobs(ApiModel):
    """The tokens of a message."""

    content: list[TokenWithTop] | None
    refusal: None = None


class MessageAnswer(ApiModel):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: str | None = None
    tool_calls: list[FunctionCall] | None = None


class ChatChoice(ApiModel):
    """One of the answers."""

    index: int
    message: MessageAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    token_ids: list[int] | None = None


class ChatAnswer(ApiModel):
    """The whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: UsageAnswer
    prompt_token_ids: list[int] | None = None


class CalledPiece(ApiModel):
    """A piece of a called function."""

    name: str | None = None
    arguments: str


class ToolCallPiece(ApiModel):
    """A piece of a tool call. Only the first one has an id and a name."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledPiece


class DeltaAnswer(ApiModel):
    """A piece of a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallPiece] | None = None


class ChunkChoice(ApiModel):
    """A piece of one of the answers."""

    index: int
    delta: DeltaAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    token_ids: list[int] | None = None


class ChatChunk(ApiModel):
    """An event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChunkChoice]
    usage: UsageAnswer | None = None
    prompt_token_ids: list[int] | None = None


class TextLogprobs(ApiModel):
    """Tokens in columns. The first token of a prompt follows nothing, and has no logprob."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(ApiModel):
    """One of the completions, or a piece of it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class TextAnswer(ApiModel):
    """The whole answer, or an event of a stream, which has usage at its end."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[TextChoice]
    usage: UsageAnswer | None = None


class ModelAnswer(ApiModel):
    """One model. max_model_len: tokens of its context, where that is known."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int | None = None


class ModelsAnswer(ApiModel):
    """The models of all backends."""

    object: Literal["list"]
    data: list[ModelAnswer]


class ErrorObject(ApiModel):
    """What is wrong, and how to fix it. param: the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(ApiModel):
    """The answer of a call that failed."""

    error: ErrorObject


class HealthAnswer(ApiModel):
    """Whether the process serves."""

    status: Annotated[str, Field(description="ok, or what is wrong")]

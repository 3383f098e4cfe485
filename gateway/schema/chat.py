"""The request of /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.schema.common import ApiModel, Items, JsonObject, ResponseFormat, SamplingRequest

#: Keys of an answer's message that a caller may send back, if they say nothing.
Nothing = Annotated[Items[Any], Field(max_length=0)] | None


class TextPart(ApiModel):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ImageAddress(ApiModel):
    """A `data:` URL with the bytes in base64, or an https URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(ApiModel):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageAddress


class RefusalPart(ApiModel):
    """The words with which the model refused."""

    type: Literal["refusal"]
    refusal: str


UserPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class SystemMessage(ApiModel):
    """Instructions."""

    role: Literal["system", "developer"]
    content: str | Items[TextPart]


class UserMessage(ApiModel):
    """What the caller says."""

    role: Literal["user"]
    content: str | Items[UserPart]


class CalledFunction(ApiModel):
    """The function of a tool call. arguments: JSON text."""

    name: str
    arguments: str


class FunctionCall(ApiModel):
    """A call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(ApiModel):
    """What the model said. The message of an answer can be sent back unchanged."""

    role: Literal["assistant"]
    content: str | Items[AssistantPart] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: Items[FunctionCall] | None = None
    annotations: Nothing = None
    audio: None = None
    function_call: None = None


class ToolMessage(ApiModel):
    """The result of a tool call."""

    role: Literal["tool"]
    tool_call_id: str
    content: str | Items[UserPart]


ChatMessage = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class FunctionDefinition(ApiModel):
    """A function that the caller runs. parameters: a JSON Schema."""

    name: str
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class FunctionTool(ApiModel):
    """A tool."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(ApiModel):
    """The name of a function."""

    name: str


class NamedTool(ApiModel):
    """One tool by its name."""

    type: Literal["function"]
    function: FunctionName


class AllowedNames(ApiModel):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: Items[NamedTool]


class AllowedTools(ApiModel):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedNames


class ChatRequest(SamplingRequest):
    """The whole request.

    add_generation_prompt: vLLM's callers send false with continue_final_message.
    """

    messages: Annotated[Items[ChatMessage], Field(min_length=1, max_length=4096)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[Items[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[NamedTool | AllowedTools, Field(discriminator="type")]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    metadata: dict[str, str] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=128)] | None = None
    store: Literal[False] | None = None
    chat_template_kwargs: JsonObject | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None

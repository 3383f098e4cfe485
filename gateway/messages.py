"""OpenAI's messages and tools as those of our contract. No message is left out or merged, so that
positions stay the same in errors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence

from pydantic_core import to_json

from arena_llm.types import (
    Image,
    ImageDetail,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from gateway.errors import ApiError
from gateway.schema.chat import (
    AllowedTools,
    AssistantMessage,
    ChatMessage,
    ChatRequest,
    FunctionTool,
    ImageAddress,
    ImagePart,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)


def to_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Return the messages of a conversation. Raises ApiError for an image that cannot be read."""
    return tuple(
        _to_message(message, f"messages[{place}]") for place, message in enumerate(messages)
    )


def _to_message(message: ChatMessage, path: str) -> Message:
    match message:
        case UserMessage(content=str(text)):  # the usual case
            return Message("user", text)
        case UserMessage():
            return Message("user", _to_parts(message.content, path))
        case SystemMessage():
            return Message("system", _to_parts(message.content, path))
        case ToolMessage():
            parts = _to_parts(message.content, path)
            return Message("tool", ToolResult(message.tool_call_id, parts))
    return Message("assistant", tuple(_assistant_parts(message, path)))


def _assistant_parts(message: AssistantMessage, path: str) -> Iterable[Part]:
    if message.reasoning_content:
        yield Reasoning(message.reasoning_content)
    yield from _to_parts(message.content or "", path)
    if message.refusal:
        yield Refusal(message.refusal)
    for call in message.tool_calls or ():
        yield ToolCall(call.id, call.function.name, call.function.arguments)


def _to_parts(
    content: str | Sequence[TextPart | ImagePart | RefusalPart], path: str
) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    return tuple(_to_part(part, f"{path}.content[{place}]") for place, part in enumerate(content))


def _to_part(part: TextPart | ImagePart | RefusalPart, path: str) -> Part:
    match part:
        case TextPart():
            return Text(part.text)
        case RefusalPart():
            return Refusal(part.refusal)
    return _to_image(part.image_url, f"{path}.image_url.url")


def _to_image(image: ImageAddress, path: str) -> Image:
    detail = None if image.detail in (None, "auto") else ImageDetail(image.detail)
    if not image.url.startswith("data:"):
        return Image(url=image.url, detail=detail)
    head, comma, data = image.url.removeprefix("data:").partition(",")
    media_type, _, coding = head.partition(";")
    if not comma or coding != "base64":
        raise _make_image_error(path, "must be data:TYPE;base64,BYTES")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise _make_image_error(path, "is not base64") from None
    return Image(content, media_type, detail=detail)


def _make_image_error(path: str, problem: str) -> ApiError:
    return ApiError(400, f"{path} {problem}", code="invalid_value", param=path)


def to_tools(tools: Sequence[FunctionTool]) -> list[Tool]:
    """Return the tools of a request."""
    return [
        Tool(
            tool.function.name,
            tool.function.description or "",
            to_json(tool.function.parameters).decode() if tool.function.parameters else "",
            bool(tool.function.strict),
        )
        for tool in tools
    ]


def to_tool_choice(request: ChatRequest) -> ToolChoice | None:
    """Return which tools the model may call; None if the request does not say."""
    parallel = request.parallel_tool_calls
    match request.tool_choice:
        case None:
            return None if parallel is None else ToolChoice(allow_parallel=parallel)
        case str(mode):
            return ToolChoice(ToolMode(mode), allow_parallel=parallel)
        case AllowedTools(allowed_tools=allowed):
            names = tuple(tool.function.name for tool in allowed.tools)
            return ToolChoice(ToolMode(allowed.mode), names, parallel)
        case named:
            return ToolChoice(ToolMode.REQUIRED, (named.function.name,), parallel)

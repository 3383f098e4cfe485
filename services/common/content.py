"""Checks of conversations: roles, parts, images, and the ids of tool calls."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from arena_llm.v1 import content_pb2
from arena_llm.v1.content_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
)
from services.common.errors import UnknownField, make_field_error

MAX_MESSAGES = 4096
#: Parts of one message. A reply may have more.
MAX_PARTS = 256
#: Parts of all messages together.
MAX_ALL_PARTS = 8192
MAX_IMAGES = 64
#: Bytes of one image.
MAX_IMAGE_BYTES = 8 * 2**20
#: Bytes of the state of one part.
MAX_STATE_BYTES = 256 * 2**10
#: Characters of an id.
MAX_ID = 128
_MAX_URL = 2048

_FIELD = "conversation.messages"
_MEDIA_TYPE = re.compile(r"image/[a-z0-9.+-]{1,64}")

#: The roles in whose messages a kind of part may stand.
_ROLES: Mapping[str, frozenset[int]] = {
    "text": frozenset((ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT)),
    "image": frozenset((ROLE_USER,)),
    "reasoning": frozenset((ROLE_ASSISTANT,)),
    "tool_call": frozenset((ROLE_ASSISTANT,)),
    "tool_result": frozenset((ROLE_TOOL,)),
    "refusal": frozenset((ROLE_ASSISTANT,)),
}
_ROLE_NAMES = ("", "system", "user", "assistant", "tool")


def check_conversation(conversation: content_pb2.Conversation) -> None:
    """Raise InvalidRequest or UnknownField, with the field, for a wrong conversation."""
    messages = conversation.messages
    if not messages:
        raise make_field_error(_FIELD, "must hold at least one message")
    if len(messages) > MAX_MESSAGES:
        problem = f"must hold at most {MAX_MESSAGES} messages, not {len(messages)}"
        raise make_field_error(_FIELD, problem)
    parts = images = 0
    calls: set[str] = set()
    for index, message in enumerate(messages):
        _check_role(message.role, index)
        parts += len(message.parts)
        if parts > MAX_ALL_PARTS:
            raise make_field_error(_FIELD, f"must hold at most {MAX_ALL_PARTS} parts together")
        images += _check_parts(message, index, calls)
    if images > MAX_IMAGES:
        raise make_field_error(_FIELD, f"must hold at most {MAX_IMAGES} images, not {images}")
    _check_last(conversation)


def _check_role(role: int, index: int) -> None:
    if not 0 < role < len(_ROLE_NAMES):
        field = f"{_FIELD}[{index}].role"
        if role:
            raise UnknownField(
                f"this service does not know the role {role} of {field}", field=field
            )
        raise make_field_error(field, "must be ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL")


def _check_last(conversation: content_pb2.Conversation) -> None:
    last = conversation.messages[-1]
    if conversation.continue_last_message:
        if last.role != ROLE_ASSISTANT or not last.parts:
            raise make_field_error(
                "conversation.continue_last_message",
                "needs a last message of the assistant that is not empty",
            )
        return
    if last.role != ROLE_ASSISTANT:
        return
    raise make_field_error(
        f"{_FIELD}[{len(conversation.messages) - 1}]",
        "is the assistant's, so there is nothing to answer: end with another message, or set "
        "conversation.continue_last_message",
    )


def _check_parts(message: content_pb2.Message, index: int, calls: set[str]) -> int:
    """Check the parts of a message; return the number of its images.

    calls: the ids of the tool calls before it, to which its own are added.

    The message of any reply passes: it may be empty, and its length is up to the model.
    """
    parts = message.parts
    # The usual case: one text.
    if len(parts) == 1 and parts[0].text and message.role != ROLE_TOOL:
        if parts[0].HasField("state"):
            _check_state(parts[0], f"{_FIELD}[{index}].parts[0]")
        return 0
    field = f"{_FIELD}[{index}].parts"
    is_reply = message.role == ROLE_ASSISTANT
    if not parts and not is_reply:
        raise make_field_error(field, "must hold at least one part")
    if len(parts) > MAX_PARTS and not is_reply:
        raise make_field_error(field, f"must hold at most {MAX_PARTS} parts, not {len(parts)}")
    images = 0
    for number, part in enumerate(parts):
        place = f"{field}[{number}]"
        kind = part.WhichOneof("content")
        if kind is None:
            raise make_field_error(place, f"must hold one of {', '.join(_ROLES)}")
        if message.role not in _ROLES[kind]:
            role = _ROLE_NAMES[message.role]
            raise make_field_error(f"{place}.{kind}", f"cannot stand in a message of the {role}")
        images += _check_content(part, kind, place, calls)
        _check_state(part, place)
    return images


def _check_content(part: content_pb2.Part, kind: str, place: str, calls: set[str]) -> int:
    match kind:
        case "text" | "refusal":
            if not getattr(part, kind):
                raise make_field_error(f"{place}.{kind}", "must not be empty")
        case "image":
            _check_image(part.image, f"{place}.image")
            return 1
        case "reasoning":
            if part.reasoning.form not in content_pb2.ReasoningForm.values():
                raise UnknownField(
                    f"this service does not know the value of {place}.reasoning.form",
                    field=f"{place}.reasoning.form",
                )
        case "tool_call":
            _check_tool_call(part.tool_call, f"{place}.tool_call", calls)
        case "tool_result":
            return _check_tool_result(part.tool_result, f"{place}.tool_result", calls)
    return 0


def _check_image(image: content_pb2.Image, place: str) -> None:
    match image.WhichOneof("source"):
        case None:
            raise make_field_error(place, "must have data or a url")
        case "data":
            if not image.data:
                raise make_field_error(f"{place}.data", "must not be empty")
            if len(image.data) > MAX_IMAGE_BYTES:
                problem = f"must take at most {MAX_IMAGE_BYTES} bytes, not {len(image.data)}"
                raise make_field_error(f"{place}.data", problem)
            if not _MEDIA_TYPE.fullmatch(image.media_type):
                raise make_field_error(
                    f"{place}.media_type", "must be the type of an image, such as image/png"
                )
        case "url":
            if not image.url.startswith("https://") or len(image.url) > _MAX_URL:
                raise make_field_error(
                    f"{place}.url",
                    f"must begin with https:// and have at most {_MAX_URL} characters; send the "
                    "bytes of a file as data",
                )
    if image.detail not in content_pb2.ImageDetail.values():
        raise UnknownField(
            f"this service does not know the value of {place}.detail", field=f"{place}.detail"
        )


def _check_tool_call(call: content_pb2.ToolCall, place: str, calls: set[str]) -> None:
    _check_id(call.id, f"{place}.id")
    if call.id in calls:
        raise make_field_error(f"{place}.id", "is the id of an earlier tool call, too")
    if not call.name:
        raise make_field_error(f"{place}.name", "must not be empty")
    calls.add(call.id)


def _check_tool_result(result: content_pb2.ToolResult, place: str, calls: set[str]) -> int:
    _check_id(result.call_id, f"{place}.call_id")
    if result.call_id not in calls:
        raise make_field_error(f"{place}.call_id", "is not the id of an earlier tool call")
    return _check_result_parts(result.parts, f"{place}.parts")


def _check_result_parts(parts: Sequence[content_pb2.Part], place: str) -> int:
    if len(parts) > MAX_PARTS:
        raise make_field_error(place, f"must hold at most {MAX_PARTS} parts, not {len(parts)}")
    images = 0
    for number, part in enumerate(parts):
        kind = part.WhichOneof("content")
        if kind not in ("text", "image"):
            raise make_field_error(f"{place}[{number}]", "must be a text or an image")
        images += _check_content(part, kind, f"{place}[{number}]", set())
    return images


def _check_id(value: str, place: str) -> None:
    if not value or len(value) > MAX_ID or not value.isprintable():
        raise make_field_error(place, f"must be 1 to {MAX_ID} printable characters")


def _check_state(part: content_pb2.Part, place: str) -> None:
    if len(part.state.data) > MAX_STATE_BYTES:
        raise make_field_error(f"{place}.state.data", f"must take at most {MAX_STATE_BYTES} bytes")

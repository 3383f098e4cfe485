"""The fields of a GenerateRequest by path, and the refusal of those that a backend lacks.

A path is what errors and ModelInfo.supported_fields name: "config.top_k", "tools.strict",
"conversation.messages.parts.image.url". An error also has the indices of lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from arena_llm.suggestions import did_you_mean
from arena_llm.v1 import content_pb2, generate_pb2, score_pb2
from services.common.backend import BaseLLMBackend
from services.common.config import ConfigError
from services.common.errors import Unsupported

_PARTS = "conversation.messages.parts"

#: What every backend honours: the texts of a prompt or of a conversation, and hints.
ALWAYS_HONOURED = frozenset(
    (
        *("model", "prompt", "conversation", f"{_PARTS}.text", f"{_PARTS}.cache", "tools.cache"),
        *("session", "request_id", "labels", "cache_use"),
    )
)

#: Messages whose fields are honoured or refused one by one.
_GROUPS = (
    *("config", "constraint", "reasoning", "tool_choice", "returns", "routing", "raw"),
    *("tools", "conversation", "fallback_models"),
)
#: Fields of a part's content that a backend may refuse even if it honours that content.
_CONTENT_FIELDS: Mapping[str, tuple[str, ...]] = {"image": ("data", "url", "detail")}
#: Fields of a group that are honoured together with the group itself.
_REQUIRED = frozenset(
    ("tools.name", "tools.description", "tools.parameters_json_schema", "conversation.messages")
)


def _list_paths() -> Iterator[str]:
    """Yield the path of every field that a backend honours or refuses."""
    for field in generate_pb2.GenerateRequest.DESCRIPTOR.fields:
        yield field.name
        if field.name in _GROUPS and field.message_type:
            for inner in field.message_type.fields:
                if (path := f"{field.name}.{inner.name}") not in _REQUIRED:
                    yield path
    for field in content_pb2.Part.DESCRIPTOR.fields:
        inner_fields = _CONTENT_FIELDS.get(field.name)
        for path in (f".{name}" for name in inner_fields) if inner_fields else ("",):
            yield f"{_PARTS}.{field.name}{path}"


#: The path of every field that a backend honours or refuses. The groups themselves are left out,
#: except `tools` and `conversation`, which have fields that are honoured together with them.
PATHS = frozenset(_list_paths()) - (frozenset(_GROUPS) - {"tools", "conversation"})


class Refusals:
    """Refuses every field that a backend does not honour."""

    def __init__(self, backend: BaseLLMBackend[Any]) -> None:
        if unknown := backend.fields - PATHS:
            hint = did_you_mean(min(unknown), PATHS) or "; docs/fields.md lists them"
            raise ConfigError(f"{type(backend).__name__}.fields: {min(unknown)} is no field{hint}")
        self._backend = backend
        self.honoured = ALWAYS_HONOURED | backend.fields
        #: Fields that are honoured as a whole, and the honoured fields of each group.
        self._whole = self.honoured - {"conversation", "tools"}
        self._inner = {
            name: frozenset(
                path.removeprefix(f"{name}.")
                for path in self.honoured
                if path.startswith(f"{name}.")
            )
            for name in _GROUPS
            if name not in ("conversation", "tools")
        }

    def check_request(
        self,
        request: generate_pb2.GenerateRequest
        | score_pb2.ScoreRequest
        | score_pb2.CountTokensRequest,
    ) -> None:
        """Raise Unsupported for the first field that the backend does not honour.

        Fields that a GenerateRequest does not have are not checked.
        """
        for descriptor, value in request.ListFields():
            if not self._is_honoured(descriptor.name, value):
                break
        else:
            return  # the usual case, without the path of each field
        for path, field in _list_set_fields(request):
            if path in PATHS and path not in self.honoured:
                raise self._refusal(path, field)

    def _is_honoured(self, name: str, value: Any) -> bool:
        """Whether a field is certainly honoured. If not, its paths are checked one by one."""
        if name in self._whole:
            return True
        if (inner := self._inner.get(name)) is not None:
            return all(field.name in inner for field, _ in value.ListFields())
        return name == "conversation" and _is_plain(value)

    def check_score(self) -> None:
        """Raise Unsupported if the backend cannot score continuations."""
        if not self._backend.can_score:
            advice = self._backend.refused.get("score", "use a model that can")
            raise Unsupported(f"{self._backend.name} models cannot score continuations: {advice}")

    def check_count_tokens(self) -> None:
        """Raise Unsupported if the backend cannot count tokens."""
        if not self._backend.can_count_tokens:
            advice = self._backend.refused.get("count_tokens", "use a local backend (hf, vllm)")
            raise Unsupported(f"{self._backend.name} models cannot count tokens: {advice}")

    def _refusal(self, path: str, field: str) -> Unsupported:
        # The advice for a group holds for all its fields.
        places = (path.rsplit(".", level)[0] for level in range(path.count(".") + 1))
        advices = filter(None, map(self._backend.refused.get, places))
        advice = next(advices, "leave it out")
        return Unsupported(
            f"{self._backend.name} models do not honour {path}: {advice}", field=field
        )


def _is_plain(conversation: content_pb2.Conversation) -> bool:
    """Whether a conversation has nothing but texts."""
    return not conversation.continue_last_message and all(
        [field.name for field, _ in part.ListFields()] == ["text"]
        for message in conversation.messages
        for part in message.parts
    )


def _list_set_fields(request: Any) -> Iterator[tuple[str, str]]:
    """Yield the path of each field that is set, and the same with the indices of lists."""
    for field, value in request.ListFields():
        name = field.name
        if name == "conversation":
            yield from _list_conversation_fields(value)
        elif name == "tools":
            yield name, name
            for index, tool in enumerate(value):
                for inner, _ in tool.ListFields():
                    if (path := f"{name}.{inner.name}") not in _REQUIRED:
                        yield path, f"{name}[{index}].{inner.name}"
        elif name in _GROUPS:
            for inner, _ in value.ListFields():
                path = f"{name}.{inner.name}"
                yield path, path
        else:
            yield name, name


def _list_conversation_fields(conversation: content_pb2.Conversation) -> Iterator[tuple[str, str]]:
    if conversation.continue_last_message:
        path = "conversation.continue_last_message"
        yield path, path
    for index, message in enumerate(conversation.messages):
        for number, part in enumerate(message.parts):
            for field, value in part.ListFields():
                name = field.name
                if name == "text":
                    continue
                place = f"conversation.messages[{index}].parts[{number}].{name}"
                if name in _CONTENT_FIELDS:
                    for inner, _ in value.ListFields():
                        if inner.name in _CONTENT_FIELDS[name]:
                            yield f"{_PARTS}.{name}.{inner.name}", f"{place}.{inner.name}"
                    continue
                yield f"{_PARTS}.{name}", place
                if name == "tool_result":
                    yield from _list_result_fields(value, place)


def _list_result_fields(result: content_pb2.ToolResult, place: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of the images in a tool's result."""
    for number, part in enumerate(result.parts):
        for inner, _ in part.image.ListFields():
            if inner.name in _CONTENT_FIELDS["image"]:
                yield f"{_PARTS}.image.{inner.name}", f"{place}.parts[{number}].image.{inner.name}"

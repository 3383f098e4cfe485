"""What messages are made of: text, images, reasoning, tool calls and their results.

`arena_llm.types` exports these names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True)
class ProviderState:
    """Opaque data of a provider, such as a signature. Only the backend that made it reads it.

    origin: backend, provider and model that made it.
    """

    data: bytes
    origin: str = ""


@dataclass(frozen=True, slots=True)
class CacheHint:
    """The prompt up to here is worth caching, for this many seconds (0: the provider's default)."""

    ttl_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBase:
    """What every part can carry.

    state: what the provider needs to see again together with the part. cache: a hint.
    """

    state: ProviderState | None = field(default=None, repr=False)
    cache: CacheHint | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Text(PartBase):
    """Plain text."""

    kind: ClassVar[str] = "text"

    text: str


class ImageDetail(StrEnum):
    """The resolution at which a model looks at an image."""

    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Image(PartBase):
    """An image: the bytes of its file with their media type ("image/png"), or an https URL."""

    kind: ClassVar[str] = "image"

    data: bytes | None = None
    media_type: str = ""
    url: str | None = None
    detail: ImageDetail | None = None


class ReasoningForm(StrEnum):
    """What a reasoning text is: the tokens as generated, or a summary by the provider."""

    RAW = "raw"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Reasoning(PartBase):
    """Reasoning of the model. The text is empty if the provider returns only its state."""

    kind: ClassVar[str] = "reasoning"

    text: str = ""
    form: ReasoningForm | None = None


@dataclass(frozen=True, slots=True)
class ToolCall(PartBase):
    """A call of a tool by the model. It ends the reply; the caller runs the tool.

    id: unique in the conversation. arguments: JSON text as the model wrote it. It may be invalid
    JSON.
    """

    kind: ClassVar[str] = "tool_call"

    id: str
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Refusal(PartBase):
    """The words with which the model refused."""

    kind: ClassVar[str] = "refusal"

    text: str


@dataclass(frozen=True, slots=True)
class ToolResult(PartBase):
    """The result of the call `call_id`. is_error: the tool failed; the parts describe the error.

    parts: texts and images; a string stands for one text.
    """

    kind: ClassVar[str] = "tool_result"

    call_id: str
    parts: tuple[Part, ...] = ()
    is_error: bool = False

    # Written by hand, because `parts` accepts more than it holds.
    def __init__(
        self,
        call_id: str,
        parts: str | Part | Iterable[Part] = (),
        is_error: bool = False,
        *,
        state: ProviderState | None = None,
        cache: CacheHint | None = None,
    ) -> None:
        names = ("call_id", "parts", "is_error", "state", "cache")
        values = (call_id, as_parts(parts), is_error, state, cache)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)


Part = Text | Image | Reasoning | ToolCall | ToolResult | Refusal


def as_parts(value: Part | Iterable[Part] | str) -> tuple[Part, ...]:
    if isinstance(value, str):
        return (Text(value),) if value else ()
    return (value,) if isinstance(value, PartBase) else tuple(value)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, made of parts; a string stands for one text.

    The message of a completion can be appended to the next request unchanged.
    """

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[Part, ...]

    # Written by hand, because `parts` accepts more than it holds.
    def __init__(
        self,
        role: Literal["system", "user", "assistant", "tool"],
        parts: str | Part | Iterable[Part],
    ) -> None:
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "parts", as_parts(parts))

    @property
    def text(self) -> str:
        """All its text parts, joined."""
        return self._join(Text)

    @property
    def reasoning(self) -> str:
        """All its reasoning parts, joined."""
        return self._join(Reasoning)

    @property
    def refusal(self) -> str:
        """The words with which the model refused; empty if it did not refuse."""
        return self._join(Refusal)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    def without_state(self) -> Message:
        """Return the message without any provider's state, for another model.

        Reasoning without text is left out, because it is nothing but state.
        """
        kept = (p for p in self.parts if not isinstance(p, Reasoning) or p.text)
        return Message(self.role, tuple(replace(part, state=None) for part in kept))

    def _join(self, kind: type[Text | Reasoning | Refusal]) -> str:
        if len(self.parts) == 1 and type(part := self.parts[0]) is kind:
            return part.text  # the usual case
        return "".join(part.text for part in self.parts if type(part) is kind)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, oldest first.

    continue_last_message: the last message is the assistant's, and the completion continues it.
    """

    messages: tuple[Message, ...]
    continue_last_message: bool = False


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt without a chat template, as text or as token ids. Local backends only.

    add_special_tokens: whether the tokenizer adds its special tokens to the text; None means its
    default.
    """

    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    add_special_tokens: bool | None = None


#: A prompt (a user message, or text for a base model), a conversation, or a raw prompt.
Input = str | Conversation | RawPrompt


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the caller runs.

    name: 1 to 64 letters, digits, "_" and "-". parameters_json_schema: a JSON Schema of the
    arguments as JSON text; empty if it takes none. strict: the arguments must fit the schema by
    constrained decoding.
    """

    name: str
    description: str = ""
    parameters_json_schema: str = ""
    strict: bool = False
    cache: CacheHint | None = None


class ToolMode(StrEnum):
    """Whether the model calls tools: as it decides, never, or at least once."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools the model may call.

    names: empty means all. allow_parallel: False means at most one call in a reply; None means
    the provider's default.
    """

    mode: ToolMode | None = None
    names: tuple[str, ...] = ()
    allow_parallel: bool | None = None

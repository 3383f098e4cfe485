"""Chat templates: third-party code that turns a conversation into a model's text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

from jinja2 import TemplateError, TemplateRuntimeError, TemplateSyntaxError

from arena_llm.types import Conversation, Message, Tool, ToolResult
from services.common.errors import InvalidRequest, ModelMisconfigured, Unsupported
from services.common.local.containment import time_limit
from services.common.local.encoding import PromptEncoder
from services.common.local.images import ImageStyle, check_images

#: Time limit for rendering a chat template, in seconds. A long conversation takes milliseconds.
_RENDER_SECONDS = 5.0
#: Most characters of a template's own message in an error.
_MESSAGE_LENGTH = 300
#: Arguments of apply_chat_template, and what a template gets from the request itself.
_RESERVED = frozenset(
    (
        *("conversation", "messages", "tools", "documents", "chat_template", "tokenize"),
        *("add_generation_prompt", "continue_final_message", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
    )
)
#: The names under which templates read the reasoning of an earlier message.
_REASONING_NAMES = frozenset({"reasoning_content", "reasoning", "thinking"})
#: Words of templates that show the results of tools.
_RESULT_NAMES = frozenset({"tool", "tool_calls", "tool_response", "tool_call_id"})

_ARGUMENTS = "template_arguments_json"


#: Templates write the markup of each role; some refuse a role.
_SAMPLES: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Hello"), Message("assistant", "Hello"), Message("user", "Hello")),
    (Message("system", "Hello"), Message("user", "Hello")),
)
#: Marks the control tokens in a text. Takes `reply=True` for a text of the model's own.
Protect = Callable[..., str]


class ChatTemplate:
    """A model's chat template, which can fail in any way.

    source: replaces the tokenizer's own template. reasons: the model writes reasoning, so its
    template decides what it reads of the reasoning in earlier messages. images: how it shows
    images; None if the model reads none.
    """

    def __init__(
        self,
        model: str,
        tokenizer: Any,
        source: str | None = None,
        *,
        reasons: bool = False,
        images: ImageStyle | None = None,
    ) -> None:
        self._model = model
        self._images = images
        self._tokenizer = tokenizer
        self._source = source
        text = getattr(tokenizer, "chat_template", None) if source is None else source
        texts = text.values() if isinstance(text, dict) else (text,)
        #: Every word of the template, among them the names that it reads.
        self._words = frozenset(word for text in texts for word in re.findall(r"\w+", str(text)))
        self._reads_reasoning = reasons or bool(self._words & _REASONING_NAMES)

    @property
    def reads_tools(self) -> bool:
        """True if the template shows tools to the model."""
        return "tools" in self._words

    def sample_markup(self) -> str:
        """What the template writes around the messages of short conversations.

        Empty if it can render none of them.
        """
        rendered = []
        for messages in _SAMPLES:
            with suppress(InvalidRequest, Unsupported):
                rendered.append(self.render(Conversation(messages), "conversation"))
        return "\n".join(rendered)

    def render(
        self,
        conversation: Conversation,
        field: str,
        arguments: Mapping[str, Any] | None = None,
        tools: Sequence[Tool] = (),
        encoder: PromptEncoder | None = None,
    ) -> str:
        """The conversation as the model's text, never empty.

        encoder: marks control tokens in the texts of messages and tools; None: they take effect.
        Raises InvalidRequest with `field` if the template refuses the conversation, fails on
        it, takes too long or renders nothing. Its cause is the template's own error. Raises
        Unsupported for what the template does not read.
        """
        arguments = arguments or {}
        self._check_arguments(arguments)
        messages = [*self._describe(conversation.messages)]
        described = [*map(describe_tool, tools)]
        if encoder is not None:
            messages = [_protect(message, encoder.protect) for message in messages]
            described = [_protect(tool, encoder.protect) for tool in described]
        name = f"the chat template of {self._model}"
        continues = conversation.continue_last_message
        try:
            with time_limit(_RENDER_SECONDS):
                text = self._tokenizer.apply_chat_template(
                    messages,
                    tools=described or None,
                    chat_template=self._source,
                    add_generation_prompt=not continues,
                    continue_final_message=continues,
                    tokenize=False,
                    **arguments,
                )
                if isinstance(text, str):
                    text = text if self._images is None else self._images.insert(text)
                    text.encode()  # fails on half a surrogate pair
        except Exception as error:  # a template can raise any
            # For every conversation. A missing filter in an unused branch fails when it is used.
            if isinstance(error, TemplateSyntaxError) or type(error) is TemplateRuntimeError:
                raise ModelMisconfigured(
                    f"{name} cannot be compiled: {_describe_error(error, str)}: correct it"
                ) from error
            verb = "refuses" if type(error) is TemplateError else "fails on"
            restore = str if encoder is None else encoder.restore
            why = _describe_error(error, restore)
            raise InvalidRequest(f"{name} {verb} this conversation: {why}", field=field) from error
        if not isinstance(text, str):
            raise InvalidRequest(f"{name} renders {type(text).__name__}, not text", field=field)
        if not text:
            raise InvalidRequest(
                f"{name} renders nothing for this conversation: add a user message", field=field
            )
        return text

    def _check_arguments(self, arguments: Mapping[str, Any]) -> None:
        for name in arguments:
            if name in _RESERVED:
                raise InvalidRequest(
                    f"{_ARGUMENTS} must not set {name}, which the service sets", field=_ARGUMENTS
                )
            if name not in self._words:
                raise Unsupported(
                    f"the chat template of {self._model} does not read {name}: leave it out",
                    field=_ARGUMENTS,
                )

    def _describe(self, messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
        """Yield the messages as templates read them."""
        names: dict[str, str] = {}
        numbers = count(1)
        for index, message in enumerate(messages):
            self._check_parts(message, f"conversation.messages[{index}].parts")
            if message.role == "tool":
                for part in message.parts:
                    if isinstance(part, ToolResult):
                        yield _describe_result(part, names.get(part.call_id, ""))
                continue
            content: Any = message.text + message.refusal
            if self._images is not None:
                content = self._images.describe(message, numbers)
            described: dict[str, Any] = {"role": message.role, "content": content}
            if reasoning := message.reasoning:
                described["reasoning_content"] = reasoning
            if calls := message.tool_calls:
                names |= {call.id: call.name for call in calls}
                described["tool_calls"] = [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": _read(call.arguments)},
                    }
                    for call in calls
                ]
            yield described

    def _check_parts(self, message: Message, place: str) -> None:
        """Refuse the parts that the template would leave out of the text."""
        check_images(self._model, self._images, message, place)
        for number, part in enumerate(message.parts):
            read = {
                "reasoning": self._reads_reasoning,
                "tool_call": "tool_calls" in self._words,
                "tool_result": bool(self._words & _RESULT_NAMES),
            }
            if not read.get(part.kind, True):
                kind = part.kind.replace("_", " ")
                raise Unsupported(
                    f"the chat template of {self._model} does not read a {kind} of an earlier "
                    "message: leave it out, or send it as a text",
                    field=f"{place}[{number}].{part.kind}",
                )


def _protect(value: Any, protect: Protect) -> Any:
    """A message or a tool as templates read it, with `protect` applied to its texts."""
    if isinstance(value, dict):
        if value.get("role") == "assistant":
            protect = partial(protect, reply=True)
        return {protect(name): _protect(item, protect) for name, item in value.items()}
    if isinstance(value, list):
        return [_protect(item, protect) for item in _merge_texts(value)]
    return protect(value) if isinstance(value, str) else value


def _merge_texts(items: list[Any]) -> list[Any]:
    """The parts of a message with adjacent texts as one: together they may name a control token."""
    merged: list[Any] = []
    for item in items:
        match [*merged, item]:
            case [*_, {"type": "text", "text": str(begin)}, {"type": "text", "text": str(end)}]:
                merged[-1] = {"type": "text", "text": begin + end}
            case _:
                merged.append(item)
    return merged


def describe_tool(tool: Tool) -> dict[str, Any]:
    """A tool as OpenAI's API and the templates describe it."""
    parameters = json.loads(tool.parameters_json_schema or '{"type": "object", "properties": {}}')
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _describe_result(result: ToolResult, name: str) -> dict[str, Any]:
    text = Message("tool", result.parts).text
    return {"role": "tool", "tool_call_id": result.call_id, "name": name, "content": text}


def _read(arguments: str) -> Any:
    """A call's arguments as templates expect them: an object, or the text if it is not one."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _describe_error(error: Exception, restore: Callable[[str], str]) -> str:
    """A template's error as text. Errors of other types show only their type, because their
    message may repeat the prompt."""
    kind = type(error).__name__
    if isinstance(error, TimeoutError):
        return f"it takes longer than {_RENDER_SECONDS:g} s"
    if not isinstance(error, TemplateError):
        return kind
    text = " ".join(restore(str(error)).split())[:_MESSAGE_LENGTH]
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if type(error) is TemplateError else f"{kind}: {text}"

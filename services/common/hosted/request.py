"""The parts of a request that all hosted providers share: messages and sampling parameters.

CHAT_PARAMETERS is the only place that knows how OpenAI's chat completions format names the
sampling parameters: https://platform.openai.com/docs/api-reference/chat. OpenRouter and litellm
both take this format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from arena_llm.types import Conversation, GenerationRequest, Input, Message, RawPrompt, Text

ResponseFormat = Mapping[str, Any]

T = TypeVar("T")

#: The field of a request that holds its provider_options.
OPTIONS = "provider_options_json"

#: Body fields that the services set themselves in every request.
SERVICE_FIELDS = frozenset(
    ("model", "messages", "stream", "stream_options", "n", "response_format")
)


@dataclass(frozen=True, slots=True)
class ChatParameter:
    """How an option of a completion is written in the body of a chat completion request.

    path: its field in a GenerateRequest.

    name: the body field that holds the value.
    other_name: a body field with the same meaning, which some models take instead.
    switch: a boolean body field that turns the parameter on. It is sent alone for the value 0.
    in_openai: False for a field that OpenAI's own API lacks.
    always_honoured: True if every provider honours it. For the other parameters, OpenRouter must
    be asked to use only providers that do.
    off: the value that turns the parameter off. litellm's models get no field for it.
    """

    path: str
    name: str
    other_name: str = ""
    switch: str = ""
    in_openai: bool = True
    always_honoured: bool = False
    off: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        """All body fields that belong to the parameter."""
        return tuple(filter(None, (self.name, self.other_name, self.switch)))

    def fields(self, value: Any) -> dict[str, Any]:
        """The body fields for a value."""
        if not self.switch:
            return {self.name: value}
        return {self.switch: True, self.name: value} if value else {self.switch: True}


#: By the name of the option, as in arena_llm.types.PARAMETERS.
CHAT_PARAMETERS: Mapping[str, ChatParameter] = {
    "temperature": ChatParameter("config.temperature", "temperature"),
    "top_p": ChatParameter("config.top_p", "top_p"),
    "top_k": ChatParameter("config.top_k", "top_k", in_openai=False, off=0),
    "max_tokens": ChatParameter(
        "config.max_tokens",
        "max_tokens",
        other_name="max_completion_tokens",
        always_honoured=True,
    ),
    "seed": ChatParameter("config.seed", "seed"),
    "stop": ChatParameter("config.stop", "stop"),
    "presence_penalty": ChatParameter("config.presence_penalty", "presence_penalty"),
    "frequency_penalty": ChatParameter("config.frequency_penalty", "frequency_penalty"),
    "min_p": ChatParameter("config.min_p", "min_p", in_openai=False, off=0),
    "repetition_penalty": ChatParameter(
        "config.repetition_penalty", "repetition_penalty", in_openai=False, off=1
    ),
    "logit_bias": ChatParameter("config.logit_bias", "logit_bias"),
    "top_logprobs": ChatParameter("returns.top_logprobs", "top_logprobs", switch="logprobs"),
}

#: Reads all parameters of a GenerationRequest together, in the order of CHAT_PARAMETERS.
_read_parameters = attrgetter(
    *(
        f"{'returns' if parameter.path.startswith('returns.') else 'sampling'}.{name}"
        for name, parameter in CHAT_PARAMETERS.items()
    )
)

#: Kinds of content, and fields of a part, that at least some hosted models take.
_PARTS = (
    *("image.data", "image.url", "image.detail", "reasoning", "refusal"),
    *("tool_call", "tool_result", "state"),
)

#: Fields of a request that all hosted services honour.
HONOURED = frozenset(parameter.path for parameter in CHAT_PARAMETERS.values()) | {
    *("constraint.choices", "constraint.json_schema", "constraint.json_object"),
    *("tools", "tools.strict"),
    *("tool_choice.mode", "tool_choice.names", "tool_choice.allow_parallel"),
    *("reasoning.effort", "reasoning.budget_tokens", "reasoning.visibility"),
    *(f"conversation.messages.parts.{name}" for name in _PARTS),
    "conversation.continue_last_message",
    OPTIONS,
}

#: Every body field that belongs to a sampling parameter.
PARAMETER_NAMES = frozenset(
    name for parameter in CHAT_PARAMETERS.values() for name in parameter.names
)


def list_set_parameters(request: GenerationRequest) -> Iterator[tuple[str, ChatParameter, Any]]:
    """Yield each parameter that is set: its name, its ChatParameter, its value."""
    for value, (name, parameter) in zip(
        _read_parameters(request), CHAT_PARAMETERS.items(), strict=True
    ):
        if value is None or value == () or value == {}:
            continue
        if isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = {str(token): bias for token, bias in value.items()}
        yield name, parameter, value


def request_field(name: str) -> str:
    """The field of a GenerateRequest that a body field comes from, such as "config.seed"."""
    for parameter in CHAT_PARAMETERS.values():
        if name in parameter.names:
            return parameter.path
    return _OTHER_FIELDS.get(name, "")


#: Body fields that are no parameters, and the field of a request that each comes from.
_OTHER_FIELDS = {
    "response_format": "constraint",
    "tools": "tools",
    "tool_choice": "tool_choice.mode",
    "parallel_tool_calls": "tool_choice.allow_parallel",
    "reasoning": "reasoning.effort",
}


def as_conversation(prompt: Input) -> tuple[Message, ...]:
    """The input as a conversation. A plain prompt becomes a user message."""
    match prompt:
        case str():
            return (Message("user", prompt),)
        case Conversation(messages):
            return messages
        case RawPrompt():
            raise AssertionError("the servicer refuses it")


#: Characters of a usual token, and tokens of a usual completion.
_TOKEN, _COMPLETION = 4, 500


def estimate_tokens(request: GenerationRequest) -> int:
    """Return about how many tokens a call will use, for limits of tokens per minute."""
    length = sum(len(message.text) for message in as_conversation(request.input))
    return length // _TOKEN + (request.sampling.max_tokens or _COMPLETION)


async def build_apart(request: GenerationRequest, build: Callable[[], T]) -> T:
    """Return `build()`, which writes the request in the provider's format.

    A long conversation is written in a thread, so that other calls go on.
    """
    if isinstance(request.input, Conversation) and len(request.input.messages) > _LONG:
        return await asyncio.to_thread(build)
    return build()


#: Messages of a conversation. So many are written in about a millisecond.
_LONG = 200


def append_note(prompt: Input, note: str) -> Conversation:
    """Add a note at the end of the last user message, or as a new user message."""
    *before, last = as_conversation(prompt)
    if last.role != "user":
        return Conversation((*before, last, Message("user", note)))
    *parts, end = last.parts
    if isinstance(end, Text):
        parts.append(Text(f"{end.text}\n\n{note}"))
    else:
        parts += (end, Text(note))
    return Conversation((*before, Message("user", parts)))

"""The parts of a request that all hosted providers share: messages and sampling parameters.

CHAT_PARAMETERS is the only place that knows how OpenAI's chat completions format names the
sampling parameters: https://platform.openai.com/docs/api-reference/chat. OpenRouter and litellm
both take this format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from arena_llm.types import Input, Message, Sampling

ResponseFormat = Mapping[str, Any]

#: Body fields that the services set themselves in every request.
SERVICE_FIELDS = frozenset(
    ("model", "messages", "stream", "stream_options", "n", "response_format")
)


@dataclass(frozen=True, slots=True)
class ChatParameter:
    """How a field of Sampling is written in the body of a chat completion request.

    name: the body field that holds the value.
    other_name: a body field with the same meaning, which some models take instead.
    switch: a boolean body field that turns the parameter on. It is sent alone for the value 0.
    in_openai: False for a field that OpenAI's own API lacks.
    always_honoured: True if every provider honours it. For the other parameters, OpenRouter must
    be asked to use only providers that do.
    off: the value that turns the parameter off. litellm's models get no field for it.
    """

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


#: By the name of the field in Sampling.
CHAT_PARAMETERS: Mapping[str, ChatParameter] = {
    "temperature": ChatParameter("temperature"),
    "top_p": ChatParameter("top_p"),
    "top_k": ChatParameter("top_k", in_openai=False, off=0),
    "max_tokens": ChatParameter(
        "max_tokens", other_name="max_completion_tokens", always_honoured=True
    ),
    "seed": ChatParameter("seed"),
    "stop": ChatParameter("stop"),
    "presence_penalty": ChatParameter("presence_penalty"),
    "frequency_penalty": ChatParameter("frequency_penalty"),
    "logprobs": ChatParameter("top_logprobs", switch="logprobs"),
}

#: Every body field that belongs to a sampling parameter.
PARAMETER_NAMES = frozenset(
    name for parameter in CHAT_PARAMETERS.values() for name in parameter.names
)


def list_set_parameters(sampling: Sampling) -> Iterator[tuple[str, ChatParameter, Any]]:
    """Yield each parameter that is set: its field in Sampling, its ChatParameter, its value."""
    for field, parameter in CHAT_PARAMETERS.items():
        value = getattr(sampling, field)
        if value is None or value == ():
            continue
        yield field, parameter, list(value) if isinstance(value, tuple) else value


def request_field(name: str) -> str:
    """The field of a GenerateRequest that a body field comes from, such as "config.logprobs"."""
    if name == "response_format":
        return "constraint"
    for field, parameter in CHAT_PARAMETERS.items():
        if name in parameter.names:
            return f"config.{field}"
    return ""


def as_conversation(prompt: Input) -> tuple[Message, ...]:
    """The input as a conversation. A plain prompt becomes a user message."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def build_messages(prompt: Input) -> list[dict[str, str]]:
    """The input as the `messages` of a chat completion request."""
    return [{"role": m.role, "content": m.content} for m in as_conversation(prompt)]


def append_note(prompt: Input, note: str) -> tuple[Message, ...]:
    """Add a note at the end of the last user message, or as a new user message."""
    *before, last = as_conversation(prompt)
    if last.role != "user":
        return (*before, last, Message("user", note))
    return (*before, Message("user", f"{last.content}\n\n{note}"))

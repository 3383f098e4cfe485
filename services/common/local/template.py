"""Chat templates. They are other people's programs, which can fail in any way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from arena_llm.types import Message
from services.common.errors import InvalidRequest
from services.common.local.limit import time_limit

#: The most seconds that rendering may take. A long conversation takes milliseconds.
_MOST_SECONDS = 5.0
#: The most characters of a template's own message in an error.
_MOST_WORDS = 300


class ChatTemplate:
    """A model's chat template. source: replaces the tokenizer's own."""

    def __init__(self, model: str, tokenizer: Any, source: str | None = None) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._source = source

    def render(self, messages: Sequence[Message], field: str) -> str:
        """The conversation as the model's text, never empty.

        Raises InvalidRequest with `field` where the template refuses the conversation, fails on
        it, takes too long or renders nothing. Its cause is the template's own error.
        """
        name = f"the chat template of {self._model}"
        try:
            with time_limit(_MOST_SECONDS):
                text = self._tokenizer.apply_chat_template(
                    [{"role": message.role, "content": message.content} for message in messages],
                    chat_template=self._source,
                    add_generation_prompt=True,
                    tokenize=False,
                )
                if isinstance(text, str):
                    text.encode()  # fails on half a surrogate pair
        except Exception as error:  # a template can raise any
            how = "refuses" if type(error) is TemplateError else "fails on"
            raise InvalidRequest(
                f"{name} {how} this conversation: {_words(error)}", field=field
            ) from error
        if not isinstance(text, str):
            raise InvalidRequest(f"{name} renders {type(text).__name__}, not text", field=field)
        if not text:
            raise InvalidRequest(
                f"{name} renders nothing for this conversation: add a user message", field=field
            )
        return text


def _words(error: Exception) -> str:
    """A template's error in words. Errors of other kinds show only their kind: they may repeat
    the prompt."""
    kind = type(error).__name__
    if isinstance(error, TimeoutError):
        return f"it takes longer than {_MOST_SECONDS:g} s"
    if not isinstance(error, TemplateError):
        return kind
    words = " ".join(str(error).split())[:_MOST_WORDS]
    words = words if words.isprintable() else repr(words)[1:-1]
    return words if type(error) is TemplateError else f"{kind}: {words}"

"""From a request's input to the model's tokens. Nothing is ever truncated."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from arena_llm.types import Choices, Input, Message
from services.common.errors import ContextTooLong, InvalidRequest


class PromptReader:
    """What a model's prompts are read with.

    chat_template: None for a base model. context_length: tokens of prompt and completion
    together. tokens: how many its embeddings know.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        chat_template: str | None,
        context_length: int,
        tokens: int,
    ) -> None:
        self.name = name
        self.chat_template = chat_template
        self.context_length = context_length
        self._tokenizer = tokenizer
        self._tokens = tokens
        # Bytes of the longest token, or more: in byte-level vocabularies a byte is a
        # character that may itself have two.
        self._longest = max(len(token.encode()) for token in tokenizer.get_vocab())
        # Games offer the same few actions again and again.
        self.encoded_choice = lru_cache(8192)(self.encoded)

    def read(self, given: Input) -> list[int]:
        """The input's tokens, at least one. Raises InvalidRequest and ContextTooLong."""
        ids = self._ids(given)
        field = _field(given)
        if not ids:
            raise InvalidRequest(f"{field} has no token in this model's vocabulary", field=field)
        self._check_known(ids, field)
        return ids

    def read_continuation(self, text: str, field: str) -> list[int]:
        """A continuation's tokens by themselves. Raises InvalidRequest."""
        ids = self.encoded_choice(text)
        if not ids:
            raise InvalidRequest(f"{field} has no token in this model's vocabulary", field=field)
        self._check_known(ids, field)
        return ids

    def encoded(self, text: str) -> list[int]:
        """A text's tokens, without those that begin or end a prompt."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def check_room(self, given: Input, prompt: int, completion: int, cause: str) -> None:
        """Raise ContextTooLong where that many tokens pass the context.

        cause: the field that asks for the completion.
        """
        limit, source = self.context_length, _field(given)
        if prompt + completion > limit:
            raise ContextTooLong(
                f"{prompt} tokens of prompt and {completion} of completion pass the "
                f"{limit} of {self.name}: shorten {source} or {cause}",
                field=source if prompt >= limit else cause,
                metadata={"prompt_tokens": str(prompt), "context_length": str(limit)},
            )

    def _ids(self, given: Input) -> list[int]:
        if self.chat_template is not None:
            text = self._chat_text((Message("user", given),) if isinstance(given, str) else given)
            self._check_length(given, text)
            return self.encoded(text)
        if not isinstance(given, str):
            raise InvalidRequest(
                f"{self.name} is a base model without a chat template: send a prompt, which it "
                "continues",
                field="conversation",
            )
        self._check_length(given, given)
        ids: list[int] = self._tokenizer(given).input_ids
        return ids

    def _chat_text(self, messages: tuple[Message, ...]) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(
                [{"role": message.role, "content": message.content} for message in messages],
                chat_template=self.chat_template,
                add_generation_prompt=True,
                tokenize=False,
            )
        except TemplateError as error:
            raise InvalidRequest(
                f"the chat template of {self.name} refuses this conversation: {error}",
                field="conversation",
            ) from error
        return text

    def _check_length(self, given: Input, text: str) -> None:
        """Refuse what cannot fit before megabytes of it are tokenized."""
        least = len(text.encode()) // self._longest
        if least > self.context_length:
            raise ContextTooLong(
                f"the prompt has at least {least} tokens, over the {self.context_length} of "
                f"{self.name}",
                field=_field(given),
            )

    def _check_known(self, ids: list[int], field: str) -> None:
        """Refuse a token that would fail the engine, and every request in it."""
        if max(ids) >= self._tokens:
            raise InvalidRequest(
                f"{field} has a token for which {self.name} has no embedding: its tokenizer or "
                "chat template is not the model's",
                field=field,
            )


def check_choices(
    reader: PromptReader, choices: Choices, stop: tuple[str, ...], most: int | None
) -> None:
    """Refuse parameters under which a choice could not come back whole."""
    for value in choices.values:
        if any(text in value for text in stop):
            raise InvalidRequest(f"config.stop would cut the choice {value!r}", field="config.stop")
        needed = 0 if most is None else len(reader.encoded_choice(value))
        if most is not None and needed > most:
            raise InvalidRequest(
                f"config.max_tokens of {most} cannot hold the choice {value!r}, "
                f"which has {needed} tokens",
                field="config.max_tokens",
            )


def _field(given: Input) -> str:
    return "prompt" if isinstance(given, str) else "conversation"

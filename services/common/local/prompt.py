"""From a request's input to the model's tokens. Nothing is ever truncated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from arena_llm.types import Choices, Input, Message
from services.common.errors import BackendError, ContextTooLong, InvalidRequest, ModelMisconfigured
from services.common.local.template import ChatTemplate

#: A chat model must read at least one of these. Some templates need a system message.
_CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Hello"),),
    (Message("system", "Be brief."), Message("user", "Hello")),
)
#: The most tokens of a test prompt from the model's own vocabulary.
_MOST_OWN = 8


class PromptReader:
    """Reads prompts, conversations and continuations for one model.

    chat_template: replaces the tokenizer's own. context_length: the most tokens of prompt and
    completion together; for an encoder-decoder model, of each. embedded: how many tokens the
    model can read. scored: how many of these it can also write; by default all.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        chat_template: str | None,
        context_length: int,
        embedded: int,
        scored: int | None = None,
        *,
        encoder_decoder: bool = False,
    ) -> None:
        self.name = name
        self.context_length = context_length
        self.encoder_decoder = encoder_decoder
        self._tokenizer = tokenizer
        self._embedded = embedded
        self._scored = embedded if scored is None else scored
        self._template: ChatTemplate | None = None
        if chat_template is not None or tokenizer.chat_template:
            self._template = ChatTemplate(name, tokenizer, chat_template)
        # Bytes of the longest token, or more: in byte-level vocabularies a byte is a
        # character that may itself have two.
        self._longest = max(len(token.encode()) for token in tokenizer.get_vocab())
        # Games offer the same few actions again and again.
        self.encoded_choice = lru_cache(8192)(self.encoded)

    @property
    def chat(self) -> bool:
        """Whether the model has a chat template."""
        return self._template is not None

    def test_prompt(self) -> list[int]:
        """The tokens of a short input, to test the model with.

        Raises ModelMisconfigured if the model can read no test input.
        """
        errors: list[BackendError] = []
        for given in self._test_inputs():
            try:
                tokens = self.read(given)
                self.check_room(given, len(tokens), 1, "config.max_tokens")
                return tokens
            except BackendError as error:
                errors.append(error)
        why, cause = errors[0].message, str(errors[0].__cause__ or "")
        if cause not in why:  # the message leaves it out, because it may repeat a prompt
            why += f": {' '.join(cause.split())[:300]}"
        raise ModelMisconfigured(
            f"{self.name} cannot read a test {'conversation' if self.chat else 'prompt'}: {why}; "
            "give it the chat template and the tokenizer of its model"
        ) from errors[0]

    def _test_inputs(self) -> Iterator[Input]:
        if self.chat:
            yield from _CONVERSATIONS
            return
        yield "Hello"
        # The vocabulary may lack letters: it may be of digits, or of moves.
        vocabulary = sorted(self._tokenizer.get_vocab().values())
        added = set(self._tokenizer.get_added_vocab().values())
        own = [token for token in vocabulary if token < self._embedded and token not in added]
        yield self._tokenizer.decode(own[:_MOST_OWN])

    def read(self, given: Input) -> list[int]:
        """The input's tokens, at least one. Raises InvalidRequest and ContextTooLong."""
        return self._checked(self._ids(given), self._embedded, _field(given))

    def read_continuation(self, text: str, field: str) -> list[int]:
        """A continuation's tokens by themselves. Raises InvalidRequest."""
        return self._checked(self.encoded_choice(text), self._scored, field)

    def read_continuations(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each of a request's continuations. Raises InvalidRequest."""
        return [
            self.read_continuation(text, f"continuations[{index}]")
            for index, text in enumerate(texts)
        ]

    def encoded(self, text: str) -> list[int]:
        """A text's tokens, without those that begin or end a prompt."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def check_room(self, given: Input, prompt: int, completion: int, cause: str) -> None:
        """Raise ContextTooLong if so many tokens do not fit into the context.

        cause: the request's field that sets the length of the completion.
        """
        limit, source = self.context_length, _field(given)
        needed = max(prompt, completion) if self.encoder_decoder else prompt + completion
        if needed > limit:
            raise ContextTooLong(
                f"{prompt} tokens of prompt and {completion} of completion do not fit into the "
                f"{limit} of {self.name}: shorten {source} or {cause}",
                field=source if prompt >= limit else cause,
                metadata={"prompt_tokens": str(prompt), "context_length": str(limit)},
            )

    def check_choices(self, choices: Choices, stop: tuple[str, ...], most: int | None) -> None:
        """Refuse parameters that would cut a choice."""
        for value in choices.values:
            if any(text in value for text in stop):
                raise InvalidRequest(
                    f"config.stop would cut the choice {value!r}", field="config.stop"
                )
            needed = 0 if most is None else len(self.encoded_choice(value))
            if most is not None and needed > most:
                raise InvalidRequest(
                    f"config.max_tokens of {most} cannot hold the choice {value!r}, "
                    f"which has {needed} tokens",
                    field="config.max_tokens",
                )

    def _ids(self, given: Input) -> list[int]:
        if self._template is not None:
            messages = (Message("user", given),) if isinstance(given, str) else given
            text = self._template.render(messages, _field(given))
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

    def _check_length(self, given: Input, text: str) -> None:
        """Refuse a text that cannot fit, without tokenizing megabytes of it."""
        least = len(text.encode()) // self._longest
        if least > self.context_length:
            raise ContextTooLong(
                f"the prompt has at least {least} tokens, over the {self.context_length} of "
                f"{self.name}",
                field=_field(given),
            )

    def _checked(self, ids: list[int], most: int, field: str) -> list[int]:
        """Refuse tokens that the model cannot read: they would fail other requests too."""
        if not ids:
            raise InvalidRequest(f"{field} has no token in this model's vocabulary", field=field)
        if max(ids) >= most:
            raise InvalidRequest(
                f"{field} has a token for which {self.name} has no embedding: its tokenizer or "
                "chat template is not the model's",
                field=field,
            )
        return ids


def _field(given: Input) -> str:
    return "prompt" if isinstance(given, str) else "conversation"

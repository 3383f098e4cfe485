"""Turns requests into what local engines need: prompt tokens, lengths, sampling settings.

Nothing is ever truncated: input that does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from arena_llm.types import Choices, GenerationRequest, Input, Message, Sampling, ScoringRequest
from services.common.errors import BackendError, ContextTooLong, InvalidRequest, ModelMisconfigured
from services.common.local.containment import time_limit

#: The sampling parameters that local engines honour, and their values for a request that sets
#: none: the model's own distribution. `max_tokens` then comes from the configuration.
SAMPLING_DEFAULTS: Mapping[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "max_tokens": None,
    "seed": None,
    "stop": (),
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logprobs": None,
}

#: Conversations to test a chat model with. It must be able to read one of them: some templates
#: need a system message, others refuse it.
_TEST_CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Hello"),),
    (Message("system", "Be brief."), Message("user", "Hello")),
)
#: Tokens of a test prompt that is made of the model's vocabulary.
_TEST_TOKENS = 8
#: Time limit for rendering a chat template, in seconds. A long conversation takes milliseconds.
_RENDER_SECONDS = 5.0
#: Most characters of a template's own message in an error.
_TEMPLATE_MESSAGE_LENGTH = 300


def sampling_settings(sampling: Sampling) -> dict[str, Any]:
    """Each parameter of SAMPLING_DEFAULTS: the request's value, else the default."""
    return {
        name: default if (value := getattr(sampling, name)) is None else value
        for name, default in SAMPLING_DEFAULTS.items()
    }


class PromptReader:
    """Turns the prompts, conversations and continuations of one model into tokens.

    chat_template: replaces the tokenizer's own. context_length: most tokens of prompt and
    completion together; for an encoder-decoder model, of each. embedded: how many token ids
    the model can read. scored: how many of these it can also write; default: all.
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
        # At least the bytes of the longest token: byte-level vocabularies write a byte as a
        # character that may itself take two.
        self._longest = max(len(token.encode()) for token in tokenizer.get_vocab())
        # Cached, because games offer the same few actions again and again.
        self.encode_choice = lru_cache(8192)(self.encode)

    @property
    def chat(self) -> bool:
        """True if the model has a chat template."""
        return self._template is not None

    def read_generation(
        self, request: GenerationRequest, default_max_tokens: int, *, reasons: bool = False
    ) -> tuple[list[int], int]:
        """Return the prompt's tokens and the maximum number of completion tokens.

        reasons: True if the model writes its reasoning before it obeys the constraint.
        Raises InvalidRequest and ContextTooLong.
        """
        prompt = self.read(request.input)
        sampling, constraint = request.sampling, request.constraint
        if isinstance(constraint, Choices) and not reasons:
            self.check_choices(constraint, sampling.stop, sampling.max_tokens)
            # A text has at most as many tokens as bytes, and a choice always ends by itself.
            max_tokens = max(len(value.encode()) for value in constraint.values)
            cause = "constraint.choices"
        else:
            room = self.context_length - (0 if self.encoder_decoder else len(prompt))
            max_tokens = sampling.max_tokens or max(1, min(default_max_tokens, room))
            cause = "config.max_tokens"
        self.check_room(request.input, len(prompt), max_tokens, cause)
        return prompt, max_tokens

    def read_scoring(self, request: ScoringRequest) -> tuple[list[int], list[list[int]]]:
        """The prompt's tokens, and those of each continuation.

        Raises InvalidRequest and ContextTooLong.
        """
        prompt = self.read(request.input)
        continuations = [
            self._check_tokens(self.encode_choice(text), self._scored, f"continuations[{index}]")
            for index, text in enumerate(request.continuations)
        ]
        longest = max(map(len, continuations))
        self.check_room(request.input, len(prompt), longest, "continuations")
        return prompt, continuations

    def make_test_prompt(self) -> list[int]:
        """The tokens of a short input, to test the model with.

        Raises ModelMisconfigured if the model can read no test input.
        """
        errors: list[BackendError] = []
        for test_input in self._test_inputs():
            try:
                tokens = self.read(test_input)
                self.check_room(test_input, len(tokens), 1, "config.max_tokens")
                return tokens
            except BackendError as error:
                errors.append(error)
        why, cause = errors[0].message, str(errors[0].__cause__ or "")
        if cause not in why:  # a caller's error leaves it out, because it may repeat the prompt
            why += f": {' '.join(cause.split())[:300]}"
        raise ModelMisconfigured(
            f"{self.name} cannot read a test {'conversation' if self.chat else 'prompt'}: {why}; "
            "use the chat template and the tokenizer that belong to the model"
        ) from errors[0]

    def _test_inputs(self) -> Iterator[Input]:
        if self.chat:
            yield from _TEST_CONVERSATIONS
            return
        yield "Hello"
        # The vocabulary may have no letters, only digits or moves.
        vocabulary = sorted(self._tokenizer.get_vocab().values())
        added = set(self._tokenizer.get_added_vocab().values())
        readable = [token for token in vocabulary if token < self._embedded and token not in added]
        yield self._tokenizer.decode(readable[:_TEST_TOKENS])

    def read(self, request_input: Input) -> list[int]:
        """The input's tokens, at least one. Raises InvalidRequest and ContextTooLong."""
        tokens = self._tokenize(request_input)
        return self._check_tokens(tokens, self._embedded, _field(request_input))

    def encode(self, text: str) -> list[int]:
        """A text's tokens, without those that begin or end a prompt."""
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return tokens

    def check_room(self, request_input: Input, prompt: int, completion: int, cause: str) -> None:
        """Raise ContextTooLong if these numbers of tokens do not fit into the context.

        cause: the request field that sets the length of the completion.
        """
        limit, source = self.context_length, _field(request_input)
        needed = max(prompt, completion) if self.encoder_decoder else prompt + completion
        if needed > limit:
            raise ContextTooLong(
                f"{prompt} tokens of prompt and {completion} of completion do not fit into the "
                f"{limit} of {self.name}: shorten {source} or {cause}",
                field=source if prompt >= limit else cause,
                metadata={"prompt_tokens": str(prompt), "context_length": str(limit)},
            )

    def check_choices(
        self, choices: Choices, stop: tuple[str, ...], max_tokens: int | None
    ) -> None:
        """Raise InvalidRequest for parameters that would cut a choice."""
        for value in choices.values:
            if any(text in value for text in stop):
                raise InvalidRequest(
                    f"config.stop would cut the choice {value!r}", field="config.stop"
                )
            if max_tokens is not None and (needed := len(self.encode_choice(value))) > max_tokens:
                raise InvalidRequest(
                    f"config.max_tokens of {max_tokens} cannot hold the choice {value!r}, "
                    f"which has {needed} tokens",
                    field="config.max_tokens",
                )

    def _tokenize(self, request_input: Input) -> list[int]:
        if self._template is not None:
            messages = request_input
            if isinstance(messages, str):
                messages = (Message("user", messages),)
            text = self._template.render(messages, _field(request_input))
            self._check_length(request_input, text)
            return self.encode(text)
        if not isinstance(request_input, str):
            raise InvalidRequest(
                f"{self.name} is a base model without a chat template: send a prompt, which it "
                "continues",
                field="conversation",
            )
        self._check_length(request_input, request_input)
        tokens: list[int] = self._tokenizer(request_input).input_ids
        return tokens

    def _check_length(self, request_input: Input, text: str) -> None:
        """Refuse a text that cannot fit, without tokenizing megabytes of it."""
        least = len(text.encode()) // self._longest
        if least > self.context_length:
            raise ContextTooLong(
                f"the prompt has at least {least} tokens, over the {self.context_length} of "
                f"{self.name}",
                field=_field(request_input),
            )

    def _check_tokens(self, tokens: list[int], limit: int, field: str) -> list[int]:
        """Refuse token ids of `limit` or more: they would fail other requests of the batch too."""
        if not tokens:
            raise InvalidRequest(f"{field} has no token in this model's vocabulary", field=field)
        if max(tokens) >= limit:
            raise InvalidRequest(
                f"{field} has a token for which {self.name} has no embedding: its tokenizer or "
                "chat template belongs to another model",
                field=field,
            )
        return tokens


class ChatTemplate:
    """A model's chat template: third-party code, which can fail in any way.

    source: replaces the tokenizer's own template.
    """

    def __init__(self, model: str, tokenizer: Any, source: str | None = None) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._source = source

    def render(self, messages: Sequence[Message], field: str) -> str:
        """The conversation as the model's text, never empty.

        Raises InvalidRequest with `field` if the template refuses the conversation, fails on
        it, takes too long or renders nothing. Its cause is the template's own error.
        """
        name = f"the chat template of {self._model}"
        try:
            with time_limit(_RENDER_SECONDS):
                text = self._tokenizer.apply_chat_template(
                    [{"role": message.role, "content": message.content} for message in messages],
                    chat_template=self._source,
                    add_generation_prompt=True,
                    tokenize=False,
                )
                if isinstance(text, str):
                    text.encode()  # fails on half a surrogate pair
        except Exception as error:  # a template can raise any
            verb = "refuses" if type(error) is TemplateError else "fails on"
            raise InvalidRequest(
                f"{name} {verb} this conversation: {_describe(error)}", field=field
            ) from error
        if not isinstance(text, str):
            raise InvalidRequest(f"{name} renders {type(text).__name__}, not text", field=field)
        if not text:
            raise InvalidRequest(
                f"{name} renders nothing for this conversation: add a user message", field=field
            )
        return text


def _describe(error: Exception) -> str:
    """A template's error as text. Errors of other types show only their type, because their
    message may repeat the prompt."""
    kind = type(error).__name__
    if isinstance(error, TimeoutError):
        return f"it takes longer than {_RENDER_SECONDS:g} s"
    if not isinstance(error, TemplateError):
        return kind
    text = " ".join(str(error).split())[:_TEMPLATE_MESSAGE_LENGTH]
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if type(error) is TemplateError else f"{kind}: {text}"


def _field(request_input: Input) -> str:
    return "prompt" if isinstance(request_input, str) else "conversation"

"""Turns the inputs of requests into the tokens that local engines read.

Nothing is ever truncated: input that does not fit is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from arena_llm.types import (
    Choices,
    Continuation,
    ContinuationBoundary,
    Conversation,
    CountRequest,
    GenerationRequest,
    Input,
    Message,
    RawPrompt,
    ScoringRequest,
    Tool,
)
from services.common.errors import (
    ContextTooLong,
    InvalidRequest,
    Unsupported,
)
from services.common.local.encoding import ControlTokenError, PromptEncoder
from services.common.local.features import Efforts, Features, calls_tools
from services.common.local.grammars import make_unusable_error
from services.common.local.images import ImageStyle
from services.common.local.sampling import check_sampling
from services.common.local.template import ChatTemplate
from services.common.local.vocabulary import Vocabulary
from services.common.local.writing import CompletionEncoder, UnwritableError

#: Texts of up to this many bytes are always tokenized, which takes about 0.1 s.
_ALWAYS_TOKENIZED = 1 << 18

#: The tokens of texts of up to this many characters are cached. 8,192 texts of any length would
#: fill the memory.
_MAX_CACHED = 256

_NO_ARGUMENTS: Mapping[str, Any] = {}


class PromptReader:
    """Turns the prompts, conversations and continuations of one model into tokens.

    chat_template: replaces the tokenizer's own. context_length: most tokens of prompt and
    completion together; for an encoder-decoder model, of each. embedded: how many token ids
    the model can read. scored: how many of these it can also write; default: all. reasons,
    parses_tools: its entry names a parser of its reasoning, of its tool calls. forces_tools,
    constrains_tools, limits_reasoning: its engine can force a call, make calls fit their schemas,
    end the reasoning. efforts: its levels of reasoning. vocabulary: the bytes of its tokens; None
    if they are not known. spaced: whether the engine leaves the first space of a completion out of
    its text; default: as the tokenizer's decoder. allow_special_tokens: the names of control tokens
    take effect in texts of messages. images: how its template shows images; None if it reads none.
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
        reasons: bool = False,
        parses_tools: bool = False,
        forces_tools: bool = False,
        constrains_tools: bool = False,
        limits_reasoning: bool = False,
        efforts: Efforts | None = None,
        vocabulary: Vocabulary | None = None,
        spaced: bool | None = None,
        allow_special_tokens: bool = False,
        images: ImageStyle | None = None,
    ) -> None:
        self.name = name
        self.context_length = context_length
        self.encoder_decoder = encoder_decoder
        self.tokenizer = tokenizer
        self.embedded = embedded
        self._scored = embedded if scored is None else scored
        self.template: ChatTemplate | None = None
        if chat_template is not None or tokenizer.chat_template:
            self.template = ChatTemplate(
                name, tokenizer, chat_template, reasons=reasons, images=images
            )
        template = self.template
        self.encoder = PromptEncoder(
            tokenizer, "" if template is None else template.sample_markup()
        )
        self._protecting = None if allow_special_tokens else self.encoder
        self._writing: CompletionEncoder | None = None
        #: Spaces that a completion is written with and that are not part of its text.
        self._spaces = 0
        if vocabulary is not None:
            spaced = vocabulary.spaced if spaced is None else spaced
            self._writing = CompletionEncoder(tokenizer, self.encoder, vocabulary, spaced=spaced)
            self._spaces = spaced + vocabulary.trails
        self.features = Features(
            chat=template is not None,
            tools=parses_tools and template is not None and template.reads_tools,
            forces_tools=forces_tools,
            constrains_tools=constrains_tools,
            reasoning=reasons,
            limits_reasoning=limits_reasoning,
            efforts=efforts or {},
            images=images is not None and template is not None,
        )
        # At least the bytes of the longest token: byte-level vocabularies write a byte as a
        # character that may itself take two.
        self._longest = max(len(token.encode()) for token in tokenizer.get_vocab())
        # Games offer the same few actions again and again.
        self._encode_short = lru_cache(8192)(self._encode_completion)

    def read_generation(
        self, request: GenerationRequest, default_max_tokens: int, *, reasons: bool = False
    ) -> tuple[list[int], int]:
        """Return the prompt's tokens and the maximum number of completion tokens.

        reasons: True if the model writes its reasoning before it obeys the constraint.
        Raises InvalidRequest, ContextTooLong and Unsupported.
        """
        self.features.check(self.name, request)
        arguments = self.features.template_arguments(request)
        tools = request.tools if calls_tools(request) else ()
        prompt = self.read(request.input, arguments, tools)
        sampling, constraint = request.sampling, request.constraint
        if isinstance(constraint, Choices):
            self.check_choices(constraint, sampling.stop, sampling.max_tokens)
        if isinstance(constraint, Choices) and not reasons:
            # A text has at most as many tokens as bytes, and a choice always ends by itself.
            max_tokens = max(len(value.encode()) for value in constraint.values) + self._spaces
            cause = "constraint.choices"
        else:
            room = self.context_length - (0 if self.encoder_decoder else len(prompt))
            max_tokens = sampling.max_tokens or max(1, min(default_max_tokens, room))
            cause = "config.max_tokens"
        check_sampling(request, self._scored, max_tokens)
        self.check_room(request.input, len(prompt), max_tokens, cause)
        return prompt, max_tokens

    def fills_context(self, request: GenerationRequest, prompt: int, completion: int) -> bool:
        """True if a completion of this many tokens has ended because the context is full."""
        if request.sampling.max_tokens is not None:
            return False
        return (0 if self.encoder_decoder else prompt) + completion >= self.context_length

    def read_scoring(self, request: ScoringRequest) -> tuple[list[int], list[list[int]]]:
        """The prompt's tokens, and those of each continuation.

        Raises InvalidRequest, ContextTooLong and Unsupported.
        """
        arguments = _parse(request.template_arguments_json)
        prompt = self.read(request.input, arguments)
        joined: str | None = None
        if request.boundary is ContinuationBoundary.JOINED:
            joined = self._read_joined_text(request.input, arguments)
        continuations = [
            self._read_continuation(request.input, continuation, index, joined, len(prompt))
            for index, continuation in enumerate(request.continuations)
        ]
        longest = max(map(len, continuations), default=0)
        self.check_room(request.input, len(prompt), longest, "continuations")
        return prompt, continuations

    def _read_joined_text(self, request_input: Input, arguments: Mapping[str, Any]) -> str:
        if self.encoder_decoder:
            raise Unsupported(
                f"{self.name} reads the prompt with another part than the continuations, so they "
                "cannot be tokenized together: leave boundary out",
                field="boundary",
            )
        if isinstance(request_input, RawPrompt) and request_input.text is None:
            raise InvalidRequest(
                "boundary JOINED needs a prompt that is text: leave it out, or send raw.text",
                field="boundary",
            )
        return self._render(request_input, arguments, ())

    def _read_continuation(
        self,
        request_input: Input,
        continuation: Continuation,
        index: int,
        joined: str | None,
        prompt: int,
    ) -> list[int]:
        """The tokens of a continuation.

        joined: the prompt's text, to tokenize it together with the continuation's text.
        prompt: the number of the prompt's own tokens.
        """
        field = f"continuations[{index}]"
        if continuation.token_ids is not None:
            return self._check_tokens([*continuation.token_ids], self._scored, field)
        text = continuation.text or ""
        if joined is None:
            return self._check_tokens(self.encode_choice(text, field), self._scored, field)
        whole = joined + (text if self._protecting is None else self._protecting.protect(text))
        self._check_length(request_input, whole)
        tokens = self._encode_rendered(request_input, whole)[prompt:]
        if not tokens:
            raise InvalidRequest(
                f"{field} adds no token to those of the prompt, because its first characters merge "
                "with the prompt's last token: move white space from the prompt's end to it",
                field=field,
            )
        return self._check_tokens(tokens, self._scored, field)

    def read_count(self, request: CountRequest) -> list[int]:
        """The tokens of an input that is only counted. It may be longer than the context."""
        return self.read(request.input, _parse(request.template_arguments_json), request.tools)

    def read(
        self,
        request_input: Input,
        arguments: Mapping[str, Any] = _NO_ARGUMENTS,
        tools: Sequence[Tool] = (),
    ) -> list[int]:
        """The input's tokens, at least one.

        arguments: of the chat template. Raises InvalidRequest, ContextTooLong and
        Unsupported.
        """
        field = _field(request_input)
        if isinstance(request_input, RawPrompt) and request_input.token_ids is not None:
            self._check_template_use(arguments, tools, field)
            return self._check_tokens([*request_input.token_ids], self.embedded, field)
        text = self._render(request_input, arguments, tools)
        self._check_length(request_input, text)
        return self._check_tokens(self._encode_rendered(request_input, text), self.embedded, field)

    def encode_choice(self, text: str, field: str = "constraint.choices") -> list[int]:
        """The tokens with which a completion that is this text is written.

        Raises InvalidRequest with `field` if the vocabulary cannot write it.
        """
        encode = self._encode_short if len(text) <= _MAX_CACHED else self._encode_completion
        tokens = encode(text)
        if tokens is None:
            raise make_unusable_error(field, f"the vocabulary of {self.name} cannot write {text!r}")
        return [*tokens]

    def _encode_completion(self, text: str) -> list[int] | None:
        if self._writing is None:
            return self.encoder.encode(text, add_special_tokens=False)
        try:
            return self._writing.encode(text)
        except UnwritableError:
            return None

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

    def _render(
        self, request_input: Input, arguments: Mapping[str, Any], tools: Sequence[Tool]
    ) -> str:
        """The text that the model reads; control tokens in texts of messages are marked."""
        field = _field(request_input)
        if isinstance(request_input, RawPrompt):
            self._check_template_use(arguments, tools, field)
            return request_input.text or ""
        if self.template is None:
            self._check_template_use(arguments, tools, field)
            if isinstance(request_input, str):
                return request_input
            raise Unsupported(
                f"{self.name} is a base model without a chat template: send a prompt, which it "
                "continues",
                field=field,
            )
        if isinstance(request_input, str):
            request_input = Conversation((Message("user", request_input),))
        if tools and not self.template.reads_tools:
            raise Unsupported(
                f"the chat template of {self.name} does not show tools: leave them out, or "
                "describe them in a message",
                field="tools",
            )
        return self.template.render(request_input, field, arguments, tools, self._protecting)

    def _check_template_use(
        self, arguments: Mapping[str, Any], tools: Sequence[Tool], field: str
    ) -> None:
        """Refuse what only a chat template reads, for an input without one."""
        for name, given in (("template_arguments_json", arguments), ("tools", tools)):
            if given:
                raise Unsupported(
                    f"{name} needs a chat template, but {field} of {self.name} is read without "
                    f"one: leave {name} out",
                    field=name,
                )

    def _encode_rendered(self, request_input: Input, text: str) -> list[int]:
        """The tokens of a text of _render."""
        special: bool | None = None  # the tokenizer's default
        if isinstance(request_input, RawPrompt):
            special = request_input.add_special_tokens
        elif self.template is not None:
            special = False  # the template writes them
        try:
            return self.encoder.encode(text, add_special_tokens=special)
        except ControlTokenError as error:
            field = _field(request_input)
            raise InvalidRequest(
                f"{field} has the name of a special token, and the tokenizer of {self.name} cannot "
                "read it as text: remove it, or set allow_special_tokens in the model's entry",
                field=field,
            ) from error

    def _check_length(self, request_input: Input, text: str) -> None:
        """Refuse a text that cannot fit, without tokenizing megabytes of it.

        Shorter texts are tokenized, because a tokenizer may write much white space, or many
        unknown characters, as one token.
        """
        size = len(self.encoder.restore(text).encode())
        least = size // self._longest
        if size > _ALWAYS_TOKENIZED and least > self.context_length:
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


def _parse(arguments: str) -> dict[str, Any]:
    """The arguments of a chat template, which are a JSON object, or empty."""
    parsed: dict[str, Any] = json.loads(arguments or "{}")
    return parsed


def _field(request_input: Input) -> str:
    """The name of an input's field, for errors."""
    match request_input:
        case str():
            return "prompt"
        case Conversation():
            return "conversation"
        case RawPrompt():
            return "raw.text" if request_input.token_ids is None else "raw.token_ids"

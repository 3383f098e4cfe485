"""From a request's input to the model's tokens."""

from __future__ import annotations

from jinja2 import TemplateError

from arena_llm.types import Choices, GenerationRequest, Input, Message, ScoringRequest
from services.common.errors import ContextTooLong, InvalidRequest
from services.hf.loading import LoadedModel
from services.hf.sampling import TokenSampler
from services.hf.scoring import ScoringJob, ScoringSink
from services.hf.sequence import Sequence, Sink
from services.hf.text import TextStream


def prepare(
    model: LoadedModel, request: GenerationRequest, default_max_tokens: int, sink: Sink
) -> Sequence:
    """The request as the engine takes it.

    Raises InvalidRequest and ContextTooLong; nothing is ever truncated.
    """
    tokens = _tokens(model, request.input)
    constraint, sampling = request.constraint, request.sampling
    if isinstance(constraint, Choices):
        _check_choices(model, constraint, request)
        # Bytes bound tokens: a choice always ends of itself.
        wanted = max(len(value.encode()) for value in constraint.values)
        _check_context(model, request.input, tokens, wanted, "constraint.choices")
    else:
        room = model.context_length - (0 if model.encoder_decoder else len(tokens))
        wanted = sampling.max_tokens or max(1, min(default_max_tokens, room))
        _check_context(model, request.input, tokens, wanted, "config.max_tokens")
    matcher = None if constraint is None else model.grammars.compile(constraint)
    return Sequence(
        model=model.name,
        prompt=tokens,
        max_tokens=wanted,
        eos=model.eos,
        vocabulary=model.vocabulary,
        sampler=TokenSampler(sampling, matcher),
        text=TextStream(sampling.stop, strip_space=model.vocabulary.spaced and matcher is None),
        sink=sink,
    )


def prepare_scoring(model: LoadedModel, request: ScoringRequest, sink: ScoringSink) -> ScoringJob:
    """The request as the engine takes it. Raises InvalidRequest and ContextTooLong."""
    tokens = _tokens(model, request.input)
    continuations = [_encoded(model, text) for text in request.continuations]
    for index, continuation in enumerate(continuations):
        if not continuation:
            field = f"continuations[{index}]"
            raise InvalidRequest(f"{field} has no token in this model's vocabulary", field=field)
        if max(continuation) >= model.tokens:
            raise InvalidRequest(f"{field} has a token without an embedding", field=field)
    _check_context(model, request.input, tokens, max(map(len, continuations)), "continuations")
    return ScoringJob(tokens, continuations, sink)


def _tokens(model: LoadedModel, given: Input) -> list[int]:
    ids = _read(model, given)
    if any(token >= model.tokens for token in ids):  # would fail the others of its batch as well
        field = _input_field(given)
        raise InvalidRequest(
            f"{field} has a token for which {model.name} has no embedding", field=field
        )
    return ids


def _read(model: LoadedModel, given: Input) -> list[int]:
    if model.chat:
        messages = (Message("user", given),) if isinstance(given, str) else given
        text = _chat_text(model, messages)
        _check_length(model, given, text)
        return _encoded(model, text)
    if not isinstance(given, str):
        raise InvalidRequest(
            f"{model.name} is a base model without a chat template: send a prompt, which it "
            "continues",
            field="conversation",
        )
    _check_length(model, given, given)
    ids: list[int] = model.tokenizer(given).input_ids
    if not ids:
        raise InvalidRequest("prompt has no token in this model's vocabulary", field="prompt")
    return ids


def _chat_text(model: LoadedModel, messages: tuple[Message, ...]) -> str:
    try:
        text: str = model.tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in messages],
            add_generation_prompt=True,
            tokenize=False,
        )
    except TemplateError as error:
        raise InvalidRequest(
            f"the chat template of {model.name} refuses this conversation: {error}",
            field="conversation",
        ) from error
    return text


def _encoded(model: LoadedModel, text: str) -> list[int]:
    ids: list[int] = model.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _input_field(given: Input) -> str:
    return "prompt" if isinstance(given, str) else "conversation"


def _check_length(model: LoadedModel, given: Input, text: str) -> None:
    """Refuse what cannot fit before megabytes of it are tokenized."""
    least = len(text.encode()) // model.vocabulary.longest
    if least > model.context_length:
        raise ContextTooLong(
            f"the prompt has at least {least} tokens, over the {model.context_length} of "
            f"{model.name}",
            field=_input_field(given),
        )


def _check_context(
    model: LoadedModel, given: Input, prompt: list[int], completion: int, cause: str
) -> None:
    """Refuse what passes the context; `cause` is the field that asks for the completion."""
    limit, source = model.context_length, _input_field(given)
    if model.encoder_decoder:
        too_long = max(len(prompt), completion) > limit
    else:
        too_long = len(prompt) + completion > limit
    if too_long:
        raise ContextTooLong(
            f"{len(prompt)} tokens of prompt and {completion} of completion pass the "
            f"{limit} of {model.name}: shorten {source} or {cause}",
            field=source if len(prompt) >= limit else cause,
            metadata={"prompt_tokens": str(len(prompt)), "context_length": str(limit)},
        )


def _check_choices(model: LoadedModel, choices: Choices, request: GenerationRequest) -> None:
    """Refuse parameters under which a choice could not come back whole."""
    sampling = request.sampling
    for value in choices.values:
        if any(stop in value for stop in sampling.stop):
            raise InvalidRequest(f"config.stop would cut the choice {value!r}", field="config.stop")
        if sampling.max_tokens is None:
            continue
        needed = len(_encoded(model, value))
        if needed > sampling.max_tokens:
            raise InvalidRequest(
                f"config.max_tokens of {sampling.max_tokens} cannot hold the choice {value!r}, "
                f"which has {needed} tokens",
                field="config.max_tokens",
            )

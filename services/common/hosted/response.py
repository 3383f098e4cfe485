"""Parses answers in OpenAI's format: whole ones and the chunks of a stream.

https://platform.openai.com/docs/api-reference/chat. Providers, gateways and local servers
differ from it. A field that a completion does not need (id, model, usage) is unknown if it
cannot be read. Text is read strictly: content of an unknown kind raises UnreadableAnswer,
because the text would be incomplete without it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.common.errors import UnreadableAnswer, repair_text
from services.common.hosted.failures import Failure, find_reported, read_failure
from services.common.hosted.parts import CallPiece
from services.common.hosted.tokens import TokenRow, parse_logprobs
from services.common.hosted.usage import find_usage
from services.common.hosted.values import count, label

_TEXT = ("", "text", "output_text", "text_delta", "input_text", "message")
_REASONING = ("thinking", "reasoning", "redacted_thinking", "summary_text")
_TOOLS = ("tool_use", "tool_call", "function_call", "function")
#: Content other than text. A completion has no part for it.
_MEDIA = (
    *("image", "audio", "video", "file", "document", "citation", "tool_result", "web_search"),
    "server_tool_use",
)

_MAX_DEPTH = 8
_CANNOT = "the provider's answer cannot be read"


@dataclass(slots=True)
class ProviderMessage:
    """A message, or the next piece of a streamed one.

    calls: tool calls, or pieces of them. details: objects of OpenRouter's `reasoning_details`.
    media: kinds of content that a completion has no part for.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[CallPiece] = field(default_factory=list)
    details: list[dict[str, Any]] = field(default_factory=list)
    media: list[str] = field(default_factory=list)


@dataclass(slots=True)  # one for each chunk of a stream: frozen ones take longer to make
class ProviderChoice:
    """One choice. We request one, but some providers send several.

    source: the choice as the provider sent it. whole: True if its text is in `message`, as in an
    answer that is not streamed. finish: its finish_reason, "" if it has none yet; native_finish:
    that of the provider behind a gateway. logprobs: None if it has none or they cannot be read.
    error: its field of that name.
    """

    source: dict[str, Any]
    message: ProviderMessage | None
    whole: bool
    finish: str
    native_finish: str
    logprobs: tuple[TokenRow, ...] | None
    error: Any


@dataclass(slots=True)
class ProviderAnswer:
    """A whole answer or a chunk.

    provider: the provider behind a gateway. fingerprint: of its system. usage: not parsed yet;
    None if it has none. error: what reports an error, not parsed yet; None if nothing does.
    """

    id: str
    model: str
    provider: str
    fingerprint: str
    choice: ProviderChoice | None
    usage: Any
    error: Any


def parse_answer(value: Any, index: int | None = None) -> ProviderAnswer:
    """Parse a JSON value. A list of one object is taken as that object.

    index: of the choice to read; None: the lowest one.
    Raises UnreadableAnswer, and ValueError for a value that is not an object.
    """
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    error = find_reported(value)
    try:
        choice = _find_choice(value.get("choices"), index)
    except UnreadableAnswer:
        if error is None:
            raise
        choice = None
    return ProviderAnswer(
        id=label(value.get("id")),
        model=label(value.get("model")),
        provider=_word(value.get("provider")),
        fingerprint=_word(value.get("system_fingerprint")),
        choice=None if choice is None else _parse_choice(choice),
        usage=find_usage(value),
        error=error,
    )


def find_failure(answer: ProviderAnswer) -> Failure | None:
    """Find the error that an answer holds, with or without a completion beside it."""
    if (failure := read_failure(answer.error)) is not None or answer.choice is None:
        return failure
    if (failure := read_failure(answer.choice.error)) is not None:
        return failure
    if answer.choice.finish == "error":
        return Failure("the model's provider failed")
    return None


class ChunkReader:
    """Parses the chunks of one stream, and follows only the choice that comes first."""

    def __init__(self) -> None:
        self._deltas = False
        self._index: int | None = None

    def parse(self, value: Any) -> ProviderAnswer:
        """Parse the next chunk. Its message is a piece of text. Raises UnreadableAnswer."""
        answer = parse_answer(value, self._index)
        choice = answer.choice
        if choice is None:
            return answer
        if self._index is None:
            self._index = count(choice.source.get("index")) or 0
        if choice.message is None:
            return answer
        if choice.whole and self._deltas:
            # Some servers end their stream with the whole message, which has already come.
            return replace(answer, choice=replace(choice, message=None, logprobs=None))
        message = choice.message
        self._deltas |= not choice.whole and bool(
            message.text or message.reasoning or message.calls or message.refusal
        )
        return answer


def find_stop(choice: ProviderChoice) -> Any:
    """Find the stop string that ended a choice; vLLM and SGLang report it, as different fields."""
    return choice.source.get("stop_reason") or choice.source.get("matched_stop")


def _find_choice(choices: Any, index: int | None) -> dict[str, Any] | None:
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
        only: dict[str, Any] = choices[0]
        if index is None or only.get("index") == index:
            return only
    if isinstance(choices, dict):
        bare = not choices.keys().isdisjoint(("message", "delta", "text"))
        choices = [choices] if bare else list(choices.values())
    if choices is not None and not isinstance(choices, list):
        raise UnreadableAnswer(f"{_CANNOT}: its choices are {_kind(choices)}")
    choices = [choice for choice in choices or () if choice is not None]
    for choice in choices:
        if not isinstance(choice, dict):
            raise UnreadableAnswer(f"{_CANNOT}: its choice is {_kind(choice)}")
    return select_choice(choices, index)


def select_choice(choices: Sequence[dict[str, Any]], index: int | None) -> dict[str, Any] | None:
    """Select the choice with this index, or with an unreadable one. None: the lowest index.

    Raises UnreadableAnswer if all choices have other indexes, because then it is uncertain
    which pieces belong to one text.
    """
    if index is None:
        return min(choices, key=lambda choice: count(choice.get("index")) or 0, default=None)
    for choice in choices:
        if count(choice.get("index")) in (index, None):
            return choice
    if choices:
        raise UnreadableAnswer(f"{_CANNOT}: its stream mixes several choices")
    return None


def _parse_choice(choice: dict[str, Any]) -> ProviderChoice:
    delta, message = choice.get("delta"), choice.get("message")
    whole = not isinstance(delta, dict) and message is not None
    content = message if whole else delta
    if content is None and "text" in choice:  # OpenAI's older completions
        content = {"content": choice["text"]}
    finish = choice.get("finish_reason")
    return ProviderChoice(
        source=choice,
        message=None if content is None else parse_message(content),
        whole=whole,
        finish=label(finish) or ("unknown" if finish else ""),
        native_finish=_word(choice.get("native_finish_reason")),
        logprobs=parse_logprobs(choice.get("logprobs")),
        error=choice.get("error"),
    )


def parse_message(value: Any) -> ProviderMessage:
    """Parse a message or a delta. Raises UnreadableAnswer for content of an unknown kind."""
    message = ProviderMessage()
    if value == []:  # PHP's JSON of an empty object
        return message
    if isinstance(value, str):
        value = {"content": value}
    if not isinstance(value, dict):
        raise UnreadableAnswer(f"{_CANNOT}: its message is {_kind(value)}")
    _add_content(value.get("content"), message, 0)
    for name in ("reasoning_content", "reasoning", "reasoning_details"):
        if not message.reasoning and (reasoning := value.get(name)):
            message.reasoning = plain_text(reasoning)
    if isinstance(details := value.get("reasoning_details"), list):
        message.details += (detail for detail in details if isinstance(detail, dict))
    if not message.refusal and (refusal := value.get("refusal")):
        message.refusal = plain_text(refusal)
    if (calls := value.get("tool_calls")) and isinstance(calls, list):
        message.calls += map(parse_call, calls)
    if (call := value.get("function_call")) and isinstance(call, dict):
        message.calls.append(parse_call(call))
    for name in ("images", "audio"):
        if (media := value.get(name)) and isinstance(media, list | dict):
            message.media.append(name)
    return message


def _add_content(value: Any, message: ProviderMessage, depth: int) -> None:
    if value is None:
        return
    if isinstance(value, str):
        message.text += value
    elif isinstance(value, list) and depth < _MAX_DEPTH:
        for part in value:
            _add_content(part, message, depth + 1)
    elif isinstance(value, dict) and depth < _MAX_DEPTH:
        _add_part(value, message, depth + 1)
    else:
        kind = "a value nested too deeply" if depth >= _MAX_DEPTH else _kind(value)
        raise UnreadableAnswer(f"{_CANNOT}: its content holds {kind} where text belongs")


def _add_part(part: dict[str, Any], message: ProviderMessage, depth: int) -> None:
    kind = part.get("type", "")
    kind = kind if isinstance(kind, str) else ""
    if kind in _REASONING or kind.startswith("reasoning"):
        message.reasoning += plain_text(part)
    elif kind == "refusal" or (not kind and "refusal" in part):
        message.refusal += plain_text(part.get("refusal"))
    elif kind in _TOOLS:
        message.calls.append(parse_call(part))
    elif kind.startswith(_MEDIA) or kind.endswith("_citation"):
        message.media.append(kind)
    elif kind in _TEXT and not part.keys().isdisjoint(("text", "content", "value")):
        for name in ("text", "content", "value"):
            _add_content(part.get(name), message, depth)
    else:
        kind = label(kind)[:40]
        raise UnreadableAnswer(f"{_CANNOT}: its content has a part of an unknown kind ({kind!r})")


def plain_text(value: Any, depth: int = 0) -> str:
    """Collect the text of an optional value, such as reasoning. Anything else is ignored."""
    if isinstance(value, str):
        return value
    if depth < _MAX_DEPTH and isinstance(value, list):
        return "".join(plain_text(part, depth + 1) for part in value)
    if depth < _MAX_DEPTH and isinstance(value, dict):
        names = ("thinking", "text", "summary", "reasoning", "refusal", "content")
        texts = (plain_text(value.get(name), depth + 1) for name in names)
        return next(filter(None, texts), "")
    return ""


def parse_call(value: Any) -> CallPiece:
    """Parse a tool call, or a piece of one. Raises UnreadableAnswer if it is not an object."""
    if not isinstance(value, dict):
        raise UnreadableAnswer(f"{_CANNOT}: its tool call is {_kind(value)}")
    function = value.get("function")
    function = function if isinstance(function, dict) else value
    arguments = function.get("arguments", function.get("input"))
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    return CallPiece(
        count(value.get("index")),
        label(value.get("id")),
        label(function.get("name")),
        arguments or "",
    )


def _word(value: Any) -> str:
    """A name that a completion can do without; "" if it cannot be read."""
    return repair_text(value) if isinstance(value, str) else ""


def _kind(value: Any) -> str:
    kinds = {bool: "a truth value", int: "a number", float: "a number", str: "text"}
    return kinds.get(type(value), "a list" if isinstance(value, list) else "an object")

"""Reads an answer in OpenAI's format: a whole one, or a chunk of a stream.

https://platform.openai.com/docs/api-reference/chat. Providers, gateways and local servers
differ from it. A field that a completion does not need (id, model, usage) is unknown if it
cannot be read. Text is read strictly: content of an unknown kind raises UnreadableAnswer,
because the text would be incomplete without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from arena_llm.types import TokenLogprob, TopLogprob, Usage
from services.common.errors import UnreadableAnswer
from services.common.hosted.values import amount, count, label, number

log = structlog.get_logger()

_TEXT = ("", "text", "output_text", "text_delta", "input_text", "message")
_REASONING = ("thinking", "reasoning", "redacted_thinking", "summary_text")
_TOOLS = ("tool_use", "tool_call", "function_call", "function", "server_tool_use")
#: Content other than text. A completion has no field for it.
_MEDIA = ("image", "audio", "video", "file", "document", "citation", "tool_result", "web_search")

_DEEPEST = 8
_CANNOT = "the provider's answer cannot be read"


@dataclass(slots=True)
class Message:
    """A message, or its next piece.

    tools: the names of the tools that it calls. media: kinds of content other than text.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tools: list[str] = field(default_factory=list)
    media: list[str] = field(default_factory=list)


@dataclass(slots=True)  # one for each chunk of a stream: frozen ones take longer to make
class Choice:
    """One choice. Only one is wanted, and some providers send others beside it.

    source: the choice itself. whole: the message is in `message`, as in an answer that is not
    streamed. finish: its finish_reason; "" if it has none yet. logprobs: None if there are
    none or they cannot be read. error: its field of that name.
    """

    source: dict[str, Any]
    message: Message | None
    whole: bool
    finish: str
    logprobs: tuple[TokenLogprob, ...] | None
    error: Any


@dataclass(slots=True)
class Answer:
    """A whole answer or a chunk. usage: unparsed; None if there is none."""

    id: str
    model: str
    choice: Choice | None
    usage: Any
    error: Any


def read_answer(value: Any, index: int | None = None) -> Answer:
    """Read a JSON value. A list of one object counts as that object.

    index: of the choice to read; None: the lowest. Raises UnreadableAnswer, and ValueError for
    a value that is no object.
    """
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    choice = _chosen(value.get("choices"), index)
    return Answer(
        id=label(value.get("id")),
        model=label(value.get("model")),
        choice=None if choice is None else _choice(choice),
        usage=_sent_usage(value),
        error=value.get("error"),
    )


class ChunkReader:
    """Reads the chunks of one stream. It keeps to the choice that it finds first."""

    def __init__(self) -> None:
        self._deltas = False
        self._index: int | None = None

    def read(self, value: Any) -> Answer:
        """Read the next chunk, whose message is the next piece. Raises UnreadableAnswer."""
        answer = read_answer(value, self._index)
        choice = answer.choice
        if choice is None:
            return answer
        if self._index is None:
            self._index = count(choice.source.get("index")) or 0
        if choice.message is None:
            return answer
        if choice.whole and self._deltas:
            # Some servers end their stream with the whole message, which has come already.
            return replace(answer, choice=replace(choice, message=None, logprobs=None))
        self._deltas |= not choice.whole and bool(choice.message.text or choice.message.reasoning)
        return answer


def _chosen(choices: Any, index: int | None) -> dict[str, Any] | None:
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
        usual: dict[str, Any] = choices[0]
        if index is None or usual.get("index") == index:
            return usual
    if isinstance(choices, dict):
        bare = not choices.keys().isdisjoint(("message", "delta", "text"))
        choices = [choices] if bare else list(choices.values())
    if choices is not None and not isinstance(choices, list):
        raise UnreadableAnswer(f"{_CANNOT}: its choices are {_kind(choices)}")
    known = [choice for choice in choices or () if choice is not None]
    for choice in known:
        if not isinstance(choice, dict):
            raise UnreadableAnswer(f"{_CANNOT}: its choice is {_kind(choice)}")
    return choose(known, index)


def choose(choices: Sequence[dict[str, Any]], index: int | None) -> dict[str, Any] | None:
    """The choice with this index, or with an index that cannot be read. None: the lowest index.

    Raises UnreadableAnswer if all choices have other indexes: what belongs to which text is
    then uncertain.
    """
    if index is None:
        return min(choices, key=lambda choice: count(choice.get("index")) or 0, default=None)
    for choice in choices:
        if count(choice.get("index")) in (index, None):
            return choice
    if choices:
        raise UnreadableAnswer(f"{_CANNOT}: its stream mixes several choices")
    return None


def _choice(choice: dict[str, Any]) -> Choice:
    delta, message = choice.get("delta"), choice.get("message")
    whole = not isinstance(delta, dict) and message is not None
    said = message if whole else delta
    if said is None and "text" in choice:  # OpenAI's older completions
        said = {"content": choice["text"]}
    finish = choice.get("finish_reason")
    return Choice(
        source=choice,
        message=None if said is None else read_message(said),
        whole=whole,
        finish=label(finish) or ("unknown" if finish else ""),
        logprobs=read_logprobs(choice.get("logprobs")),
        error=choice.get("error"),
    )


def read_message(value: Any) -> Message:
    """Read a message or a delta. Raises UnreadableAnswer for content that it does not know."""
    message = Message()
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
    if not message.refusal and (refusal := value.get("refusal")):
        message.refusal = plain_text(refusal)
    if (calls := value.get("tool_calls")) and isinstance(calls, list):
        message.tools += map(_tool_name, calls)
    if (call := value.get("function_call")) and isinstance(call, dict):
        message.tools.append(_tool_name(call))
    for name in ("images", "audio"):
        if (media := value.get(name)) and isinstance(media, list | dict):
            message.media.append(name)
    return message


def _add_content(value: Any, message: Message, depth: int) -> None:
    if value is None:
        return
    if isinstance(value, str):
        message.text += value
    elif isinstance(value, list) and depth < _DEEPEST:
        for part in value:
            _add_content(part, message, depth + 1)
    elif isinstance(value, dict) and depth < _DEEPEST:
        _add_part(value, message, depth + 1)
    else:
        kind = "what is nested too deeply" if depth >= _DEEPEST else _kind(value)
        raise UnreadableAnswer(f"{_CANNOT}: its content holds {kind} where text belongs")


def _add_part(part: dict[str, Any], message: Message, depth: int) -> None:
    kind = part.get("type", "")
    kind = kind if isinstance(kind, str) else ""
    if kind in _REASONING or kind.startswith("reasoning"):
        message.reasoning += plain_text(part)
    elif kind == "refusal" or (not kind and "refusal" in part):
        message.refusal += plain_text(part.get("refusal"))
    elif kind in _TOOLS:
        message.tools.append(_tool_name(part))
    elif kind.startswith(_MEDIA) or kind.endswith("_citation"):
        message.media.append(kind)
    elif kind in _TEXT and not part.keys().isdisjoint(("text", "content", "value")):
        for name in ("text", "content", "value"):
            _add_content(part.get(name), message, depth)
    else:
        kind = label(kind)[:40]
        raise UnreadableAnswer(f"{_CANNOT}: its content has a part of an unknown kind ({kind!r})")


def plain_text(value: Any, depth: int = 0) -> str:
    """Collect the text of an optional value, such as reasoning, and ignore all else in it."""
    if isinstance(value, str):
        return value
    if depth < _DEEPEST and isinstance(value, list):
        return "".join(plain_text(part, depth + 1) for part in value)
    if depth < _DEEPEST and isinstance(value, dict):
        names = ("thinking", "text", "summary", "reasoning", "refusal", "content")
        texts = (plain_text(value.get(name), depth + 1) for name in names)
        return next(filter(None, texts), "")
    return ""


def _tool_name(call: Any) -> str:
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call = call["function"]
    return label(call.get("name"))[:100] if isinstance(call, dict) else ""


def _kind(value: Any) -> str:
    kinds = {bool: "a truth value", int: "a number", float: "a number", str: "text"}
    return kinds.get(type(value), "a list" if isinstance(value, list) else "an object")


# --- log-probabilities ---------------------------------------------------------------


def read_logprobs(value: Any) -> tuple[TokenLogprob, ...] | None:
    """Each token with its alternatives, in natural logarithms; None where one is malformed."""
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list):
        return None
    try:
        return tuple(_token(token) for token in content)
    except ValueError:
        return None


def _token(value: Any) -> TokenLogprob:
    text, logprob = _token_logprob(value)
    top = value.get("top_logprobs") or ()
    if not isinstance(top, list | tuple):
        raise ValueError("no alternatives")
    return TokenLogprob(text, logprob, tuple(TopLogprob(*_token_logprob(one)) for one in top))


def _token_logprob(value: Any) -> tuple[str, float]:
    if not isinstance(value, dict) or not isinstance(value.get("token"), str):
        raise ValueError("no token")
    if (logprob := number(value.get("logprob"))) is None:
        raise ValueError("no number")
    return label(value["token"]), logprob


# --- usage ---------------------------------------------------------------------------


def _sent_usage(value: Mapping[str, Any]) -> Any:
    if (usage := value.get("usage")) is None and isinstance(value.get("x_groq"), dict):
        usage = value["x_groq"].get("usage")  # where Groq's streams have it
    return usage


def read_usage(sent: Any) -> Usage:
    """Tokens and cost. A count that cannot be read becomes 0, and such a cost None; the log
    names these fields."""
    if sent is None:
        return Usage()
    if not isinstance(sent, dict):
        log.warning("a provider's usage cannot be read", fields="usage")
        return Usage()
    odd: list[str] = []
    usage = Usage(
        prompt_tokens=_count(sent, "prompt_tokens", odd),
        completion_tokens=_count(sent, "completion_tokens", odd),
        reasoning_tokens=_count(sent.get("completion_tokens_details"), "reasoning_tokens", odd),
        cached_tokens=_count(sent.get("prompt_tokens_details"), "cached_tokens", odd),
        cost_usd=amount(cost) if (cost := sent.get("cost")) is not None else None,
    )
    if cost is not None and usage.cost_usd is None:
        odd.append("cost")
    if odd:
        log.warning("a provider's usage cannot be read", fields=", ".join(odd))
    return usage


def _count(values: Any, name: str, odd: list[str]) -> int:
    value = values.get(name) if isinstance(values, dict) else None
    if value is None:
        return 0
    if (found := count(value)) is None:
        odd.append(name)
    return found or 0

"""Reads the error that a provider reports, in any shape: its words, status, names and wait.

https://platform.openai.com/docs/guides/error-codes,
https://openrouter.ai/docs/api/reference/errors-and-debugging,
https://docs.anthropic.com/en/api/errors, https://ai.google.dev/gemini-api/docs/troubleshooting,
https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

from pydantic_core import from_json

from services.common.errors import repair_text
from services.common.hosted.values import load_json, number
from services.common.hosted.waits import find_wait

#: Levels of lists, objects and JSON inside strings around a provider's words.
_MAX_DEPTH = 10
#: Characters of a message. Redaction keeps fewer.
_MAX_TEXT = 4000
#: Errors of a list whose words are reported.
_MAX_ERRORS = 5

#: Fields with words and with codes, in lower case and without "_".
_TEXTS = (
    *("message", "detail", "msg", "errormessage", "errormsg", "statusmsg", "errordescription"),
    *("title", "text", "reason"),
)
_CODES = ("code", "status", "statuscode", "errorcode")
_TYPES = ("type", "errortype")
#: Fields that hold the error itself.
_INNER = ("error", "errors", "innererror", "baseresp")
#: An object is an error if it has words and no field but these.
_ABOUT_ERRORS = frozenset(
    (
        *(*_TEXTS[:-2], *_CODES, *_TYPES),
        *("object", "param", "details", "metadata", "success", "ok", "requestid", "traceid"),
        *("timestamp", "path", "instance", "name", "logref", "loc"),
    )
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a provider reports it.

    status: the HTTP status that the report names; None if it names none.
    kinds: stable error names, the most specific first. wait: the seconds that it asks for.
    """

    message: str = ""
    status: int | None = None
    kinds: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    wait: float | None = None

    def inside(self, outer: Failure) -> Failure:
        """This failure merged with the one around it, whose words, status and names come first."""
        return Failure(
            _join((outer.message, self.message), ": "),
            outer.status or self.status,
            outer.kinds + self.kinds,
            outer.metadata or self.metadata,
            self.wait if outer.wait is None else outer.wait,
        )


def read_failure(value: Any) -> Failure | None:
    """Read the error in a JSON value; None if the value is empty."""
    failure = _read(value, 0)
    return None if failure is None else replace(failure, wait=find_wait(value))


def _read(value: Any, depth: int) -> Failure | None:
    if isinstance(value, str) and (inner := _load_text(value)) is not None:
        failure = _read(inner, depth + 1)
        return failure if failure is None or failure.message else Failure(value[:_MAX_TEXT])
    if value in ("", "null", None, False) or value == {} or value == []:
        return None
    if depth >= _MAX_DEPTH:
        return Failure(_dump(value))
    if isinstance(value, list):
        found = (_read(item, depth + 1) for item in value[:_MAX_ERRORS])
        failures = [failure for failure in found if failure is not None]
        if not failures:
            return None
        return replace(failures[0], message=_join((f.message for f in failures), "; "))
    if not isinstance(value, dict):
        return Failure(value[:_MAX_TEXT] if isinstance(value, str) else _dump(value))
    return _read_object(value, depth)


def read_error_body(body: bytes, status: int, reason: str) -> Failure:
    """Read the body of a response with an error status. It may be JSON, a page, or plain text."""
    failure, words = None, ""
    try:
        failure = read_failure(_load_beginning(body))
    except ValueError:
        words = read_words(body)
    if failure is not None and failure.message:
        return failure
    words = _join((f"HTTP {status} {reason}".strip(), words), ": ")
    return replace(failure or Failure(), message=words)


def find_reported(value: dict[str, Any]) -> Any:
    """Find the error in an answer with HTTP 200: in a field, or the whole answer if it is only an
    error. None if there is none."""
    has_content = any(value.get(name) for name in ("choices", "candidates", "content"))
    for name in ("error", "errors"):
        error = value.get(name)
        if error is None or error is True or (failure := _read(error, 0)) is None:
            continue
        if not has_content or _says_something(error, failure):
            return value
    if value.get("choices"):
        return None
    state = value.get("base_resp")
    if isinstance(state, dict) and number(state.get("status_code")):
        return value
    fields = _fields(value)
    if fields.keys() <= _ABOUT_ERRORS and any(_read_words(fields.get(n), 0) for n in _TEXTS):
        return value
    return value if value.get("object") == "error" else None


def _says_something(error: Any, failure: Failure) -> bool:
    """Whether an error beside a completion is real: some servers always send the field."""
    if isinstance(error, dict) and number(error.get("code")) in (0, 200):
        return False
    return bool(failure.message or failure.status or failure.kinds)


def is_whole(answer: Mapping[str, Any]) -> bool:
    """Whether an answer has a completion that has ended well, in the format of OpenAI, Anthropic
    or Gemini."""
    if answer.get("stop_reason") and answer.get("content"):
        return True
    choices = answer.get("choices") or answer.get("candidates")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return False
    finish = choice.get("finish_reason") or choice.get("finishReason")
    message = choice.get("message") or choice.get("content")
    texts = ("content", "tool_calls", "parts")
    has_content = isinstance(message, dict) and any(message.get(name) for name in texts)
    return has_content and finish not in (None, "error")


def read_words(body: bytes) -> str:
    """The words of a page or of plain text; "" for anything else."""
    text = repair_text(body.decode("utf-8-sig", "replace")).strip()
    if any(ord(char) < 32 and char not in "\t\n\r\f" for char in text[:_MAX_TEXT]):
        return ""
    if text.startswith("<"):
        page = _Page()
        with suppress(AssertionError):  # of a malformed declaration
            page.feed(text)
        text = _join(page.words, " ")
    return " ".join(text[:_MAX_TEXT].split())


class _Page(HTMLParser):
    """Collects the words of an HTML or XML page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in ("script", "style", "svg")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style", "svg") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(" ".join(data.split()))


def _read_object(value: dict[str, Any], depth: int) -> Failure:
    """Read an object, and the error inside it, which says more."""
    fields = _fields(value)
    metadata = fields.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    codes = [fields.get(name) for name in _CODES]
    numbers = (number(code) for code in codes)
    status = next((int(code) for code in numbers if code is not None and 400 <= code < 600), None)
    details = fields.get("details")
    items = details if isinstance(details, list) else ()
    reasons = (item.get("reason") for item in items if isinstance(item, dict))
    names = (metadata.get("error_type"), *reasons, *codes, *map(fields.get, _TYPES))
    kinds = tuple(name for name in names if isinstance(name, str) and number(name) is None)
    failure = Failure("", status, kinds, metadata)
    for name in _TEXTS:
        if (words := _read_words(fields.get(name), depth + 1)) is not None:
            failure = _merge(words, failure)
            break
    for name in _INNER:
        if fields.get(name) is not True:
            failure = _merge(_read(fields.get(name), depth + 1), failure)
    raw = _read(metadata.get("raw"), depth + 1)  # from the provider behind a gateway
    return failure if raw is None else raw.inside(failure)


def _read_words(value: Any, depth: int) -> Failure | None:
    """Read a field that holds words, or an error with the words. None if it holds none."""
    if isinstance(value, dict):
        fields = _fields(value)
        if "role" in fields and "content" in fields:
            return None  # a message of a completion
    if isinstance(value, str) and _load_text(value) is None:
        return Failure(value[:_MAX_TEXT]) if value and value != "null" else None
    failure = _read(value, depth)
    if failure is not None and not failure.message:
        return replace(failure, message=value if isinstance(value, str) else _dump(value))
    return failure


def _merge(inner: Failure | None, outer: Failure) -> Failure:
    if inner is None:
        return outer
    return Failure(
        _join((inner.message, outer.message), ": "),
        inner.status or outer.status,
        inner.kinds + outer.kinds,
        inner.metadata or outer.metadata,
    )


def _fields(value: dict[str, Any]) -> dict[str, Any]:
    """The fields by their names in lower case, without "_". The first of equal names counts."""
    return {str(name).lower().replace("_", ""): value[name] for name in reversed(value)}


def _join(texts: Iterable[str], mark: str) -> str:
    """Join texts, without those that another one contains."""
    kept: list[str] = []
    for text in texts:
        if not text or any(text in other for other in kept):
            continue
        kept = [other for other in kept if other not in text]
        kept.append(text)
    return mark.join(kept)[:_MAX_TEXT]


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:_MAX_TEXT] if value else ""


def _load_text(text: str) -> Any:
    """The JSON object or list inside a string; None if it is another text."""
    stripped = text.strip().removeprefix("b'")
    if stripped[:1] in ("{", "["):
        with suppress(ValueError):
            return load_json(stripped.removesuffix("'").encode(errors="replace"))
    return None


def _load_beginning(body: bytes) -> Any:
    """Parse JSON, of which the end may be missing: only the beginning of a long one is read."""
    try:
        return load_json(body)
    except ValueError:
        return from_json(body, allow_partial="trailing-strings")

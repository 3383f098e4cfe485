"""Reads the body of a request. Errors name the field in the caller's words, and show no value."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from arena_llm.suggestions import did_you_mean
from gateway.errors import ApiError
from gateway.schema.common import ApiModel

R = TypeVar("R", bound=ApiModel)

#: Characters of a field's path in an error, and in a header.
_MAX_PATH = 200
#: Unknown fields that are ignored at most. A request with more of them is refused.
_MAX_UNKNOWN = 50
#: Keys that an object of a body may have.
_MAX_KEYS = 2048
#: The end of each key. A text can contain it, too.
_KEY_END = re.compile(rb'"\s*:')


def parse_request(kind: type[R], body: bytes, drop_unknown: bool) -> tuple[R, list[str]]:
    """Return the request, and the paths of unknown fields that were ignored.

    Raises ApiError for JSON that is broken, and for fields that are wrong or unknown.
    """
    _check_keys(body)
    try:
        return kind.model_validate_json(body), []
    except ValidationError as error:
        problems = _list_problems(error)
    value = _load(body)
    ignored: list[str] = []
    while True:
        unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
        if not drop_unknown or not unknown or len(ignored) + len(unknown) > _MAX_UNKNOWN:
            raise _make_error(_choose(problems, value), value, kind)
        ignored += [_remove(_find(problem, value), value) for problem in unknown]
        try:
            # From JSON again: strict mode then accepts the types of JSON.
            return kind.model_validate_json(to_json(value)), ignored
        except ValidationError as error:
            problems = _list_problems(error)


def _list_problems(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _load(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError as error:
        problem = f"the body is not JSON: {str(error)[:_MAX_PATH]}"
        raise ApiError(400, problem, code="bad_json") from None


def _check_keys(body: bytes) -> None:
    """Refuse an object that repeats a key, because only the last one would count.

    Also refuse one with very many keys, because each unknown key would become an error.
    """
    count = 0
    waiting = [_load(body)]
    while waiting:
        match waiting.pop():
            case dict() as mapping:
                if len(mapping) > _MAX_KEYS:
                    problem = f"an object of the body has more than {_MAX_KEYS} keys"
                    raise ApiError(400, problem, code="invalid_value")
                count += len(mapping)
                waiting += mapping.values()
            case list() as items if items and isinstance(items[0], dict | list):
                waiting += items
    # Only if there are more ends than keys, a key may be repeated. A slower parser sees all keys.
    if len(_KEY_END.findall(body)) > count:
        with suppress(ValueError):
            json.loads(body, object_pairs_hook=_check_object)


def _check_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        key = next(key for key in counts if counts[key] > 1)[:_MAX_PATH]
        problem = f"an object of the body has the key {key!r} several times"
        raise ApiError(400, problem, code="invalid_value", param=key)
    return found


def _choose(problems: list[ErrorDetails], value: Any) -> ErrorDetails:
    """Return the deepest problem. For a union there is a problem of each alternative."""
    return max(problems, key=lambda problem: len(_find(problem, value)))


Places = tuple[str | int, ...]


def _find(problem: ErrorDetails, value: Any) -> Places:
    """Return where a problem is in a body.

    pydantic's places include the names of a union's alternatives, and such a name may also be a
    key. Of all readings, those that end at the last place take precedence, then the longest.
    """
    is_missing = problem["type"] == "missing"

    def read(places: Places, value: Any) -> tuple[bool, Places]:
        if not places:
            return False, ()
        place, rest = places[0], places[1:]
        ways = [read(rest, value)]  # the name of an alternative
        is_index = isinstance(value, list) and isinstance(place, int) and place < len(value)
        if is_index or (isinstance(value, dict) and place in value):
            ends, found = read(rest, value[place])
            ways.append((ends or not rest, (place, *found)))
        elif is_missing and not rest:
            ways.append((True, (place,)))
        return max(ways, key=lambda way: (way[0], len(way[1])))

    return read(problem["loc"], value)[1]


def _remove(places: Places, value: Any) -> str:
    """Take a field out of a body, and return its path."""
    for place in places[:-1]:
        value = value[place]
    value.pop(places[-1], None)  # a union may name it twice
    return _format(places)


def _format(places: Places) -> str:
    parts = [f"[{place}]" if isinstance(place, int) else f".{place}" for place in places]
    return "".join(parts).lstrip(".")[:_MAX_PATH]


def _make_error(problem: ErrorDetails, value: Any, kind: type[ApiModel]) -> ApiError:
    path = _format(_find(problem, value))
    match problem["type"]:
        case "extra_forbidden":
            hint = did_you_mean(path, list(kind.model_fields), most=1)
            code, text = "unknown_parameter", f"unknown parameter: {path!r}{hint}"
        case "missing":
            code, text = "missing_required_parameter", f"missing required parameter: {path!r}"
        case _:
            code, text = "invalid_value", f"{path or 'the body'}: {problem['msg'][:_MAX_PATH]}"
    return ApiError(400, text, code=code, param=path or None)

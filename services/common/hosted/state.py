"""The opaque state of parts: what a provider must see again, unchanged, in the next request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from arena_llm.types import ProviderState
from services.common.content import MAX_STATE_BYTES
from services.common.errors import InvalidRequest, StateMismatch, UnreadableAnswer


def make_state(value: Mapping[str, Any], origin: str) -> ProviderState | None:
    """The state that holds a JSON object; None for an empty one.

    Raises UnreadableAnswer for a state that no request could send back.
    """
    if not value:
        return None
    data = json.dumps(value, separators=(",", ":")).encode()
    if len(data) > MAX_STATE_BYTES:
        raise UnreadableAnswer(
            f"the provider's answer has a state of {len(data)} bytes; {MAX_STATE_BYTES} can be kept"
        )
    return ProviderState(data, origin)


def read_state(state: ProviderState | None, origin: str, field: str) -> dict[str, Any]:
    """The JSON object in a state; empty for no state.

    origin: of the accepted states: its prefix, or "PREFIX*SUFFIX".
    Raises StateMismatch for a state of another origin.
    """
    if state is None:
        return {}
    beginning, _, end = origin.partition("*")
    if not state.origin.startswith(beginning) or not state.origin.endswith(end):
        raise make_mismatch(state.origin, origin, field)
    try:
        value = json.loads(state.data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise make_forgery(field)
    return value


def pick_list(state: Mapping[str, Any], name: str, kind: type, field: str) -> list[Any]:
    """The list that a state has under a name; empty if it has none.

    Raises InvalidRequest if it is not a list of values of this kind.
    """
    values = state.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise make_forgery(field)
    return values


def make_forgery(field: str) -> InvalidRequest:
    """The error for a state that this service did not make."""
    return InvalidRequest(f"{field} is not a state that this service made", field=field)


def make_mismatch(origin: str, reader: str, field: str) -> StateMismatch:
    """The error for a state of another origin. reader: what should have read it."""
    return StateMismatch(
        f"{field}: this state was made by {origin[:200] or 'an unknown model'}, and {reader} "
        "cannot read it. Send the message without its state (Message.without_state in the "
        "Python client)",
        field=field,
        metadata={"origin": origin[:200]},
    )

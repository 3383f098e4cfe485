"""Requests and replies as JSON: equal ones give equal strings."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from arena.agents.calls import ModelCall, ModelReply


def canonical(value: Any, *, allow_nan: bool = True) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=allow_nan)


# By hand, not by asdict, which copies deeply: this is a part of what every move costs.


def request_to_json(call: ModelCall) -> str:
    """All that the model is asked; how long it may take is no part of that."""
    sampling = {name: value for name, value in call.sampling.items() if name != "timeout"}
    return canonical(
        {
            "model": call.model,
            "messages": call.messages,
            "sampling": sampling,
            "choices": call.choices,
            "continuations": call.continuations,
        }
    )


def reply_to_json(reply: ModelReply) -> str:
    return canonical({name: getattr(reply, name) for name in ModelReply.__slots__})


_REPLY = TypeAdapter(ModelReply)


def reply_from_json(text: str) -> ModelReply:
    """Raises pydantic's ValidationError where it is not a reply."""
    return _REPLY.validate_json(text, strict=True)

"""Each field of a request alone: a model lists it and honours it, or refuses it by its name."""

from __future__ import annotations

from typing import Any

from arena_llm import ArenaError, AsyncClient, Message
from arena_llm.types import (
    PARAMETERS,
    Conversation,
    Image,
    ImageDetail,
    ProviderRouting,
    RawPrompt,
    Refusal,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from services.common.fields import ALWAYS_HONOURED, PATHS
from services.common.hosted.request import CHAT_PARAMETERS
from tests.support.upstreams.openrouter import listing
from tests.support.upstreams.server import Reply
from tests.unit.hosted.conftest import Provider, Start
from tests.unit.hosted.test_generate import LOGPROBS, sample

ASK = Message("user", "hi")
TOOLS = {"tools": [Tool("move")]}
PART = "conversation.messages.parts"

#: A request that sets little more than one field, by its path.
SAMPLES: dict[str, dict[str, Any]] = {
    "constraint.choices": {"choices": ["ok"]},
    "constraint.json_schema": {"json_schema": {"type": "object"}},
    "constraint.json_object": {"json_object": True},
    "constraint.regex": {"regex": "o"},
    "tools": TOOLS,
    "tools.strict": {"tools": [Tool("move", strict=True)]},
    "tool_choice.mode": {**TOOLS, "tool_choice": ToolChoice(ToolMode.AUTO)},
    "tool_choice.names": {**TOOLS, "tool_choice": ToolChoice(ToolMode.REQUIRED, ("move",))},
    "tool_choice.allow_parallel": {**TOOLS, "tool_choice": ToolChoice(allow_parallel=True)},
    "reasoning.effort": {"reasoning_effort": "low"},
    "reasoning.budget_tokens": {"reasoning_budget_tokens": 2000, "max_tokens": 4000},
    "reasoning.visibility": {"reasoning_visibility": "hidden"},
    "returns.token_ids": {"token_ids": True},
    "returns.raw_text": {"raw_text": True},
    "routing.providers": {"routing": ProviderRouting(("one",))},
    "template_arguments_json": {"template_arguments": {"a": 1}},
    "raw.text": {"messages": None, "raw": RawPrompt("x")},
    f"{PART}.image.data": {"messages": [Message("user", Image(b"x", "image/png"))]},
    f"{PART}.image.url": {"messages": [Message("user", Image(url="https://a.example/b.png"))]},
    f"{PART}.image.detail": {
        "messages": [Message("user", Image(b"x", "image/png", detail=ImageDetail.LOW))]
    },
    f"{PART}.refusal": {"messages": [ASK, Message("assistant", Refusal("no")), ASK]},
    f"{PART}.tool_call": {
        **TOOLS,
        "messages": [
            ASK,
            Message("assistant", ToolCall("c", "move", "{}")),
            Message("tool", ToolResult("c", "ok")),
        ],
    },
    "conversation.continue_last_message": {
        "messages": Conversation((ASK, Message("assistant", "I ")), continue_last_message=True)
    },
}
for _name, _parameter in PARAMETERS.items():
    if _parameter.path.startswith("config.") or _name == "top_logprobs":
        SAMPLES[_parameter.path] = {_name: sample(_parameter)}

REPLIES = {
    "constraint.json_schema": Reply("{}"),
    "constraint.json_object": Reply("{}"),
    "returns.top_logprobs": LOGPROBS,
}


async def test_each_field_is_honoured_or_refused(
    start: Start, upstream: Any, provider: Provider
) -> None:
    if provider.service == "openrouter":
        parameters = ["tools", "tool_choice", "parallel_tool_calls", "reasoning", "min_p"]
        names = [n for p in CHAT_PARAMETERS.values() for n in p.names]
        model = listing("a/plain", *parameters, *names)
        upstream.models = [{**model, "architecture": {"input_modalities": ["text", "image"]}}]
    async with start() as llm:
        (listed,) = await llm.list_models()
        fields = set(listed.supported_fields)
        assert fields >= ALWAYS_HONOURED
        assert fields <= PATHS
        wrong = {}
        for path, options in SAMPLES.items():
            upstream.default = REPLIES.get(path, Reply())
            refused = await refusal(llm, provider.model, options)
            vague = provider.service == "openrouter" and path.startswith("conversation.continue")
            if (path in fields) == bool(refused) and not vague:
                wrong[path] = refused or "accepted"
            elif refused and strip(refused) != path:
                wrong[path] = refused
        assert not wrong


async def refusal(llm: AsyncClient, model: str, options: dict[str, Any]) -> str:
    """The field that the call is refused with; empty if it is accepted."""
    options = {"messages": [ASK], **options}
    raw = options.pop("raw", None)
    try:
        if raw is not None:
            await llm.generate(model, raw)
        else:
            await llm.generate(model, **options)
    except ArenaError as error:
        return error.field if error.reason == "UNSUPPORTED" else str(error)
    return ""


def strip(field: str) -> str:
    """A field without the indices of lists."""
    while "[" in field:
        before, _, rest = field.partition("[")
        field = before + rest.partition("]")[2]
    return field

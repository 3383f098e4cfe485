"""A request for each field of the contract that a backend honours or refuses."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from arena_llm.v1 import content_pb2, generate_pb2

PROMPT = "The board is empty. Choose a move: north, south or 3. Then say why, in one sentence."


class FieldExample(NamedTuple):
    """A request that sets one field.

    fields: what the request has beside the model; without an input, the prompt is added.
    name: the field as an error names it, with the indices of lists; empty: the path.
    needs: paths of other fields that the request sets, because the field needs them.
    """

    fields: Mapping[str, Any]
    name: str = ""
    needs: tuple[str, ...] = ()


def make_png(size: int = 16) -> bytes:
    """Return the file of a red square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = (b"\x00" + b"\xff\x00\x00" * size) * size
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _config(name: str, value: Any) -> FieldExample:
    return FieldExample({"config": {name: value}})


def _constraint(name: str, value: Any) -> FieldExample:
    return FieldExample({"constraint": {name: value}})


def _returns(name: str, value: Any, *needs: str) -> FieldExample:
    more = {"top_logprobs": 1} if needs else {}
    return FieldExample({"returns": {name: value, **more}}, needs=needs)


def _part(kind: str, value: Any, inner: str = "", *, role: int = content_pb2.ROLE_USER) -> Any:
    """Return a request with one more part, after a text or before the user's last message."""
    suffix = f".{inner}" if inner else ""
    text = {"text": PROMPT}
    if role == content_pb2.ROLE_USER:
        messages = [{"role": role, "parts": [text, {kind: value}]}]
        place = "conversation.messages[0].parts[1]"
    else:
        question = {"role": content_pb2.ROLE_USER, "parts": [text]}
        messages = [question, {"role": role, "parts": [{"text": "hm"}, {kind: value}]}, question]
        place = "conversation.messages[1].parts[1]"
    return FieldExample({"conversation": {"messages": messages}}, f"{place}.{kind}{suffix}")


_TOOL = {
    "name": "move",
    "description": "Makes a move.",
    "parameters_json_schema": '{"type": "object", "properties": {"to": {"type": "string"}}, '
    '"required": ["to"], "additionalProperties": false}',
}
_CALL = {"id": "call_1", "name": "move", "arguments": '{"to": "north"}'}
_PARTS = "conversation.messages.parts"
_IMAGE = {"data": make_png(), "media_type": "image/png"}
_USER, _ASSISTANT, _TOOL_ROLE = (
    content_pb2.ROLE_USER,
    content_pb2.ROLE_ASSISTANT,
    content_pb2.ROLE_TOOL,
)


def _calls(*results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a conversation with a tool call and its results."""
    talk = [
        {"role": _USER, "parts": [{"text": PROMPT}]},
        {"role": _ASSISTANT, "parts": [{"tool_call": _CALL}]},
    ]
    if results:
        talk.append({"role": _TOOL_ROLE, "parts": list(results)})
    return [*talk, {"role": _USER, "parts": [{"text": "Go on."}]}]


#: Every path of services.common.fields.PATHS except those that every backend honours.
EXAMPLES: Mapping[str, FieldExample] = {
    "fallback_models.names": FieldExample({"fallback_models": {"names": ["hf_another"]}}),
    "config.temperature": _config("temperature", 0.5),
    "config.top_p": _config("top_p", 0.5),
    "config.top_k": _config("top_k", 3),
    "config.max_tokens": _config("max_tokens", 3),
    "config.seed": _config("seed", 7),
    "config.stop": _config("stop", ["a", "e", "o", " "]),
    "config.presence_penalty": _config("presence_penalty", 0.5),
    "config.frequency_penalty": _config("frequency_penalty", 0.5),
    "config.min_p": _config("min_p", 0.1),
    "config.repetition_penalty": _config("repetition_penalty", 1.1),
    "config.min_tokens": _config("min_tokens", 2),
    "config.stop_token_ids": _config("stop_token_ids", [5]),
    "config.ignore_eos": _config("ignore_eos", True),
    "config.logit_bias": _config("logit_bias", {5: -100}),
    "constraint.choices": _constraint("choices", {"values": ["north", "south-west", "3"]}),
    "constraint.json_schema": _constraint(
        "json_schema",
        {
            "schema": '{"type": "object", "properties": {"move": {"enum": ["a", "b"]}}, '
            '"required": ["move"], "additionalProperties": false}'
        },
    ),
    "constraint.regex": _constraint("regex", {"pattern": "[ab]{2}"}),
    "constraint.grammar": _constraint(
        "grammar", {"syntax": generate_pb2.GRAMMAR_SYNTAX_LARK, "text": 'start: "a" | "b"'}
    ),
    "constraint.json_object": _constraint("json_object", {}),
    "reasoning.effort": FieldExample({"reasoning": {"effort": generate_pb2.REASONING_EFFORT_LOW}}),
    "reasoning.budget_tokens": FieldExample({"reasoning": {"budget_tokens": 16}}),
    "reasoning.visibility": FieldExample(
        {"reasoning": {"visibility": generate_pb2.REASONING_VISIBILITY_HIDDEN}}
    ),
    "tools": FieldExample({"tools": [_TOOL]}),
    "tools.strict": FieldExample(
        {"tools": [{**_TOOL, "strict": True}]}, "tools[0].strict", ("tools",)
    ),
    "tool_choice.mode": FieldExample(
        {"tools": [_TOOL], "tool_choice": {"mode": content_pb2.TOOL_MODE_NONE}}, needs=("tools",)
    ),
    "tool_choice.names": FieldExample(
        {
            "tools": [_TOOL],
            "tool_choice": {"mode": content_pb2.TOOL_MODE_REQUIRED, "names": ["move"]},
        },
        needs=("tools", "tool_choice.mode"),
    ),
    "tool_choice.allow_parallel": FieldExample(
        {"tools": [_TOOL], "tool_choice": {"allow_parallel": False}}, needs=("tools",)
    ),
    "returns.token_ids": _returns("token_ids", True),
    "returns.top_logprobs": _returns("top_logprobs", 2),
    "returns.logprob_kind": _returns("logprob_kind", 1, "returns.top_logprobs"),
    "returns.logprob_token_ids": _returns("logprob_token_ids", [5], "returns.top_logprobs"),
    "returns.raw_text": _returns("raw_text", True),
    "routing.providers": FieldExample({"routing": {"providers": ["one"]}}),
    "routing.allow_fallbacks": FieldExample({"routing": {"allow_fallbacks": False}}),
    "routing.precisions": FieldExample({"routing": {"precisions": ["bf16"]}}),
    "raw.text": FieldExample({"raw": {"text": PROMPT}}),
    "raw.token_ids": FieldExample({"raw": {"token_ids": {"ids": [5, 6, 7]}}}),
    "raw.add_special_tokens": FieldExample(
        {"raw": {"text": PROMPT, "add_special_tokens": False}}, needs=("raw.text",)
    ),
    "template_arguments_json": FieldExample({"template_arguments_json": '{"brief": true}'}),
    "provider_options_json": FieldExample({"provider_options_json": '{"user": "a"}'}),
    "conversation.continue_last_message": FieldExample(
        {
            "conversation": {
                "messages": [
                    {"role": _USER, "parts": [{"text": PROMPT}]},
                    {"role": _ASSISTANT, "parts": [{"text": "I move"}]},
                ],
                "continue_last_message": True,
            }
        }
    ),
    f"{_PARTS}.image.data": _part("image", _IMAGE, "data"),
    f"{_PARTS}.image.url": _part("image", {"url": "https://example.org/board.png"}, "url"),
    f"{_PARTS}.image.detail": _part(
        "image", {**_IMAGE, "detail": content_pb2.IMAGE_DETAIL_LOW}, "detail"
    )._replace(needs=(f"{_PARTS}.image.data",)),
    f"{_PARTS}.reasoning": _part("reasoning", {"text": "hm"}, role=_ASSISTANT),
    f"{_PARTS}.refusal": _part("refusal", "no", role=_ASSISTANT),
    f"{_PARTS}.state": FieldExample(
        {
            "conversation": {
                "messages": [
                    {
                        "role": _USER,
                        "parts": [
                            {"text": PROMPT, "state": {"data": b"a", "origin": "nobody"}},
                        ],
                    }
                ]
            }
        },
        "conversation.messages[0].parts[0].state",
    ),
    f"{_PARTS}.tool_call": FieldExample(
        {"tools": [_TOOL], "conversation": {"messages": _calls()}},
        "conversation.messages[1].parts[0].tool_call",
        ("tools",),
    ),
    f"{_PARTS}.tool_result": FieldExample(
        {
            "tools": [_TOOL],
            "conversation": {
                "messages": _calls(
                    {"tool_result": {"call_id": "call_1", "parts": [{"text": "done"}]}}
                )
            },
        },
        "conversation.messages[2].parts[0].tool_result",
        ("tools", f"{_PARTS}.tool_call"),
    ),
}


def make_field_request(path: str, model: str) -> generate_pb2.GenerateRequest:
    """Return the request of a field."""
    fields = dict(EXAMPLES[path].fields)
    if not {"conversation", "raw"} & fields.keys():
        fields["prompt"] = PROMPT
    return generate_pb2.GenerateRequest(model=model, **fields)


def name_field(path: str) -> str:
    """Return the field as the error of its request names it."""
    return EXAMPLES[path].name or path

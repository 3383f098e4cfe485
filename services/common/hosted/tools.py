"""Writes tools and the choice among them in OpenAI's chat completions format.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from arena_llm.types import GenerationRequest, Tool, ToolChoice, ToolMode
from services.common.errors import Unsupported

#: Body fields of tools, which provider_options cannot set.
TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")

#: What to do instead.
ADVICE = "use the request's own fields `tools` and `tool_choice`, so that the calls are returned"

_NO_ARGUMENTS = {"type": "object", "properties": {}}


def build_tools(request: GenerationRequest) -> dict[str, Any]:
    """The body fields of the request's tools and of its choice among them."""
    if not request.tools:
        return {}
    choice = request.tool_choice or ToolChoice()
    mode: Any = choice.mode and str(choice.mode)
    tools: Sequence[Tool] = request.tools
    if choice.names and choice.mode is ToolMode.REQUIRED and len(choice.names) == 1:
        mode = {"type": "function", "function": {"name": choice.names[0]}}
    elif choice.names and choice.mode is not ToolMode.NONE:
        # Few providers have a field for it. What a model does not see it cannot call.
        tools = [tool for tool in tools if tool.name in choice.names]
    fields: dict[str, Any] = {"tools": [_write_tool(tool) for tool in tools]}
    if mode is not None:
        fields["tool_choice"] = mode
    if choice.allow_parallel is not None:
        fields["parallel_tool_calls"] = choice.allow_parallel
    return fields


def _write_tool(tool: Tool) -> dict[str, Any]:
    schema = tool.parameters_json_schema
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = json.loads(schema) if schema else _NO_ARGUMENTS
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def refuse_strict_tools(request: GenerationRequest) -> None:
    """Raise Unsupported if a tool is strict, for a model that cannot promise it."""
    for index, tool in enumerate(request.tools):
        if tool.strict:
            raise Unsupported(
                f"{request.model} cannot promise arguments that fit the schema: leave strict out, "
                "and check the arguments",
                field=f"tools[{index}].strict",
            )

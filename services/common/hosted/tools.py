"""Writes tools and the choice among them in OpenAI's chat completions format.

https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
from typing import Any

from arena_llm.types import GenerationRequest, Tool, ToolChoice, ToolMode
from services.common.errors import Unsupported

#: Body fields of tools, which provider_options cannot set.
TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")

#: What to do instead.
ADVICE = "use the request's own fields `tools` and `tool_choice`, so that the calls are returned"

_NO_ARGUMENTS = {"type": "object", "properties": {}}


def build_tools(request: GenerationRequest) -> dict[str, Any]:
    """The body fields of the request's tools and of its choice among them.

    Raises Unsupported for a choice among several tools by name.
    """
    if not request.tools:
        return {}
    fields: dict[str, Any] = {"tools": [_write_tool(tool) for tool in request.tools]}
    choice = request.tool_choice
    if choice is None:
        return fields
    if choice.names:
        fields["tool_choice"] = _write_names(choice)
    elif choice.mode is not None:
        fields["tool_choice"] = str(choice.mode)
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


def _write_names(choice: ToolChoice) -> Any:
    if choice.mode is ToolMode.NONE:
        return "none"
    if len(choice.names) > 1 or choice.mode is not ToolMode.REQUIRED:
        raise Unsupported(
            "the model's provider can only be made to call one tool by its name (mode REQUIRED): "
            "leave tool_choice.names out, or send only those tools",
            field="tool_choice.names",
        )
    return {"type": "function", "function": {"name": choice.names[0]}}

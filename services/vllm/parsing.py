"""Separates reasoning, text and tool calls in a model's reply, with vLLM's parsers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser.parser_manager import ParserManager
from vllm.tool_parsers.structural_tag_registry import (
    SUPPORTED_STRUCTURAL_TAG_MODELS,
    get_model_structural_tag,
)
from vllm.tool_parsers.tool_strict_level import ToolStrictLevel
from vllm.tool_parsers.utils import get_json_schema_from_tools

from arena_llm.types import Delta, GenerationRequest, Tool, ToolCallDelta
from services.common.errors import ModelMisconfigured
from services.common.local.features import calls_tools, forces_tools, hides_reasoning
from services.common.local.template import describe_tool
from services.vllm.calls import write_calls_grammar
from services.vllm.config import VllmModel


class VllmReplyParser:
    """Separates one completion's reasoning, text and tool calls, with vLLM's parser.

    prompt: the prompt's tokens, which may begin or end the reasoning. hides: leave the reasoning
    out. in_reasoning: False once the answer may have begun; the engine enforces a constraint from
    there on.
    """

    def __init__(self, parser: Any, request: Any, prompt: list[int], *, hides: bool) -> None:
        self._parser = parser
        self._request = request
        self._prompt = prompt
        self._hides = hides
        self._reasoner = parser.reasoning_parser
        self._tokens: list[int] = []
        self.in_reasoning: bool = self._reasoner is not None and not parser.is_reasoning_end(prompt)
        self.skip_special_tokens: bool = request.skip_special_tokens

    def push(self, tokens: Sequence[int], text: str, *, final: bool) -> list[Delta]:
        """What tokens with this text add, one kind each. final: they are the last ones."""
        self._tokens.extend(tokens)
        message = self._parser.parse_delta(
            delta_text=text,
            delta_token_ids=list(tokens),
            request=self._request,
            prompt_token_ids=self._prompt,
            finished=final,
        )
        deltas: list[Delta] = []
        if message is not None:
            if message.reasoning and not self._hides:
                deltas.append(Delta(reasoning=message.reasoning))
            if message.content:
                deltas.append(Delta(text=message.content))
            deltas += (
                Delta(tool_call=_read_piece(call))
                for call in message.tool_calls or ()
                if call.function is not None
            )
        if self.in_reasoning:
            answers = any(delta.reasoning is None for delta in deltas)
            self.in_reasoning = not answers and not self._has_ended(tokens)
        return deltas

    def _has_ended(self, tokens: Sequence[int]) -> bool:
        """True if the last tokens end the reasoning."""
        if self._reasoner.engine_based_streaming:
            return bool(self._reasoner.has_engine_confirmed_reasoning_end())
        return bool(self._reasoner.is_reasoning_end_streaming(self._tokens, tokens))


def _read_piece(call: Any) -> ToolCallDelta:
    """A piece of a tool call. The first one has the name, and an id even if the parser has none."""
    name = call.function.name or ""
    id = call.id or (f"call_{secrets.token_hex(8)}" if name else "")
    return ToolCallDelta(id, name, call.function.arguments or "")


class VllmReplyParsers:
    """Makes the parsers of a model's replies.

    Raises ModelMisconfigured for a parser that vLLM does not have, or that needs tokens which the
    tokenizer does not have.
    """

    def __init__(self, entry: VllmModel, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._reasoning = self._find(entry, tokenizer, tools=False)
        self._tools = self._find(entry, tokenizer, tools=True) if entry.tool_parser else None
        self.reasons = entry.reasoning_parser is not None
        #: True if the parser reads the JSON that a forced call is written in.
        self.forces_tools = self._tools is not None and bool(
            self._adjust(self._tools, ())[0].tool_parser.supports_required_and_named
        )
        #: True if the engine can make the calls fit their schemas that the model decides to write.
        self.constrains_tools = self._make_grammar((Tool("name"),)) is not None

    def _find(self, entry: VllmModel, tokenizer: Any, *, tools: bool) -> Any:
        """vLLM's class of the parser; None for a model without one."""
        try:
            parser = ParserManager.get_parser(
                tool_parser_name=entry.tool_parser if tools else None,
                reasoning_parser_name=entry.reasoning_parser,
                enable_auto_tools=tools,
                tokenizer=tokenizer,
            )
            if parser is not None:
                self._adjust(parser, ())
        except Exception as error:  # each parser refuses a tokenizer in its own way
            key = "tool_parser" if tools else "reasoning_parser"
            raise ModelMisconfigured(
                f"{entry.name}: {key} {getattr(entry, key)!r} cannot be used: {error}"
            ) from error
        return parser

    def _adjust(
        self, parser: Any, tools: Sequence[Tool], *, forced: bool = False
    ) -> tuple[Any, Any]:
        """A parser, and the OpenAI request whose flags it reads. Its messages are not used."""
        described = [describe_tool(tool) for tool in tools] or None
        choice = ("required" if forced else "auto") if tools else None
        request = ChatCompletionRequest(messages=[], tools=described, tool_choice=choice)
        made = parser(self._tokenizer, request.tools) if tools else parser(self._tokenizer)
        return made, made.adjust_request(request)

    def make(self, request: GenerationRequest, prompt: list[int]) -> VllmReplyParser | None:
        """A parser for one request; None if its reply can have only text.

        prompt: the prompt's tokens.
        """
        tools = request.tools if calls_tools(request) else ()
        parser = self._tools if tools else self._reasoning
        if parser is None:
            return None
        adjusted = self._adjust(parser, tools, forced=forces_tools(request))
        return VllmReplyParser(*adjusted, prompt, hides=hides_reasoning(request))

    def make_structure(self, request: GenerationRequest) -> dict[str, str] | None:
        """What the calls of the reply must fit, as an argument of StructuredOutputsParams.

        None if nothing is required of them.
        """
        if not calls_tools(request):
            return None
        names = request.tool_choice.names if request.tool_choice else ()
        allowed = [tool for tool in request.tools if not names or tool.name in names]
        if forces_tools(request):
            return {"json": make_calls_schema(allowed)}
        if names or any(tool.strict for tool in request.tools):
            return {"grammar": self._make_grammar(allowed) or ""}
        return None

    def _make_grammar(self, tools: Sequence[Tool]) -> str | None:
        """A Lark grammar of any text, in which a call that begins must fit.

        None if vLLM does not know the form of the calls, or it is more than JSON between two
        texts. vLLM's own translation into Lark lets any JSON pass.
        """
        model = None if self._tools is None else self._tools.tool_parser_cls.structural_tag_model
        if model not in SUPPORTED_STRUCTURAL_TAG_MODELS:
            return None
        tag = get_model_structural_tag(
            model=model,
            tools=_read_tools(tools),
            tool_choice="auto",
            reasoning=False,
            strict_level=ToolStrictLevel.FUNCTION,  # also the names of tools that are not strict
        )
        form = None if tag is None else tag.format
        if form is None or form.type != "triggered_tags":
            return None
        calls = []
        for part in form.tags:
            content, trigger = part.content, _find_trigger(part.begin, form.triggers)
            if content.type != "json_schema" or content.style != "json" or trigger is None:
                return None
            if not isinstance(part.end, str):
                return None
            # True is the schema of a tool that is not strict: an object of any form.
            schema = content.json_schema
            schema = schema if isinstance(schema, dict) else {"type": "object"}
            calls.append((trigger, part.begin.removeprefix(trigger), schema, part.end))
        return write_calls_grammar(calls, self._tokenizer.get_added_vocab())


def _find_trigger(begin: Any, triggers: Sequence[Any]) -> str | None:
    """The text after which a call must begin so."""
    if not isinstance(begin, str):
        return None
    return next((t for t in triggers if isinstance(t, str) and begin.startswith(t)), None)


def make_calls_schema(tools: Sequence[Tool]) -> str:
    """The JSON schema of a list of calls of these tools, at least one."""
    schema = get_json_schema_from_tools("required", _read_tools(tools))
    return json.dumps(schema)


def _read_tools(tools: Sequence[Tool]) -> Any:
    """The tools in vLLM's types, with `strict`, which templates do not get."""
    described = [describe_tool(tool) for tool in tools]
    for tool, own in zip(tools, described, strict=True):
        own["function"]["strict"] = tool.strict
    return ChatCompletionRequest(messages=[], tools=described).tools

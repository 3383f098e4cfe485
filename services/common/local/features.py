"""What models on this machine honour: the paths of request fields, and capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arena_llm.types import (
    Capability,
    GenerationRequest,
    ReasoningEffort,
    ReasoningVisibility,
    ToolChoice,
    ToolMode,
)
from services.common.errors import InvalidRequest, Unsupported
from services.common.fields import ALWAYS_HONOURED
from services.common.local.sampling import SAMPLING_DEFAULTS

_PARTS = "conversation.messages.parts"

#: Fields that only a model with a chat template reads.
_CHAT_FIELDS = frozenset(
    (
        *("conversation", "conversation.continue_last_message", "template_arguments_json"),
        *(f"{_PARTS}.{kind}" for kind in ("text", "cache", "reasoning", "refusal")),
    )
)
#: Fields of a model that calls tools.
_TOOL_FIELDS = frozenset(
    ("tools", "tools.cache", "tool_choice.mode", f"{_PARTS}.tool_call", f"{_PARTS}.tool_result")
)
#: A field of a model that can be forced to call a tool, and one whose reasoning can be limited.
TOOL_NAMES, BUDGET = "tool_choice.names", "reasoning.budget_tokens"
#: A field of a model whose calls can be forced to fit their schemas.
TOOL_STRICT = "tools.strict"
#: Images, and a field of a model that reads them.
IMAGE = f"{_PARTS}.image"
IMAGE_DATA = f"{IMAGE}.data"
_EFFORT, _VISIBILITY = "reasoning.effort", "reasoning.visibility"

#: Every field that some model on this machine honours.
LOCAL_FIELDS = (
    frozenset(
        (
            *(f"config.{name}" for name in SAMPLING_DEFAULTS),
            *("constraint.choices", "constraint.json_schema", "constraint.regex"),
            *("constraint.grammar", "constraint.json_object"),
            *("raw.text", "raw.token_ids", "raw.add_special_tokens"),
            *("returns.token_ids", "returns.top_logprobs", "returns.logprob_kind"),
            *("returns.logprob_token_ids", "returns.raw_text"),
            *(_EFFORT, _VISIBILITY),
            *_CHAT_FIELDS,
            *_TOOL_FIELDS,
        )
    )
    - ALWAYS_HONOURED
)

#: Refused field -> what a caller can do instead.
REFUSED_LOCALLY: Mapping[str, str] = {
    "fallback_models": "send the call to the router, which calls them",
    "provider_options_json": "leave it out: the model runs here, without a provider",
    "routing": "leave it out: the model runs here, without a provider",
    BUDGET: "use reasoning.effort, or config.max_tokens",
    TOOL_STRICT: "leave it out, and check the arguments",
    TOOL_NAMES: "send only the tools that may be called",
    "tool_choice.allow_parallel": "leave it out, and run only the first call",
    f"{_PARTS}.state": "leave it out: only providers make it",
    IMAGE: "the models here read text only: describe the image",
}

#: What every local engine can do with every model, so that players can switch engines.
_CAPABILITIES = (
    Capability.SCORE,
    Capability.CHOICES,
    Capability.JSON_SCHEMA,
    Capability.REGEX,
    Capability.LOGPROBS,
    Capability.SEED,
    Capability.RAW,
    Capability.TOKEN_IDS,
    Capability.COUNT_TOKENS,
)

#: A level of reasoning -> the arguments of the chat template that set it.
Efforts = Mapping[ReasoningEffort, Mapping[str, Any]]


@dataclass(frozen=True)
class Features:
    """What one model has beyond what all have.

    chat: a chat template. tools: its entry names the format of tool calls, and its template shows
    tools. forces_tools: its engine can force a call. reasoning: its entry names a parser of its
    reasoning. limits_reasoning: its engine can end the reasoning. efforts: the levels of reasoning
    that its entry describes. images: it reads images.
    """

    chat: bool = False
    tools: bool = False
    forces_tools: bool = False
    reasoning: bool = False
    limits_reasoning: bool = False
    efforts: Efforts = field(default_factory=dict)
    images: bool = False
    constrains_tools: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The paths of the request fields that the model honours."""
        missing = frozenset().union(
            () if self.chat else _CHAT_FIELDS,
            () if self.tools else _TOOL_FIELDS,
            () if self.reasoning else (_VISIBILITY,),
            () if self.efforts else (_EFFORT,),
        )
        more = frozenset().union(
            (TOOL_NAMES, TOOL_STRICT)
            if self.tools and (self.forces_tools or self.constrains_tools)
            else (),
            (BUDGET,) if self.limits_reasoning else (),
            (IMAGE_DATA,) if self.images else (),
        )
        return tuple(sorted((ALWAYS_HONOURED | LOCAL_FIELDS | more) - missing))

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """What the model can do, in broad terms."""
        return (
            *((Capability.CHAT,) if self.chat else ()),
            *_CAPABILITIES,
            *((Capability.REASONING,) if self.reasoning else ()),
            *((Capability.TOOLS,) if self.tools else ()),
            *((Capability.IMAGES,) if self.images else ()),
        )

    def check(self, model: str, request: GenerationRequest) -> None:
        """Raise Unsupported for tools or reasoning that the model does not have."""
        self.check_tools(model, request)
        reasoning = request.reasoning
        if reasoning.visibility is not None and not self.reasoning:
            raise Unsupported(
                f"the entry of {model} names no reasoning_parser, so its reasoning is part of the "
                "text: leave reasoning.visibility out",
                field=_VISIBILITY,
            )
        if reasoning.budget_tokens is not None and not self.limits_reasoning:
            raise Unsupported(
                f"the engine of {model} cannot limit its reasoning: {REFUSED_LOCALLY[BUDGET]}",
                field=BUDGET,
            )
        if reasoning.effort is not None and reasoning.effort not in self.efforts:
            levels = ", ".join(self.efforts) or "no level"
            raise Unsupported(
                f"{model} does not have the reasoning.effort {reasoning.effort}; its entry lists "
                f"in reasoning_efforts: {levels}",
                field=_EFFORT,
            )

    def check_tools(self, model: str, request: GenerationRequest) -> None:
        """Raise Unsupported for tools that the model cannot call or choose."""
        if not request.tools:
            return
        if not self.tools:
            raise Unsupported(
                f"{model} does not call tools: name its tool_parser in its entry, and use a chat "
                "template that shows tools",
                field="tools",
            )
        choice = request.tool_choice or ToolChoice()
        if choice.mode is ToolMode.REQUIRED and not self.forces_tools:
            raise Unsupported(
                f"{model} cannot be forced to call a tool: use AUTO, and ask for the call in a "
                "message",
                field="tool_choice.mode",
            )
        if choice.mode is not ToolMode.REQUIRED and not self.constrains_tools:
            self._check_unforced(request, choice)
        if request.constraint is not None:
            raise InvalidRequest(
                "tools cannot be used with a constraint, which leaves no room for a call: leave "
                "one of them out",
                field="tools",
            )

    @staticmethod
    def _check_unforced(request: GenerationRequest, choice: ToolChoice) -> None:
        """Raise Unsupported for what the model can only be held to if a call is forced."""
        if choice.names:
            raise Unsupported(
                f"{TOOL_NAMES} needs the mode REQUIRED for this model: "
                f"{REFUSED_LOCALLY[TOOL_NAMES]}",
                field=TOOL_NAMES,
            )
        for index, tool in enumerate(request.tools):
            if tool.strict:
                raise Unsupported(
                    f"{TOOL_STRICT} needs the mode REQUIRED for this model: "
                    f"{REFUSED_LOCALLY[TOOL_STRICT]}",
                    field=f"tools[{index}].strict",
                )

    def template_arguments(self, request: GenerationRequest) -> dict[str, Any]:
        """The arguments of the chat template: the request's, or those of its reasoning effort."""
        arguments = request.template_arguments
        if request.reasoning.effort is None:
            return arguments
        if arguments:
            raise InvalidRequest(
                "template_arguments_json cannot be used with reasoning.effort, which sets such "
                "arguments: leave one of them out",
                field="template_arguments_json",
            )
        return dict(self.efforts[request.reasoning.effort])


def calls_tools(request: GenerationRequest) -> bool:
    """True if the model may call tools."""
    choice = request.tool_choice
    return bool(request.tools) and (choice is None or choice.mode is not ToolMode.NONE)


def forces_tools(request: GenerationRequest) -> bool:
    """True if the model must call a tool."""
    choice = request.tool_choice
    return bool(request.tools) and choice is not None and choice.mode is ToolMode.REQUIRED


def hides_reasoning(request: GenerationRequest) -> bool:
    """True if the reply leaves the reasoning out."""
    return request.reasoning.visibility is ReasoningVisibility.HIDDEN

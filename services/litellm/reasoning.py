"""Reasoning through litellm: which levels a model has, and how they are requested.

litellm rounds levels that a model lacks to others, so this file refuses them first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arena_llm.types import GenerationRequest, ReasoningEffort, ReasoningVisibility
from services.common.errors import Unsupported

if TYPE_CHECKING:
    from services.litellm.catalogue import ProviderModel

_USUAL = (ReasoningEffort.LOW, ReasoningEffort.MEDIUM, ReasoningEffort.HIGH)
#: Levels that litellm's table lists for each model, such as supports_xhigh_reasoning_effort.
_LISTED = (
    ReasoningEffort.NONE,
    ReasoningEffort.MINIMAL,
    ReasoningEffort.XHIGH,
    ReasoningEffort.MAX,
)
#: Providers whose models only reason or do not; litellm makes no difference between levels.
_SWITCHED = ("deepseek",)
#: Providers whose API shows summaries of the reasoning, or nothing.
_NOT_RAW = ("openai", "azure")


def list_efforts(model: ProviderModel) -> tuple[ReasoningEffort, ...]:
    """The levels that a model has, as far as litellm's tables say."""
    if "reasoning_effort" not in model.parameters:
        return ()
    if model.provider in _SWITCHED:
        return (ReasoningEffort.NONE, ReasoningEffort.AUTO)
    listed = [e for e in _LISTED if model.row.get(f"supports_{e}_reasoning_effort")]
    levels = {*_USUAL, *listed}
    if model.is_claude:
        levels = levels - {ReasoningEffort.MINIMAL} | {ReasoningEffort.NONE}
        if model.row.get("supports_adaptive_thinking"):
            levels.add(ReasoningEffort.AUTO)
    if model.is_gemini and _is_gemini_2(model):
        # Budgets; one of 0 turns reasoning off, except for the largest model.
        levels |= {ReasoningEffort.MINIMAL, ReasoningEffort.AUTO}
        if "pro" not in model.model:
            levels.add(ReasoningEffort.NONE)
    elif model.is_gemini:
        levels.discard(ReasoningEffort.NONE)
        if "flash" in model.model and (
            model.row.get("supports_minimal_reasoning_effort") is not False
        ):
            levels.add(ReasoningEffort.MINIMAL)
    return tuple(effort for effort in ReasoningEffort if effort in levels)


def takes_budget(model: ProviderModel) -> bool:
    """Whether the model takes a number of reasoning tokens.

    For newer models, litellm makes a level of it, or leaves it out.
    """
    if "thinking" not in model.parameters:
        return False
    if model.is_claude:
        adaptive = model.row.get("supports_adaptive_thinking")
        return not adaptive or bool(model.row.get("supports_legacy_thinking"))
    return model.is_gemini and _is_gemini_2(model)


def _is_gemini_2(model: ProviderModel) -> bool:
    """Whether it is a Gemini model whose levels are budgets."""
    return "gemini-2" in model.model


def build_reasoning(request: GenerationRequest, model: ProviderModel) -> dict[str, Any]:
    """The arguments for reasoning; empty for the model's default.

    Raises Unsupported for a level or a budget that the model lacks.
    """
    wish = request.reasoning
    hidden = model.is_claude or model.is_gemini or model.provider in _NOT_RAW
    if wish.visibility is ReasoningVisibility.RAW and hidden:
        raise Unsupported(
            f"{model.full_name} does not show its reasoning as it was generated: use SUMMARY",
            field="reasoning.visibility",
        )
    if wish.budget_tokens is not None:
        if not takes_budget(model):
            raise Unsupported(
                f"{model.full_name} takes no number of reasoning tokens: use reasoning.effort",
                field="reasoning.budget_tokens",
            )
        return {"thinking": {"type": "enabled", "budget_tokens": wish.budget_tokens}}
    if wish.effort is None:
        return {}
    if wish.effort not in (levels := list_efforts(model)):
        known = f"it has {', '.join(levels)}" if levels else "it has no levels"
        raise Unsupported(
            f"{model.full_name} lacks the level {wish.effort} of reasoning: {known}",
            field="reasoning.effort",
        )
    if wish.effort is ReasoningEffort.AUTO:
        if model.is_gemini:
            return {"thinking": {"type": "enabled", "budget_tokens": -1}}
        if model.is_claude:
            return {"thinking": {"type": "adaptive", "display": "summarized"}}
        return {"thinking": {"type": "enabled"}}
    return {"reasoning_effort": str(wish.effort)}

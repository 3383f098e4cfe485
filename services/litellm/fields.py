"""The fields of a request that one of litellm's models honours, by litellm's tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.common.fields import ALWAYS_HONOURED
from services.common.hosted.request import CHAT_PARAMETERS, HONOURED
from services.litellm.reasoning import list_efforts, takes_budget

if TYPE_CHECKING:
    from services.litellm.catalogue import ProviderModel


def list_fields(model: ProviderModel) -> tuple[str, ...]:
    """The paths of all fields that the model honours. It refuses every other one."""
    return tuple(sorted((ALWAYS_HONOURED | HONOURED) - set(_list_refused(model))))


def _list_refused(model: ProviderModel) -> Iterator[str]:
    for name, parameter in CHAT_PARAMETERS.items():
        names = {parameter.name, parameter.other_name} if parameter.other_name else {parameter.name}
        if name not in model.entry.drop_params and names.isdisjoint(model.parameters):
            yield parameter.path
    takes = model.parameters.__contains__
    if not takes("tools"):
        yield from ("tools", "tools.strict", "tool_choice.names")
    if not model.is_strict:
        yield "tools.strict"
    if not takes("tool_choice"):
        yield "tool_choice.mode"
    if not takes("parallel_tool_calls") or model.is_gemini:
        yield "tool_choice.allow_parallel"
    if not list_efforts(model):
        yield "reasoning.effort"
    if not takes_budget(model):
        yield "reasoning.budget_tokens"
    if not model.continues:
        yield "conversation.continue_last_message"
    image = "conversation.messages.parts.image"
    if not model.sees:
        yield f"{image}.data"
    if not model.sees or model.is_gemini or not model.fetches_images:
        yield f"{image}.url"
    if not model.sees or not model.takes_detail:
        yield f"{image}.detail"

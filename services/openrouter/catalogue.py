"""OpenRouter's list of models, /models: what they can do and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from arena_llm.types import (
    Capability,
    FreePrice,
    Modality,
    Model,
    Price,
    PriceTable,
    PriceUnit,
    Rate,
    ReasoningEffort,
    UnknownPrice,
)
from services.common.fields import ALWAYS_HONOURED
from services.common.hosted.request import CHAT_PARAMETERS, HONOURED
from services.common.hosted.values import count, label, picousd
from services.openrouter.config import OpenRouterModel, remove_prefix
from services.openrouter.errors import unreadable
from services.openrouter.upstream import Cached, OpenRouterUpstream

_MAX_PAGES = 50

#: Suffixes that choose among a model's providers. /models does not list them.
_ROUTING_SUFFIXES = (":nitro", ":floor", ":online", ":exacto")

_CAPABILITIES = (
    ("structured_outputs", Capability.JSON_SCHEMA),
    ("logprobs", Capability.LOGPROBS),
    ("seed", Capability.SEED),
    ("reasoning", Capability.REASONING),
    ("tools", Capability.TOOLS),
)


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as the catalogue describes it.

    parameters, modalities: None if the server does not list them. efforts: levels of reasoning;
    empty if it does not list them. max_output: tokens of an answer, at most.
    """

    name: str
    context_length: int | None
    price: Price | None
    parameters: frozenset[str] | None
    modalities: frozenset[str] | None = None
    efforts: tuple[ReasoningEffort, ...] = ()
    max_output: int | None = None

    @property
    def sees(self) -> bool:
        """Whether it takes images. True if the server does not say."""
        return self.modalities is None or "image" in self.modalities

    @property
    def takes_schema(self) -> bool:
        """Whether it takes a JSON schema. True if the server does not say."""
        return self.parameters is None or "structured_outputs" in self.parameters

    @property
    def is_strict(self) -> bool:
        """Whether it can be made to write arguments of tools that fit their schema.

        Models that take a JSON schema can. True if the server does not say.
        """
        return self.takes_schema

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """Its capabilities. Choices always work: a model without schemas gets an instruction."""
        parameters = self.parameters or frozenset()
        others = [capability for name, capability in _CAPABILITIES if name in parameters]
        if self.modalities is not None and self.sees:
            others.append(Capability.IMAGES)
        return (Capability.CHAT, Capability.CHOICES, *others)


class OpenRouterCatalogue:
    """All models of /models, cached."""

    def __init__(self, upstream: OpenRouterUpstream, seconds: float) -> None:
        self._upstream = upstream
        self._models = Cached(self._fetch, seconds)

    async def models(self) -> Mapping[str, ListedModel]:
        """All models by OpenRouter's name, and by their permanent name. Raises BackendError."""
        return await self._models.get()

    async def find(self, name: str) -> ListedModel | None:
        """Find a model by OpenRouter's name, which may have routing suffixes and a preset.

        A preset alone is a model of which nothing is known: only the account lists it.
        """
        models = await self.models()
        name, preset = remove_preset(name), name
        if not name and preset:
            return ListedModel(preset, None, None, None)
        while name.endswith(_ROUTING_SUFFIXES):
            name = name.rpartition(":")[0]
        return models.get(name)

    async def aclose(self) -> None:
        """Stop the timers of the cache."""
        await self._models.aclose()

    async def _fetch(self) -> Mapping[str, ListedModel]:
        models: dict[str, ListedModel] = {}
        query = ""
        for _ in range(_MAX_PAGES):
            page = await self._upstream.get("models", query=query)
            for entry in _read_page(page):
                models[entry["id"]] = model = _parse_model(entry)
                if permanent := label(entry.get("canonical_slug")):
                    models.setdefault(permanent, model)
            query = _next_query(page)
            if not query:
                break
        return models


def remove_preset(name: str) -> str:
    """OpenRouter's name of a model without its preset, as in "lab/model@preset/mine"."""
    return name.partition("@preset/")[0]


def _read_page(page: dict[str, Any]) -> list[dict[str, Any]]:
    """The models of a page. Entries without a name are skipped."""
    models = page.get("data")
    if not isinstance(models, list):
        raise unreadable("the list of models has no data")
    return [m for m in models if isinstance(m, dict) and isinstance(m.get("id"), str)]


def _next_query(page: dict[str, Any]) -> str:
    """The query of the next page; "" if this is the last one."""
    links = page.get("links")
    address = links.get("next") if isinstance(links, dict) else None
    try:
        return urlsplit(address).query if isinstance(address, str) else ""
    except ValueError:
        return ""


def _parse_model(entry: dict[str, Any]) -> ListedModel:
    parameters = entry.get("supported_parameters")
    modalities = _find(entry.get("architecture"), "input_modalities")
    efforts = _find(entry.get("reasoning"), "supported_efforts")
    efforts = efforts if isinstance(efforts, list) else ()
    context_length = count(entry.get("context_length")) or None
    return ListedModel(
        name=label(entry.get("name")),
        context_length=context_length,
        price=_parse_price(entry.get("pricing")),
        parameters=frozenset(map(label, parameters)) if isinstance(parameters, list) else None,
        modalities=frozenset(map(label, modalities)) if isinstance(modalities, list) else None,
        efforts=tuple(ReasoningEffort(e) for e in ReasoningEffort if e in efforts),
        max_output=count(_find(entry.get("top_provider"), "max_completion_tokens"))
        or context_length,
    )


def _find(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _parse_price(pricing: Any) -> Price | None:
    """The rates of a model. Unknown if one for tokens cannot be read, such as "-1" for a price
    that varies."""
    if not isinstance(pricing, dict):
        return None
    known = {name: picousd(pricing.get(name)) for name in _UNITS}
    if known["prompt"] is None or known["completion"] is None:
        return UnknownPrice("OpenRouter's list has no fixed price for it")
    if not any(known.values()):
        return FreePrice()
    # A rate of 0 that is not for plain tokens means that there is no separate price.
    rates = (
        Rate(unit, rate)
        for name, unit in _UNITS.items()
        if (rate := known[name]) is not None and (rate or name in _PLAIN)
    )
    return PriceTable(tuple(rates))


#: OpenRouter's names of rates. All are in US dollars for one.
_UNITS = {
    "prompt": PriceUnit.PROMPT_TOKEN,
    "completion": PriceUnit.COMPLETION_TOKEN,
    "internal_reasoning": PriceUnit.REASONING_TOKEN,
    "input_cache_read": PriceUnit.CACHED_TOKEN,
    "input_cache_write": PriceUnit.CACHE_WRITE_TOKEN,
    "image": PriceUnit.IMAGE,
    "request": PriceUnit.REQUEST,
}
_PLAIN = ("prompt", "completion")


#: Beginnings of the names of models that continue a last message of the assistant.
CONTINUES = ("anthropic/",)


def list_fields(name: str, model: ListedModel) -> tuple[str, ...]:
    """The paths of all fields that the model honours; empty if the server does not say.

    name: OpenRouter's own name of the model.
    """
    if model.parameters is None:
        return ()
    takes = model.parameters.__contains__
    refused = {p.path for p in CHAT_PARAMETERS.values() if not any(map(takes, p.names))}
    if not takes("tools"):
        refused |= {"tools", "tools.strict", "tool_choice.names"}
    if not model.is_strict:
        refused.add("tools.strict")
    if not takes("tool_choice"):
        refused.add("tool_choice.mode")
    if not takes("parallel_tool_calls"):
        refused.add("tool_choice.allow_parallel")
    if not takes("reasoning"):
        refused |= {"reasoning.effort", "reasoning.budget_tokens"}
    if not name.startswith(CONTINUES):
        refused.add("conversation.continue_last_message")
    if not model.sees:
        image = "conversation.messages.parts.image"
        refused |= {f"{image}.data", f"{image}.url", f"{image}.detail"}
    return tuple(sorted((ALWAYS_HONOURED | HONOURED | ROUTING) - refused))


#: Fields that choose among a model's providers.
ROUTING = frozenset({"routing.providers", "routing.allow_fallbacks", "routing.precisions"})


def describe(entry: OpenRouterModel, model: ListedModel | None) -> Model:
    """A configured model, with what the catalogue says about it."""
    if model is None:
        return Model(entry.name, description=entry.description)
    return Model(
        name=entry.name,
        description=entry.description or model.name,
        context_length=model.context_length,
        input_modalities=tuple(m for m in Modality if m in (model.modalities or ())),
        capabilities=model.capabilities,
        supported_fields=list_fields(remove_prefix(entry.name), model),
        reasoning_efforts=model.efforts,
        price=model.price,
    )

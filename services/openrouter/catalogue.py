"""Which models OpenRouter has, what they can do and what they cost: /models."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from async_lru import alru_cache

from arena_llm.types import Capability, Model, Price
from services.common.hosted.values import amount, count, label
from services.openrouter.config import OpenRouterModel
from services.openrouter.upstream import Upstream, unreadable

_MAX_PAGES = 50

#: Suffixes that choose among a model's providers; /models does not list them.
_ROUTING = (":nitro", ":floor", ":online", ":exacto")

_CAPABILITIES = (
    ("structured_outputs", Capability.JSON_SCHEMA),
    ("logprobs", Capability.LOGPROBS),
    ("seed", Capability.SEED),
    ("reasoning", Capability.REASONING),
)


@dataclass(frozen=True, slots=True)
class Listing:
    """One model. parameters: None where the server does not tell."""

    name: str
    context_length: int | None
    price: Price | None
    parameters: frozenset[str] | None

    @property
    def free(self) -> bool:
        """Whether its tokens are known to cost nothing."""
        return self.price == Price(0.0, 0.0)

    @property
    def structured(self) -> bool:
        """Whether it keeps to a JSON schema; taken for granted where nobody tells."""
        return self.parameters is None or "structured_outputs" in self.parameters

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """What it can do. Choices are asked for in words where there is no schema."""
        told = self.parameters or frozenset()
        more = (capability for parameter, capability in _CAPABILITIES if parameter in told)
        return (Capability.CHAT, Capability.CHOICES, *more)


class Catalogue:
    """/models, kept for a while; one request however many ask."""

    def __init__(self, upstream: Upstream, seconds: float) -> None:
        self._upstream = upstream
        self._cached = alru_cache(maxsize=1, ttl=seconds)(self._fetch)

    async def models(self) -> Mapping[str, Listing]:
        """Every model by OpenRouter's name (and its permanent slug); raises BackendError."""
        # Shielded: who gives up waiting does not take the answer from the others.
        return await asyncio.shield(self._cached())

    async def find(self, slug: str) -> Listing | None:
        """One model, with or without a suffix that chooses its provider."""
        models = await self.models()
        base, colon, suffix = slug.rpartition(":")
        if f"{colon}{suffix}" in _ROUTING:
            slug = base
        return models.get(slug)

    async def aclose(self) -> None:
        """Stop the cache's timers."""
        await self._cached.cache_close()

    async def _fetch(self) -> Mapping[str, Listing]:
        listings: dict[str, Listing] = {}
        query = ""
        for _ in range(_MAX_PAGES):
            page = await self._upstream.get("models", query=query)
            for model in _models(page):
                listings[model["id"]] = listing = _listing(model)
                if slug := label(model.get("canonical_slug")):
                    listings.setdefault(slug, listing)
            query = _next_page(page)
            if not query:
                break
        return listings


def _models(page: dict[str, Any]) -> list[dict[str, Any]]:
    """The page's models that have a name; one that has none does not hide the others."""
    models = page.get("data")
    if not isinstance(models, list):
        raise unreadable("the list of models has no data")
    return [m for m in models if isinstance(m, dict) and isinstance(m.get("id"), str)]


def _next_page(page: dict[str, Any]) -> str:
    """The query of the next page; "" where this one is the last."""
    links = page.get("links")
    address = links.get("next") if isinstance(links, dict) else None
    try:
        return urlsplit(address).query if isinstance(address, str) else ""
    except ValueError:
        return ""


def _listing(model: dict[str, Any]) -> Listing:
    parameters = model.get("supported_parameters")
    return Listing(
        name=label(model.get("name")),
        context_length=count(model.get("context_length")) or None,
        price=_price(model.get("pricing")),
        parameters=frozenset(map(label, parameters)) if isinstance(parameters, list) else None,
    )


def _price(pricing: Any) -> Price | None:
    """US dollars per token; None where one is unknown: "-1" if it depends on the routing."""
    if not isinstance(pricing, dict):
        return None
    prompt, completion = amount(pricing.get("prompt")), amount(pricing.get("completion"))
    return None if prompt is None or completion is None else Price(prompt, completion)


def described(entry: OpenRouterModel, listing: Listing | None) -> Model:
    """A configured model, with what OpenRouter says of it."""
    if listing is None:
        return Model(entry.name, description=entry.description)
    return Model(
        name=entry.name,
        description=entry.description or listing.name,
        context_length=listing.context_length,
        capabilities=listing.capabilities,
        price=listing.price,
    )

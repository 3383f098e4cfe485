"""Which models OpenRouter has, what they can do and what they cost: /models."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from async_lru import alru_cache

from arena_llm.types import Capability, Model, Price
from services.openrouter.config import OpenRouterModel
from services.openrouter.schema import WireModel, WireModels, WirePricing
from services.openrouter.upstream import Upstream

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
            page = await self._upstream.get("models", WireModels, query=query)
            for model in page.data:
                listings[model.id] = listing = _listing(model)
                if model.canonical_slug:
                    listings.setdefault(model.canonical_slug, listing)
            query = urlsplit((page.links and page.links.next) or "").query
            if not query:
                break
        return listings


def _listing(model: WireModel) -> Listing:
    parameters = model.supported_parameters
    return Listing(
        name=model.name,
        context_length=model.context_length,
        price=_price(model.pricing),
        parameters=None if parameters is None else frozenset(parameters),
    )


def _price(pricing: WirePricing | None) -> Price | None:
    if pricing is None or pricing.prompt is None or pricing.completion is None:
        return None
    try:
        prompt, completion = float(pricing.prompt), float(pricing.completion)
    except ValueError:
        return None
    known = all(math.isfinite(price) and price >= 0 for price in (prompt, completion))
    return Price(prompt, completion) if known else None


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

"""What litellm knows of a model: provider, parameters, prices. Imports litellm."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import litellm
from litellm.types.utils import LlmProviders, all_litellm_params
from litellm.utils import ProviderConfigManager

from arena_llm.types import Capability, Price
from services.common.errors import InvalidRequest, ModelNotFound
from services.common.hosted.config import nearest
from services.litellm.config import PREFIX, LiteLlmConfig, LiteLlmModel
from services.litellm.keys import OWN_SERVERS, USUAL

#: Arguments of litellm's own, which no provider sees.
INTERNAL = frozenset(all_litellm_params)

_KEPT = 4096  # names come from callers

#: The name of an unlisted model has no "?", "#", "%", blank or backslash, which would end a
#: URL's path.
_NAME = re.compile(r"[A-Za-z0-9@_][A-Za-z0-9@_.,:/+=~-]*")

#: Providers that litellm does not call through a transport that the service controls, and
#: what to use instead.
_UNUSABLE = {
    "aiohttp_openai": "use litellm_openai/<model>",
    "petals": "it would run models in this process",
    "vllm": "it would run models in this process; use vllm_<model>",
}


@dataclass(frozen=True)
class Known:
    """One model, as litellm's tables describe it.

    full_name: with our prefix. listed: whether it is in the configuration. model: without
    the provider. parameters: those of OpenAI's API that it takes, and top_k. structured:
    whether it keeps to a JSON schema. entry: of the configuration, or an empty one.
    missing: variables to set before it can be called.
    """

    full_name: str
    listed: bool
    model: str
    provider: str
    parameters: frozenset[str]
    structured: bool
    context_length: int | None
    price: Price | None
    reasoning: bool
    entry: LiteLlmModel
    missing: tuple[str, ...] = ()

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """What it can do; a constraint without a schema is asked for in words."""
        more = (
            (self.structured, Capability.JSON_SCHEMA),
            ({"logprobs", "top_logprobs"} <= self.parameters, Capability.LOGPROBS),
            ("seed" in self.parameters, Capability.SEED),
            (self.reasoning, Capability.REASONING),
        )
        return (Capability.CHAT, Capability.CHOICES, *(kind for has, kind in more if has))

    def cost(self, usage: Any) -> float | None:
        """US dollars of litellm's Usage by its price map; None where that has no price."""
        if self.price is None or usage is None:
            return None
        prompt, completion = litellm.cost_per_token(
            model=self.model, custom_llm_provider=self.provider, usage_object=usage
        )
        return float(prompt + completion)


class Catalogue:
    """Every model that was asked for, looked up once."""

    def __init__(self, config: LiteLlmConfig) -> None:
        self._config = config
        self._known = {
            entry.name: _known(entry, listed=True) for entry in config.models if _resolves(entry)
        }

    async def find(self, name: str) -> Known:
        """A model by its full name. Raises ModelNotFound, InvalidRequest."""
        if (known := self._known.get(name)) is not None:
            return known
        entry = self._config.listed(name)
        if entry is None:
            _check_name(name)
        # In a thread, because litellm asks a local ollama what the model can do.
        known = await asyncio.to_thread(
            _known, entry or LiteLlmModel(name=name), listed=entry is not None
        )
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[name] = known
        return known


def _check_name(name: str) -> None:
    """Refuse a caller's name that could be more of a URL than a part of its path."""
    if "://" in name or ".." in name or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:200]!r}: a model's name is no URL; it has letters, digits and -_.,:/@+=~",
            field="model",
        )


def _resolves(entry: LiteLlmModel) -> bool:
    """False for a listed model whose provider litellm does not know; each call says so."""
    try:
        _provider(entry.name)
    except ModelNotFound:
        return False
    return True


def _provider(name: str) -> tuple[str, str, str | None, str | None]:
    """litellm's name of the model without provider, the provider, its key and address if found."""
    slug = name.removeprefix(PREFIX)
    try:
        found: tuple[str, str, str | None, str | None] = litellm.get_llm_provider(model=slug)
    except litellm.exceptions.BadRequestError as error:
        prefix = slug.partition("/")[0]
        known = sorted(provider.value for provider in LlmProviders)
        raise ModelNotFound(
            f"litellm knows no provider {prefix!r} (names are {PREFIX}<provider>/<model>)"
            f"{nearest(prefix, known)}",
            field="model",
        ) from error
    if (reason := _UNUSABLE.get(found[1])) is not None:
        raise ModelNotFound(
            f"litellm's provider {found[1]} cannot be used here: {reason}", field="model"
        )
    return found


def _known(entry: LiteLlmModel, *, listed: bool) -> Known:
    model, provider, key, address = _provider(entry.name)
    row = _row(model, provider)
    parameters = set(litellm.get_supported_openai_params(model, provider) or ())
    if _takes_top_k(model, provider):
        parameters.add("top_k")
    structured = entry.structured_output
    if structured is None:
        structured = "response_format" in parameters and litellm.supports_response_schema(
            model, provider
        )
    return Known(
        full_name=entry.name,
        listed=listed,
        model=model,
        provider=provider,
        parameters=frozenset(parameters),
        structured=structured,
        context_length=row.get("max_input_tokens"),
        price=_price(row),
        reasoning=bool(row.get("supports_reasoning")),
        entry=entry,
        missing=_missing(entry, provider, key, address),
    )


def _missing(
    entry: LiteLlmModel, provider: str, key: str | None, address: str | None
) -> tuple[str, ...]:
    if provider in OWN_SERVERS and entry.api_base is None and not address:
        return (f"{provider.upper()}_API_BASE",)
    if entry.key_variable is not None:
        return () if entry.key_variable in os.environ else (entry.key_variable,)
    # litellm has looked for the keys of these, under all names.
    looked_for = provider in litellm.openai_compatible_providers
    if looked_for and key:
        return ()
    missing = litellm.validate_environment(entry.name.removeprefix(PREFIX))["missing_keys"]
    if entry.api_base is not None:
        missing = [name for name in missing if not name.endswith("_API_BASE")]
    if looked_for and not missing:  # litellm's custom; it has no list of these names
        missing = [f"{provider.upper()}_API_KEY"]
    return (USUAL[provider],) if missing and provider in USUAL else tuple(missing)


def _row(model: str, provider: str) -> Mapping[str, Any]:
    """The model's row in the price map; empty where it has none."""
    for key in (f"{provider}/{model}", model):
        row: Mapping[str, Any] = litellm.model_cost.get(key, {})
        if row and (key != model or row.get("litellm_provider") == provider):
            return row
    return {}


def _price(row: Mapping[str, Any]) -> Price | None:
    prompt, completion = row.get("input_cost_per_token"), row.get("output_cost_per_token")
    if prompt is None or completion is None:
        return None
    return Price(float(prompt), float(completion))


def _takes_top_k(model: str, provider: str) -> bool:
    """OpenAI's API has no top_k: it is a field of the provider's own parameters."""
    try:
        kind = LlmProviders(provider)
    except ValueError:  # a provider of the caller's own making
        return False
    config = ProviderConfigManager.get_provider_chat_config(model=model, provider=kind)
    return any("top_k" in getattr(base, "__annotations__", {}) for base in type(config).__mro__)

"""What litellm's tables say about a model: provider, parameters, prices. Imports litellm."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import litellm
from litellm.types.utils import LlmProviders, all_litellm_params
from litellm.utils import ProviderConfigManager

from arena_llm.suggestions import did_you_mean
from arena_llm.types import Capability, FreePrice, Price, PriceTable, PriceUnit, Rate, UnknownPrice
from services.common.errors import InvalidRequest, ModelNotFound
from services.common.hosted.request import CHAT_PARAMETERS
from services.common.hosted.values import count, picousd
from services.litellm.config import PREFIX, LiteLlmConfig, LiteLlmModel
from services.litellm.providers import OWN_SERVERS, check_unlisted, check_usable

#: litellm's own arguments, which are not sent to providers.
INTERNAL = frozenset(all_litellm_params)

_PROVIDERS = frozenset(provider.value for provider in LlmProviders)

_MAX_KEPT = 4096  # names come from callers

#: An unlisted model's name may not have "?", "#", "%", blank or backslash, because those end the
#: path of a URL.
_NAME = re.compile(r"[A-Za-z0-9@_][A-Za-z0-9@_.,:/+=~-]*")

#: The variable that an error names if the provider accepts several. litellm.validate_environment
#: names all of them as if all were needed, or an unusual one.
_USUAL_VARIABLE = {
    "fireworks_ai": "FIREWORKS_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "together_ai": "TOGETHER_API_KEY",
}

#: Providers that sell other providers' models as well.
_RESELLERS = ("bedrock", "bedrock_converse", "vertex_ai", "vertex_ai_beta", "azure_ai")
_GEMINI = ("gemini", "vertex_ai", "vertex_ai_beta")
#: Providers of open models, whose API has all sampling parameters. litellm sends those unchanged.
_OPEN_MODELS = ("hosted_vllm", "together_ai", "fireworks_ai")
#: Providers with OpenAI's API that fetch the URLs of images.
_FETCHING = ("openai", "azure", "openrouter", "litellm_proxy", "hosted_vllm", "groq", "mistral")


@dataclass(frozen=True)
class ProviderModel:
    """A model as litellm's tables describe it.

    full_name: with our prefix. listed: whether it is in the configuration. model: litellm's name
    without the provider. parameters: the arguments that it takes, by the names of OpenAI's API and
    of CHAT_PARAMETERS. takes_schema: whether it takes a JSON schema. row: of the price map. entry:
    of the configuration, or an empty one. missing: variables that must be set before it can be
    called.
    """

    full_name: str
    listed: bool
    model: str
    provider: str
    parameters: frozenset[str]
    takes_schema: bool
    context_length: int | None
    max_output_tokens: int | None
    price: Price
    row: Mapping[str, Any]
    entry: LiteLlmModel
    missing: tuple[str, ...] = ()

    @property
    def is_claude(self) -> bool:
        """Whether it speaks Anthropic's format, at any provider."""
        return self.provider == "anthropic" or (
            self.provider in _RESELLERS and "claude" in self.model
        )

    @property
    def is_gemini(self) -> bool:
        """Whether it speaks Gemini's format."""
        return self.provider in _GEMINI and not self.is_claude

    @property
    def sees(self) -> bool:
        """Whether it takes images. True if litellm's tables do not have the model."""
        return not self.row or bool(self.row.get("supports_vision"))

    @property
    def fetches_images(self) -> bool:
        """Whether the provider fetches the URL of an image. For others, litellm would do it."""
        return self.provider == "anthropic" or self.provider in _FETCHING

    @property
    def takes_detail(self) -> bool:
        """Whether it takes the detail of an image."""
        return self.provider in _FETCHING

    @property
    def is_strict(self) -> bool:
        """Whether it can be made to write arguments of tools that fit their schema."""
        return self.provider in ("openai", "azure") or self.is_claude

    @property
    def continues(self) -> bool:
        """Whether it continues a last message of the assistant."""
        return bool(self.row.get("supports_assistant_prefill"))

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """Its capabilities. Choices always work: a model without schemas gets an instruction."""
        more = (
            (self.takes_schema, Capability.JSON_SCHEMA),
            ({"logprobs", "top_logprobs"} <= self.parameters, Capability.LOGPROBS),
            ("seed" in self.parameters, Capability.SEED),
            (bool(self.row.get("supports_reasoning")), Capability.REASONING),
            ("tools" in self.parameters, Capability.TOOLS),
            (bool(self.row.get("supports_vision")), Capability.IMAGES),
        )
        return (Capability.CHAT, Capability.CHOICES, *(kind for has, kind in more if has))

    def cost(self, usage: Any) -> float | None:
        """US dollars for litellm's Usage, by its price map; None if that has no price."""
        if isinstance(self.price, UnknownPrice) or usage is None:
            return None
        prompt, completion = litellm.cost_per_token(
            model=self.model, custom_llm_provider=self.provider, usage_object=usage
        )
        return float(prompt + completion)


class LiteLlmCatalogue:
    """Looks up each model once."""

    def __init__(self, config: LiteLlmConfig) -> None:
        self._config = config
        self._models = {
            entry.name: _look_up(entry, listed=True)
            for entry in config.models
            if _has_provider(entry)
        }

    def count_missing(self) -> Mapping[str, int]:
        """The variables that are not set, and how many listed models need each."""
        return Counter(name for model in self._models.values() for name in model.missing)

    async def find(self, name: str) -> ProviderModel:
        """Find a model by its full name. Raises ModelNotFound, InvalidRequest."""
        if (model := self._models.get(name)) is not None:
            return model
        entry = self._config.find_entry(name)
        if entry is None:
            check_name(name)
            _check_provider(name)
        # In a thread, because litellm asks a local ollama about the model.
        model = await asyncio.to_thread(
            _look_up, entry or LiteLlmModel(name=name), listed=entry is not None
        )
        if len(self._models) >= _MAX_KEPT:
            self._models.clear()
        self._models[name] = model
        return model


def check_name(name: str) -> None:
    """Raise InvalidRequest if a caller's name could change more of a URL than its path."""
    if "://" in name or ".." in name or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:200]!r}: a model's name is not a URL; it has letters, digits and -_.,:/@+=~",
            field="model",
        )


def _check_provider(name: str) -> None:
    """Raise ModelNotFound for an unlisted model if its provider serves only listed ones."""
    prefix = name.removeprefix(PREFIX).partition("/")[0]
    if prefix in _PROVIDERS:  # litellm's search for a provider logs in to some
        check_unlisted(prefix)
    check_unlisted(_find_provider(name)[1])


def _has_provider(entry: LiteLlmModel) -> bool:
    """Whether litellm knows the provider of a listed model. If not, each call raises an error."""
    try:
        _find_provider(entry.name)
    except ModelNotFound:
        return False
    return True


def _find_provider(name: str) -> tuple[str, str, str | None, str | None]:
    """litellm's name of the model, its provider, and the provider's key and address if set."""
    slug = name.removeprefix(PREFIX)
    try:
        provider: tuple[str, str, str | None, str | None] = litellm.get_llm_provider(model=slug)
    except litellm.exceptions.BadRequestError as error:
        prefix = slug.partition("/")[0]
        raise ModelNotFound(
            f"litellm knows no provider {prefix!r} (names are {PREFIX}<provider>/<model>)"
            f"{did_you_mean(prefix, _PROVIDERS)}",
            field="model",
        ) from error
    check_usable(provider[1])
    return provider


def _look_up(entry: LiteLlmModel, *, listed: bool) -> ProviderModel:
    model, provider, key, address = _find_provider(entry.name)
    row = _find_prices(model, provider)
    parameters = set(litellm.get_supported_openai_params(model, provider) or ())
    parameters |= _own_parameters(model, provider)
    takes_schema = entry.structured_output
    if takes_schema is None:
        takes_schema = "response_format" in parameters and litellm.supports_response_schema(
            model, provider
        )
    return ProviderModel(
        full_name=entry.name,
        listed=listed,
        model=model,
        provider=provider,
        parameters=frozenset(parameters),
        takes_schema=takes_schema,
        context_length=count(row.get("max_input_tokens")),
        max_output_tokens=count(row.get("max_output_tokens")),
        price=_parse_price(row),
        row=row,
        entry=entry,
        missing=_find_missing(entry, provider, key, address),
    )


def name_key(model: ProviderModel) -> str:
    """The variable that holds the key of a model that can be called; "" if it is not known."""
    usual = _USUAL_VARIABLE.get(model.provider, f"{model.provider.upper()}_API_KEY")
    return model.entry.key_variable or (usual if usual in os.environ else "")


def _find_missing(
    entry: LiteLlmModel, provider: str, key: str | None, address: str | None
) -> tuple[str, ...]:
    """The variables that must be set before the model can be called."""
    if provider in OWN_SERVERS and entry.api_base is None and not address:
        return (f"{provider.upper()}_API_BASE",)
    if entry.key_variable is not None:
        return () if entry.key_variable in os.environ else (entry.key_variable,)
    # For these providers, litellm has already looked for the key under all its names.
    looked_up = provider in litellm.openai_compatible_providers
    if looked_up and key:
        return ()
    missing = litellm.validate_environment(entry.name.removeprefix(PREFIX))["missing_keys"]
    if entry.api_base is not None:
        missing = [name for name in missing if not name.endswith("_API_BASE")]
    if looked_up and not missing:  # litellm has no list of these names, but this is its rule
        missing = [f"{provider.upper()}_API_KEY"]
    if missing and provider in _USUAL_VARIABLE:
        return (_USUAL_VARIABLE[provider],)
    return tuple(missing)


def _find_prices(model: str, provider: str) -> Mapping[str, Any]:
    """The model's row in litellm's price map; empty if it has none."""
    for key in (f"{provider}/{model}", model):
        row: Mapping[str, Any] = litellm.model_cost.get(key, {})
        if row and (key != model or row.get("litellm_provider") == provider):
            return row
    return {}


#: litellm's names of rates, in US dollars for one. Some have a second one for long prompts, such
#: as input_cost_per_token_above_200k_tokens.
_UNITS = {
    "input_cost_per_token": PriceUnit.PROMPT_TOKEN,
    "output_cost_per_token": PriceUnit.COMPLETION_TOKEN,
    "output_cost_per_reasoning_token": PriceUnit.REASONING_TOKEN,
    "cache_read_input_token_cost": PriceUnit.CACHED_TOKEN,
    "cache_creation_input_token_cost": PriceUnit.CACHE_WRITE_TOKEN,
    "input_cost_per_image": PriceUnit.IMAGE,
    "input_cost_per_request": PriceUnit.REQUEST,
}
_ABOVE = re.compile(r"(.+)_above_(\d+)k_tokens")


def _parse_price(row: Mapping[str, Any]) -> Price:
    rates = []
    for name, value in row.items():
        above = _ABOVE.fullmatch(name)
        unit = _UNITS.get(above[1] if above else name)
        if unit is not None and (rate := picousd(value)) is not None:
            rates.append(Rate(unit, rate, int(above[2]) * 1000 if above else 0))
    units = {rate.unit for rate in rates}
    if not {PriceUnit.PROMPT_TOKEN, PriceUnit.COMPLETION_TOKEN} <= units:
        return UnknownPrice("litellm's price list does not have it")
    return PriceTable(tuple(rates)) if any(rate.picousd for rate in rates) else FreePrice()


def _own_parameters(model: str, provider: str) -> set[str]:
    """The sampling parameters outside OpenAI's API, such as top_k, that the model takes.

    litellm lists them as fields of the provider's configuration class.
    """
    try:
        kind = LlmProviders(provider)
    except ValueError:  # a custom provider
        return set()
    config = ProviderConfigManager.get_provider_chat_config(model=model, provider=kind)
    fields = {
        name for base in type(config).__mro__ for name in getattr(base, "__annotations__", {})
    }
    own = {p.name for p in CHAT_PARAMETERS.values() if not p.in_openai}
    return own if provider in _OPEN_MODELS else own & fields

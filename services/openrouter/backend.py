"""The openrouter backend."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from arena_llm.types import Availability, Completion, GenerationRequest, Model, Price
from services.common.errors import BackendError, InvalidRequest, ModelNotFound, Unsupported
from services.common.hosted.backend import HostedBackend
from services.common.hosted.completion import Expectation
from services.common.hosted.config import Timeouts
from services.common.hosted.journal import Entry
from services.common.hosted.keys import Redactor, load_keys, url_secrets
from services.common.hosted.provider_call import ProviderCall
from services.common.hosted.request import HONOURED, ResponseFormat, build_apart, request_field
from services.common.hosted.response import ProviderAnswer
from services.common.log import log
from services.openrouter.account import Account
from services.openrouter.catalogue import ROUTING, ListedModel, OpenRouterCatalogue, describe
from services.openrouter.config import DIALECTS, OpenRouterConfig, remove_prefix
from services.openrouter.request import (
    add_streaming,
    build_body,
    needs_details,
    other_models,
    required_fields,
)
from services.openrouter.response import OpenRouterBuilder, parse_completion
from services.openrouter.upstream import KEY_VARIABLE, OpenRouterUpstream

#: Seconds that a list of models waits for the catalogue.
_LIST_WAIT = 1.5


class OpenRouterBackend(HostedBackend[OpenRouterConfig]):
    """OpenRouter's models, all with one key."""

    name = "openrouter"
    config_type = OpenRouterConfig
    environment = ("OPENROUTER_*", "*_proxy", "*_PROXY", "SSL_CERT_*")
    fields = HONOURED | ROUTING

    @classmethod
    def count_uncallable(cls, config: OpenRouterConfig) -> Mapping[str, int]:
        """The key, if it is needed and not set. A user in the base URL takes its place."""
        needed = DIALECTS[config.dialect].needs_key and not urlsplit(config.base_url).username
        if not needed or not config.models or os.environ.get(KEY_VARIABLE):
            return {}
        return {KEY_VARIABLE: len(config.models)}

    async def start(self) -> None:
        """Read the key and make the caches. Nothing is sent, and no key is needed."""
        await super().start()
        keys = load_keys(self.environment)
        secrets = keys.secrets.union(url_secrets(self.config.base_url))
        self._redact = Redactor(secrets)
        self._dialect = DIALECTS[self.config.dialect]
        self.upstream = OpenRouterUpstream(self.config, keys, self._redact)
        self._catalogue = OpenRouterCatalogue(self.upstream, self.config.catalogue_seconds)
        self._account = Account(self.config, self.upstream, self._catalogue)

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        await self._account.aclose()
        await self._catalogue.aclose()
        await self.upstream.aclose()

    async def _find_key_variable(self, model: str) -> str:
        return KEY_VARIABLE

    async def _check_model(self, model: str) -> Availability:
        """Check the key, its credits and the catalogue, which are cached for some seconds."""
        return await self._account.check(model)

    async def get_available_models(self) -> Sequence[Model]:
        """List the configured models, with their catalogue entries if these come in time."""
        catalogue: Mapping[str, ListedModel] = {}
        if self.upstream.key_problem() is None and self.config.models:
            try:
                async with asyncio.timeout(_LIST_WAIT):
                    catalogue = await self._catalogue.models()
            except (BackendError, TimeoutError) as error:
                log.warning("the catalogue is not available", error=type(error).__name__)
        return [
            describe(entry, catalogue.get(remove_prefix(entry.name)))
            for entry in self.config.models
        ]

    async def _build_call(
        self, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> OpenRouterCall:
        timeouts = self.config.timeouts(request.model)
        if not self.config.allow_unlisted:
            self._check_models(request)
        details = await self.find_model(request.model) if needs_details(request) else None
        body = await build_apart(
            request, lambda: build_body(request, response_format, self._dialect, details)
        )
        expected = Expectation.of(request, "logprobs" in body)
        return OpenRouterCall(self, expected, body, timeouts)

    def _check_models(self, request: GenerationRequest) -> None:
        """Raise InvalidRequest if the options name a model that is not listed."""
        try:
            for model in other_models(request.provider_options):
                self.config.find_entry(model)
        except ModelNotFound as error:
            raise InvalidRequest(error.message, field="provider_options_json") from error

    async def _look_up_cost(self, upstream_id: str) -> int | None:
        return await self._account.find_cost(upstream_id)

    async def _find_price(self, request: GenerationRequest) -> tuple[Price | None, int | None]:
        """The listed price. Options other than `provider` may cost extra, such as a web search."""
        options = request.provider_options.keys() - {"provider"}
        name = remove_prefix(request.model)
        if not self._dialect.has_credits or options or name.endswith(":online"):
            return None, None
        details = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_LIST_WAIT):
                details = await self.find_model(request.model)
        return (details.price, details.max_output) if details else (None, None)

    async def _takes_schema(self, model: str) -> bool:
        """Whether the model takes a JSON schema. True if neither entry nor catalogue says."""
        entry = self.config.find_entry(model)
        if entry is not None and entry.structured_output is not None:
            return entry.structured_output
        details = await self.find_model(model)
        return details is None or details.takes_schema

    async def find_model(self, model: str) -> ListedModel | None:
        """Find a model in the catalogue; None if it has no such model or cannot be read."""
        if self.upstream.key_problem() is not None:
            return None  # the call itself will raise the problem
        try:
            return await self._catalogue.find(remove_prefix(model))
        except BackendError as error:
            log.warning("the catalogue is not available", error=error.reason)
            return None


class OpenRouterCall(ProviderCall):
    """A request as the body of POST /chat/completions."""

    def __init__(
        self,
        backend: OpenRouterBackend,
        expected: Expectation,
        body: dict[str, Any],
        timeouts: Timeouts,
    ) -> None:
        self._backend = backend
        self._expected = expected
        self._model = expected.model
        self._body = body
        self._timeouts = timeouts

    async def complete(self, entry: Entry) -> Completion:
        answer = await self._backend.upstream.complete(self._body, self._timeouts, entry)
        return parse_completion(answer, self._expected)

    def stream(
        self, entry: Entry
    ) -> tuple[OpenRouterBuilder, AsyncGenerator[ProviderAnswer, None]]:
        chunks = self._backend.upstream.stream(add_streaming(self._body), self._timeouts, entry)
        return OpenRouterBuilder(self._expected), chunks

    async def explain(self, error: ModelNotFound) -> BackendError:
        """Distinguish an unknown model from one that lacks a parameter: both get a 404."""
        required = required_fields(self._body)
        details = await self._backend.find_model(self._model) if required else None
        if details is None or details.parameters is None:
            return error
        missing = [name for name in required if name not in details.parameters]
        if not missing:
            return error
        return Unsupported(
            f"no provider of {self._model} honours {', '.join(missing)}: leave it out, or let "
            "it be ignored with provider_options.provider.require_parameters = false",
            field=request_field(missing[0]),
            metadata=error.metadata,
        )

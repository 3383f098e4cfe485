"""OpenRouter's API as a backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import structlog

from arena_llm.types import Availability, Completion, GenerationRequest, Model
from services.common.errors import BackendError, InvalidRequest, ModelNotFound, Unsupported
from services.common.hosted.answers import Answer
from services.common.hosted.backend import Asked, HostedBackend
from services.common.hosted.keys import load_keys, url_secrets
from services.common.hosted.redaction import Redactor
from services.common.hosted.rules import ResponseFormat
from services.openrouter.availability import availability
from services.openrouter.catalogue import Catalogue, Listing, described
from services.openrouter.config import PREFIX, OpenRouterConfig
from services.openrouter.credits import CreditWatch
from services.openrouter.request import body_of, other_models, required_parameters, streamed
from services.openrouter.response import Stream, completion_of
from services.openrouter.upstream import Upstream

log = structlog.get_logger()

#: Seconds that a list of models waits for what the provider says of them.
_LIST_WAIT = 1.5


class OpenRouterBackend(HostedBackend[OpenRouterConfig]):
    """OpenRouter's models, with one key."""

    name = "openrouter"
    config_type = OpenRouterConfig
    environment = ("OPENROUTER_*", "*_proxy", "*_PROXY", "SSL_CERT_*")

    async def start(self) -> None:
        """Make ready; asks nothing of the provider, so that it serves without a key too."""
        await super().start()
        keys = load_keys(self.environment)
        secrets = keys.secrets.union(url_secrets(self.config.base_url))
        self._redact = Redactor(secrets)
        self.upstream = Upstream(self.config, keys, self._redact)
        self._catalogue = Catalogue(self.upstream, self.config.catalogue_seconds)
        self._credits = CreditWatch(self.upstream, self.config.credits_seconds)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._credits.aclose()
        await self._catalogue.aclose()
        await self.upstream.aclose()

    async def is_model_available(self, model: str) -> Availability:
        """Tell from the key, its credits and OpenRouter's list, asked for at most
        every few seconds, whether the model can be called."""
        return await availability(
            self.config, model, self.upstream.key_problem(), self._catalogue, self._credits
        )

    async def get_available_models(self) -> Sequence[Model]:
        """List the configured models, with what OpenRouter says of them if it is at hand."""
        listings: Mapping[str, Listing] = {}
        if self.upstream.key_problem() is None and self.config.models:
            try:
                async with asyncio.timeout(_LIST_WAIT):
                    listings = await self._catalogue.models()
            except (BackendError, TimeoutError) as error:
                log.warning("catalogue not at hand", error=type(error).__name__)
        return [described(entry, listings.get(_slug(entry.name))) for entry in self.config.models]

    async def _asked(
        self, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> _Asked:
        seconds = self.config.timeout(request.model)
        if not self.config.allow_unlisted:
            self._check_models(request)
        openrouter = self.config.dialect == "openrouter"
        body = body_of(request, response_format, openrouter)
        return _Asked(self, request.model, body, seconds)

    def _check_models(self, request: GenerationRequest) -> None:
        """Raise InvalidRequest where options name a model that is not listed."""
        try:
            for model in other_models(request.provider_options):
                self.config.listed(model)
        except ModelNotFound as error:
            raise InvalidRequest(error.message, field="provider_options.models") from error

    async def _structured(self, model: str) -> bool:
        """Whether the model keeps to a JSON schema; taken for granted where nobody tells."""
        entry = self.config.listed(model)
        if entry is not None and entry.structured_output is not None:
            return entry.structured_output
        listing = await self.listing(model)
        return listing is None or listing.structured

    async def listing(self, model: str) -> Listing | None:
        """What OpenRouter says of the model; None where it says nothing, or cannot be asked."""
        if self.upstream.key_problem() is not None:
            return None  # the call itself says what is missing
        try:
            return await self._catalogue.find(_slug(model))
        except BackendError as error:
            log.warning("catalogue not at hand", error=error.reason)
            return None


class _Asked(Asked):
    """A request as the body of POST /chat/completions."""

    def __init__(
        self, backend: OpenRouterBackend, model: str, body: dict[str, Any], seconds: float
    ) -> None:
        self._backend = backend
        self._model = model
        self._body = body
        self._seconds = seconds
        self.logprobs = "logprobs" in body

    async def whole(self) -> Completion:
        answer = await self._backend.upstream.complete(self._body, self._seconds)
        return completion_of(answer, "stop" in self._body)

    def stream(self) -> tuple[Stream, AsyncGenerator[Answer, None]]:
        chunks = self._backend.upstream.stream(streamed(self._body), self._seconds)
        return Stream("stop" in self._body), chunks

    async def explained(self, error: ModelNotFound) -> BackendError:
        """Tell a model that lacks a parameter from one that is not there: both are a 404."""
        required = required_parameters(self._body)
        listing = await self._backend.listing(self._model) if required else None
        if listing is None or listing.parameters is None:
            return error
        missing = [name for name in required if name not in listing.parameters]
        if not missing:
            return error
        return Unsupported(
            f"no provider of {self._model} honours {', '.join(missing)}: leave it out, or let "
            "it be ignored with provider_options.provider.require_parameters = false",
            field=_FIELDS.get(missing[0], f"config.{missing[0]}"),
            metadata=error.metadata,
        )


#: Where the request has what the body calls so, if not in config.
_FIELDS = {"response_format": "constraint", "top_logprobs": "config.logprobs"}


def _slug(model: str) -> str:
    return model.removeprefix(PREFIX)

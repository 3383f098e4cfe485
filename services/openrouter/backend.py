"""BaseLLMBackend over OpenRouter's API."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import structlog

from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    GenerationRequest,
    Model,
)
from services.common.backend import BaseLLMBackend
from services.common.errors import BackendError, ModelNotFound, Unsupported
from services.common.hosted.attempts import Attempts
from services.common.hosted.constraints import constrained
from services.common.hosted.redaction import Redactor
from services.openrouter.availability import availability
from services.openrouter.catalogue import Catalogue, Listing, described
from services.openrouter.config import PREFIX, OpenRouterConfig
from services.openrouter.credits import CreditWatch
from services.openrouter.request import body_of, required_parameters, streamed
from services.openrouter.response import Assembly, completion_of, finished
from services.openrouter.upstream import KEY_VARIABLE, Upstream

log = structlog.get_logger()

#: Seconds that a list of models waits for what the provider says of them.
_LIST_WAIT = 1.5

#: What an open stream is: its first event, and the others.
_Opened = tuple[Delta | Completion, AsyncGenerator[Delta | Completion, None]]


class OpenRouterBackend(BaseLLMBackend[OpenRouterConfig]):
    """OpenRouter's models, with one key."""

    name = "openrouter"
    config_type = OpenRouterConfig
    environment = ("OPENROUTER_*", "*_proxy", "*_PROXY", "SSL_CERT_*")

    async def start(self) -> None:
        """Make ready; asks nothing of the provider, so that it serves without a key too."""
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        self._attempts = Attempts(self.config)
        self._upstream = Upstream(self.config, self._key, Redactor([self._key]))
        self._catalogue = Catalogue(self._upstream, self.config.catalogue_seconds)
        self._credits = CreditWatch(self._upstream, self.config.credits_seconds)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._credits.aclose()
        await self._catalogue.aclose()
        await self._upstream.aclose()

    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Answer with one whole completion."""
        self.config.listed(request.model)
        structured = request.constraint is not None and await self._structured(request.model)
        return await constrained(request, self._ask, structured)

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield the text as it grows, then the completion.

        A constrained text is checked first and comes as one piece.
        """
        if request.constraint is not None:
            async with aclosing(super().stream_response(request)) as whole:
                async for event in whole:
                    yield event
            return
        arrived = time.perf_counter()
        body = streamed(body_of(request))
        seconds = self.config.timeout(request.model)
        async with (
            self._explained(request.model, body),
            self._attempts.open(
                request.model, request.deadline, lambda: self._open(body, seconds)
            ) as answered,
        ):
            first = time.perf_counter() - arrived
            event, others = answered.value
            while isinstance(event, Delta):
                yield event
                event = await anext(others)
            yield finished(request, event, answered, arrived, first)

    async def is_model_available(self, model: str) -> Availability:
        """Tell from the key, its credits and OpenRouter's list, asked for at most
        every few seconds, whether the model can be called."""
        return await availability(self.config, model, self._key, self._catalogue, self._credits)

    async def get_available_models(self) -> Sequence[Model]:
        """List the configured models, with what OpenRouter says of them if it is at hand."""
        listings: Mapping[str, Listing] = {}
        if self._key and self.config.models:
            try:
                async with asyncio.timeout(_LIST_WAIT):
                    listings = await self._catalogue.models()
            except (BackendError, TimeoutError) as error:
                log.warning("catalogue not at hand", error=type(error).__name__)
        return [described(entry, listings.get(_slug(entry.name))) for entry in self.config.models]

    async def _ask(
        self, request: GenerationRequest, response_format: Mapping[str, Any] | None
    ) -> Completion:
        arrived = time.perf_counter()
        body = body_of(request, response_format)
        seconds = self.config.timeout(request.model)

        async def attempt() -> Completion:
            return completion_of(await self._upstream.complete(body, seconds))

        async with self._explained(request.model, body):
            answered = await self._attempts.call(request.model, request.deadline, attempt)
            return finished(request, answered.value, answered, arrived)

    @asynccontextmanager
    async def _open(self, body: Mapping[str, Any], seconds: float) -> AsyncIterator[_Opened]:
        """A stream of which the first event has come: from then on nothing is tried again."""
        async with aclosing(self._events(body, seconds)) as events:
            yield await anext(events), events

    async def _events(
        self, body: Mapping[str, Any], seconds: float
    ) -> AsyncGenerator[Delta | Completion, None]:
        assembly = Assembly()
        async with aclosing(self._upstream.stream(body, seconds)) as chunks:
            async for chunk in chunks:
                if (delta := assembly.add(chunk)) is not None:
                    yield delta
        yield assembly.completion()

    @asynccontextmanager
    async def _explained(self, model: str, body: Mapping[str, Any]) -> AsyncIterator[None]:
        """Tell a model that lacks a parameter from one that is not there: both are a 404."""
        try:
            yield
        except ModelNotFound as error:
            missing = await self._missing(model, required_parameters(body))
            if not missing:
                raise
            raise Unsupported(
                f"no provider of {model} honours {', '.join(missing)}: leave it out, or let "
                "it be ignored with provider_options.provider.require_parameters = false",
                field=_FIELDS.get(missing[0], f"config.{missing[0]}"),
                metadata=error.metadata,
            ) from error

    async def _missing(self, model: str, required: Sequence[str]) -> list[str]:
        """Those of the parameters that OpenRouter's list does not have for the model."""
        listing = await self._listing(model) if required else None
        if listing is None or listing.parameters is None:
            return []
        return [name for name in required if name not in listing.parameters]

    async def _structured(self, model: str) -> bool:
        """Whether the model keeps to a JSON schema; taken for granted where nobody tells."""
        entry = self.config.listed(model)
        if entry is not None and entry.structured_output is not None:
            return entry.structured_output
        listing = await self._listing(model)
        return listing is None or listing.structured

    async def _listing(self, model: str) -> Listing | None:
        """What OpenRouter says of the model; None where it says nothing, or cannot be asked."""
        if not self._key:
            return None  # the call itself says what is missing
        try:
            return await self._catalogue.find(_slug(model))
        except BackendError as error:
            log.warning("catalogue not at hand", error=error.reason)
            return None


#: Where the request has what the body calls so, if not in config.
_FIELDS = {"response_format": "constraint", "top_logprobs": "config.logprobs"}


def _slug(model: str) -> str:
    return model.removeprefix(PREFIX)

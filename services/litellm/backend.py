"""litellm as a backend. The library is imported by `start`, not by this file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

from arena_llm.types import Availability, Completion, GenerationRequest, Model, ModelState
from services.common.errors import ApiKeyMissing, BackendError
from services.common.hosted.backend import Asked, HostedBackend
from services.common.hosted.keys import Keys, document_secrets, load_keys, url_secrets
from services.common.hosted.redaction import Redactor
from services.common.hosted.rules import ResponseFormat
from services.litellm.config import LiteLlmConfig
from services.litellm.keys import ENVIRONMENT, NOT_OURS
from services.litellm.parameters import arguments_of
from services.litellm.quiet import import_litellm
from services.litellm.replies import Stream, completion_of

if TYPE_CHECKING:
    from services.litellm.catalogue import Catalogue, Known
    from services.litellm.upstream import Call, Upstream


class LiteLlmBackend(HostedBackend[LiteLlmConfig]):
    """The models of 100+ providers, each with its provider's own key."""

    name = "litellm"
    config_type = LiteLlmConfig
    environment = ENVIRONMENT

    _catalogue: Catalogue
    _keys: Keys
    _upstream: Upstream

    def __init__(self, config: LiteLlmConfig) -> None:
        super().__init__(config)
        # The server answers before litellm is imported; calls then wait for it.
        self._ready = asyncio.Event()

    async def start(self) -> None:
        """Import litellm; asks nothing of any provider, and wants no key."""
        await super().start()
        self._keys = load_keys(ENVIRONMENT)
        entries = self.config.models
        secrets = self._keys.secrets.union(
            *(url_secrets(entry.api_base) for entry in entries),
            *(document_secrets(entry.parameters) for entry in entries),
        )
        self._redact = Redactor(secrets)
        self._catalogue = await asyncio.to_thread(_load, self.config)
        from services.litellm.upstream import Upstream  # litellm is in memory by now

        self._upstream = Upstream(self.config, self._redact)
        self._ready.set()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._ready.is_set():
            await self._upstream.aclose()

    async def is_model_available(self, model: str) -> Availability:
        """Tell from the configuration and the environment alone; no provider is asked."""
        if not self._ready.is_set():
            return Availability(True, ModelState.LOADING, "litellm is starting; calls wait for it")
        try:
            known = await self._callable(model)
        except BackendError as error:
            return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)
        return Availability(
            True,
            ModelState.READY,
            f"{known.provider} is not asked before a call",
            price=known.price,
        )

    async def get_available_models(self) -> Sequence[Model]:
        """List the configured models, with what litellm's tables say of them."""
        if not self._ready.is_set():
            return [
                Model(entry.name, description=entry.description) for entry in self.config.models
            ]
        return [await self._model(entry.name, entry.description) for entry in self.config.models]

    async def _model(self, name: str, description: str) -> Model:
        try:
            known = await self._catalogue.find(name)
        except BackendError as error:
            return Model(name, description=description or error.message)
        return Model(
            name=name,
            description=description,
            context_length=known.context_length,
            capabilities=known.capabilities,
            price=known.price,
        )

    async def _callable(self, model: str) -> Known:
        """What is known of a model that has its key; raises ApiKeyMissing, ModelNotFound."""
        await self._ready.wait()
        known = await self._catalogue.find(model)
        if missing := known.missing or self._unusable(known):
            if missing == (NOT_OURS,):
                raise ApiKeyMissing(
                    f"{NOT_OURS} is for the openrouter service alone: ask it for the model as "
                    f"openrouter_{known.model}, or name another variable with key_variable in "
                    "the model's entry",
                    metadata={"variable": NOT_OURS},
                )
            raise self._keys.problem(*missing)
        return known

    def _unusable(self, known: Known) -> tuple[str, ...]:
        """The provider's keys that cannot be sent, of which litellm's tables know nothing."""
        if known.entry.key_variable is not None:
            return ()
        prefix = f"{known.provider.upper().replace('-', '_')}_"
        return tuple(name for name in self._keys.unusable if name.startswith(prefix))

    async def _structured(self, model: str) -> bool:
        return (await self._callable(model)).structured

    async def _asked(
        self, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> _Asked:
        known = await self._callable(request.model)
        from services.litellm.catalogue import INTERNAL  # litellm is in memory by now

        arguments = arguments_of(request, known, INTERNAL, response_format)
        destination: dict[str, Any] = {}
        if known.entry.api_base is not None:
            destination["api_base"] = known.entry.api_base
        if known.entry.key_variable is not None:
            destination["api_key"] = os.environ[known.entry.key_variable]
        plain = None
        if request.provider_options:
            plain = {**known.entry.parameters, "model": arguments["model"], **destination}
        from services.litellm.upstream import Call

        seconds = self.config.timeout(request.model)
        return _Asked(self._upstream, Call(known, arguments | destination, plain, seconds))


class _Asked(Asked):
    """A request as the arguments of a call to litellm."""

    def __init__(self, upstream: Upstream, call: Call) -> None:
        self._upstream = upstream
        self._call = call
        self.logprobs = "logprobs" in call.arguments

    async def whole(self) -> Completion:
        wire = self._upstream.wire(self._call)
        reply = await self._upstream.complete(self._call, wire)
        return completion_of(reply, self._call.known, wire, "stop" in self._call.arguments)

    def stream(self) -> tuple[Stream, AsyncGenerator[Any, None]]:
        wire = self._upstream.wire(self._call)
        stops = "stop" in self._call.arguments
        return Stream(self._call.known, wire, stops), self._upstream.stream(self._call, wire)


def _load(config: LiteLlmConfig) -> Catalogue:
    import_litellm()
    from services.litellm import upstream  # noqa: F401 - imported here, in the thread
    from services.litellm.catalogue import Catalogue
    from services.litellm.gemini import tell_the_end

    tell_the_end()
    return Catalogue(config)

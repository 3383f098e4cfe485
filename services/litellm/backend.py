"""The litellm backend. The first call imports litellm; importing this file does not."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from arena_llm.types import (
    Availability,
    Completion,
    GenerationRequest,
    Modality,
    Model,
    ModelState,
    Price,
)
from services.common.errors import ApiKeyMissing, BackendError, UpstreamUnavailable
from services.common.hosted.backend import HostedBackend
from services.common.hosted.completion import Expectation
from services.common.hosted.http import check_proxies
from services.common.hosted.journal import Entry
from services.common.hosted.keys import Keys, Redactor, document_secrets, load_keys, url_secrets
from services.common.hosted.provider_call import ProviderCall
from services.common.hosted.request import ResponseFormat, build_apart
from services.common.process import freeze_imports
from services.litellm.config import ENVIRONMENT, OPENROUTER_KEY, LiteLlmConfig
from services.litellm.fields import list_fields
from services.litellm.reasoning import list_efforts
from services.litellm.request import build_arguments
from services.litellm.response import LiteLlmBuilder, parse_completion
from services.litellm.setup import import_litellm

if TYPE_CHECKING:
    from services.litellm.catalogue import LiteLlmCatalogue, ProviderModel
    from services.litellm.upstream import CompletionArguments, LiteLlmUpstream

#: Seconds that a check or a list waits for litellm: less than the router's `ask_timeout_seconds`.
_WAIT = 1.5


class LiteLlmBackend(HostedBackend[LiteLlmConfig]):
    """The models of 100+ providers, each with its provider's own key."""

    name = "litellm"
    config_type = LiteLlmConfig
    environment = ENVIRONMENT

    _catalogue: LiteLlmCatalogue
    _keys: Keys
    _upstream: LiteLlmUpstream

    def __init__(self, config: LiteLlmConfig) -> None:
        super().__init__(config)
        #: The import of litellm, which the first call begins.
        self._loading: asyncio.Future[None] | None = None
        self._stops = False

    @classmethod
    def count_uncallable(cls, config: LiteLlmConfig) -> Mapping[str, int]:
        """The missing variables, by litellm's tables. Takes seconds, because it imports litellm."""
        return _load_catalogue(config).count_missing()

    async def start(self) -> None:
        """Read the keys. Nothing is sent to a provider, and no key is needed."""
        await super().start()
        check_proxies()
        self._keys = load_keys(ENVIRONMENT)
        entries = self.config.models
        secrets = self._keys.secrets.union(
            *(url_secrets(entry.api_base) for entry in entries),
            *(document_secrets(entry.parameters) for entry in entries),
        )
        self._redact = Redactor(secrets)

    def drain(self) -> None:
        """Fail the calls that wait for litellm: nothing has been sent for them."""
        self._stops = True
        if self._loading is not None and not self._loading.done():
            self._loading.set_exception(_stopping())

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        if self._is_ready:
            await self._upstream.aclose()

    @property
    def _is_ready(self) -> bool:
        loading = self._loading
        return loading is not None and loading.done() and loading.exception() is None

    async def _load(self) -> None:
        """Import litellm, if no call has done that. It takes seconds and 100 MB."""
        if self._stops:
            raise _stopping()
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_future()
            # A thread of its own, because the end of the process would wait for one of a pool.
            threading.Thread(target=self._import, args=(self._loading,), daemon=True).start()
        await asyncio.shield(self._loading)

    def _import(self, loading: asyncio.Future[None]) -> None:
        loop = loading.get_loop()
        with suppress(RuntimeError):  # the event loop has ended
            try:
                catalogue = _load_catalogue(self.config)
            except Exception as error:  # of any of litellm's modules
                loop.call_soon_threadsafe(self._fail, loading, error)
            else:
                loop.call_soon_threadsafe(self._finish, loading, catalogue)

    def _fail(self, loading: asyncio.Future[None], error: Exception) -> None:
        self._loading = None  # the next call tries again
        if not loading.done():
            loading.set_exception(error)

    def _finish(self, loading: asyncio.Future[None], catalogue: LiteLlmCatalogue) -> None:
        if loading.done():
            return
        from services.litellm.upstream import LiteLlmUpstream  # litellm is imported by now

        self._catalogue = catalogue
        self._upstream = LiteLlmUpstream(self.config, self._redact)
        loading.set_result(None)
        freeze_imports()

    async def _check_model(self, model: str) -> Availability:
        """Check the configuration and the environment, without asking the provider."""
        if not await self._loads_soon():
            return Availability(
                True, ModelState.LOADING, "litellm is being imported; calls wait for it"
            )
        try:
            details = await self._find_callable(model)
        except BackendError as error:
            return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)
        return Availability(
            True,
            ModelState.READY,
            f"{details.provider} is not asked before a call",
            model=_describe(model, details.entry.description, details),
        )

    async def get_available_models(self) -> Sequence[Model]:
        """List the configured models, with what litellm's tables say about them."""
        if not await self._loads_soon():
            return [
                Model(entry.name, description=entry.description) for entry in self.config.models
            ]
        return [await self._describe(entry.name, entry.description) for entry in self.config.models]

    async def _loads_soon(self) -> bool:
        """Import litellm. False if it takes longer than a router waits for an answer."""
        if not self._is_ready:
            with suppress(TimeoutError, BackendError):
                async with asyncio.timeout(_WAIT):
                    await self._load()
        return self._is_ready

    async def _describe(self, name: str, description: str) -> Model:
        try:
            details = await self._catalogue.find(name)
        except BackendError as error:
            return Model(name, description=description or error.message)
        return _describe(name, description, details)

    async def _find_callable(self, model: str) -> ProviderModel:
        """Find a model that has its key. Raises ApiKeyMissing, ApiKeyRejected, ModelNotFound."""
        if not self._is_ready:
            await self._load()
        details = await self._catalogue.find(model)
        if missing := details.missing or self._unusable_keys(details):
            if missing == (OPENROUTER_KEY,):
                raise ApiKeyMissing(
                    f"{OPENROUTER_KEY} is only for the openrouter service: ask it for the model as "
                    f"openrouter_{details.model}, or name another variable with key_variable in "
                    "the model's entry",
                    metadata={"variable": OPENROUTER_KEY},
                )
            raise self._keys.explain(*missing)
        return details

    def _unusable_keys(self, model: ProviderModel) -> tuple[str, ...]:
        """The provider's keys that cannot be sent. litellm's tables do not list them all."""
        if model.entry.key_variable is not None:
            return ()
        prefix = f"{model.provider.upper().replace('-', '_')}_"
        return tuple(name for name in self._keys.unusable if name.startswith(prefix))

    async def _find_price(self, request: GenerationRequest) -> tuple[Price | None, int | None]:
        """The price in litellm's list. Provider options may cost extra, such as a web search."""
        if not self._is_ready or request.provider_options:
            return None, None
        try:
            details = await self._catalogue.find(request.model)
        except BackendError:
            return None, None
        return details.price, details.max_output_tokens

    async def _find_key_variable(self, model: str) -> str:
        try:
            details = await self._catalogue.find(model)
        except BackendError:
            return ""
        from services.litellm.catalogue import name_key  # litellm is imported by now

        return name_key(details)

    async def _takes_schema(self, model: str) -> bool:
        return (await self._find_callable(model)).takes_schema

    async def _build_call(
        self, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> LiteLlmCall:
        model = await self._find_callable(request.model)
        from services.litellm.catalogue import INTERNAL  # litellm is imported by now
        from services.litellm.upstream import CompletionArguments

        arguments = await build_apart(
            request, lambda: build_arguments(request, model, INTERNAL, response_format)
        )
        destination: dict[str, Any] = {}
        if model.entry.api_base is not None:
            destination["api_base"] = model.entry.api_base
        if model.entry.key_variable is not None:
            destination["api_key"] = os.environ[model.entry.key_variable]
        plain = None
        if request.provider_options:
            plain = {**model.entry.parameters, "model": arguments["model"], **destination}
        timeouts = self.config.timeouts(request.model)
        arguments |= destination
        completion = CompletionArguments(model, arguments, plain, timeouts)
        expected = Expectation.of(request, "logprobs" in arguments)
        return LiteLlmCall(self._upstream, completion, expected)


class LiteLlmCall(ProviderCall):
    """A request as the arguments of litellm.acompletion."""

    def __init__(
        self, upstream: LiteLlmUpstream, call: CompletionArguments, expected: Expectation
    ) -> None:
        self._upstream = upstream
        self._call = call
        self._expected = expected

    async def complete(self, entry: Entry) -> Completion:
        answer = self._upstream.new_answer(self._call, entry)
        try:
            response = await self._upstream.complete(self._call, answer)
            return parse_completion(response, self._call.model, answer, self._expected)
        finally:
            entry.upstream_id = answer.id

    def stream(self, entry: Entry) -> tuple[LiteLlmBuilder, AsyncGenerator[Any, None]]:
        answer = self._upstream.new_answer(self._call, entry)
        builder = LiteLlmBuilder(self._call.model, answer, self._expected)
        return builder, self._upstream.stream(self._call, answer)


def _describe(name: str, description: str, details: ProviderModel) -> Model:
    return Model(
        name=name,
        description=description,
        context_length=details.context_length,
        max_output_tokens=details.max_output_tokens,
        input_modalities=(Modality.TEXT, *((Modality.IMAGE,) if details.sees else ())),
        capabilities=details.capabilities,
        supported_fields=list_fields(details),
        supported_fields_known=True,
        reasoning_efforts=list_efforts(details),
        price=details.price,
    )


def _stopping() -> BackendError:
    return UpstreamUnavailable("the service stops before litellm is imported", retry_after=1.0)


def _load_catalogue(config: LiteLlmConfig) -> LiteLlmCatalogue:
    import_litellm()
    from services.litellm import upstream  # noqa: F401 - imported here, in the thread
    from services.litellm.catalogue import LiteLlmCatalogue

    return LiteLlmCatalogue(config)

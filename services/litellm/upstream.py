"""Calls of litellm, every failure of which is a BackendError. Imports litellm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import litellm
import openai

from services.common.errors import UpstreamUnavailable
from services.common.hosted.http import http_session
from services.common.hosted.redaction import Redactor
from services.litellm.config import LiteLlmConfig
from services.litellm.errors import error_from
from services.litellm.transport import Exchange, install

#: services.common.hosted.attempts is the one layer that retries.
_NO_RETRIES = {"max_retries": 0, "num_retries": 0}


class Upstream:
    """litellm.acompletion, unary and streamed; cancelling closes the provider's request.

    Made and closed on one event loop.
    """

    def __init__(self, config: LiteLlmConfig, redact: Redactor) -> None:
        self._config = config
        self._redact = redact
        self._session = http_session()
        install(self._session)

    async def aclose(self) -> None:
        """Close all connections."""
        await litellm.close_litellm_async_clients()
        # Else litellm would go on with clients whose session is closed.
        litellm.in_memory_llm_clients_cache.flush_cache()
        vars(litellm).pop("module_level_aclient", None)
        await self._session.close()

    async def complete(self, arguments: Mapping[str, Any], provider: str, seconds: float) -> Any:
        """Ask once; the whole ModelResponse. seconds: how long it may take."""
        async with self._exchange(provider, seconds), asyncio.timeout(seconds):
            return await litellm.acompletion(**arguments, **_NO_RETRIES, timeout=seconds)

    async def stream(
        self, arguments: Mapping[str, Any], provider: str, seconds: float
    ) -> AsyncGenerator[Any, None]:
        """Ask once; yield the chunks. Close the generator to end the request.

        seconds: from the request to the last chunk.
        """
        ends = asyncio.get_running_loop().time() + seconds
        async with self._exchange(provider, seconds, self._config.max_stream_bytes):
            async with asyncio.timeout_at(ends):
                chunks = await litellm.acompletion(
                    **arguments,
                    **_NO_RETRIES,
                    timeout=seconds,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            async with aclosing(chunks):
                while True:
                    # Around each wait of its own: a timeout must not strike in a yield.
                    async with asyncio.timeout_at(ends):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                    yield chunk
            # litellm ends every stream with a finish_reason, of its own if need be.
            if not (chunks.received_finish_reason or chunks.intermittent_finish_reason):
                raise UpstreamUnavailable(f"{provider}'s stream broke off before its end")

    @asynccontextmanager
    async def _exchange(
        self, provider: str, seconds: float, most_streamed: int | None = None
    ) -> AsyncIterator[None]:
        """One call: its responses closed at the end, its failures BackendErrors."""
        exchange = Exchange(provider, self._config.max_answer_bytes, most_streamed)
        exchange.begin()
        try:
            yield
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"{provider} did not answer in time ({seconds:g} s for one attempt)"
            ) from error
        except openai.OpenAIError as error:  # the base of all that litellm raises for a provider
            raise exchange.failure or error_from(error, provider, self._redact) from None
        finally:
            await exchange.aclose()

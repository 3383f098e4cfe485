"""Calls of litellm, every failure of which is a BackendError. Imports litellm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import litellm
import openai

from services.common.errors import UpstreamUnavailable
from services.common.hosted.redaction import Redactor
from services.litellm.errors import error_from

#: services.common.hosted.attempts is the one layer that retries.
_NO_RETRIES = {"max_retries": 0, "num_retries": 0}


class Upstream:
    """litellm.acompletion, unary and streamed; cancelling closes the provider's request."""

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact

    async def aclose(self) -> None:
        """Close all connections."""
        await litellm.close_litellm_async_clients()
        litellm.in_memory_llm_clients_cache.flush_cache()  # else it would hand out closed ones

    async def complete(self, arguments: Mapping[str, Any], provider: str, seconds: float) -> Any:
        """Ask once; the whole ModelResponse. seconds: how long it may take."""
        with self._errors(provider, seconds):
            async with asyncio.timeout(seconds):
                return await litellm.acompletion(**arguments, **_NO_RETRIES, timeout=seconds)

    async def stream(
        self, arguments: Mapping[str, Any], provider: str, seconds: float
    ) -> AsyncGenerator[Any, None]:
        """Ask once; yield the chunks. Close the generator to end the request.

        seconds: from the request to the last chunk.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        with self._errors(provider, seconds):
            async with asyncio.timeout_at(ends):
                chunks = await litellm.acompletion(
                    **arguments,
                    **_NO_RETRIES,
                    timeout=seconds,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            response = _response_of(chunks)
            try:
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
            finally:
                await chunks.aclose()
                if response is not None:
                    await response.aclose()

    @contextmanager
    def _errors(self, provider: str, seconds: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"{provider} did not answer in time ({seconds:g} s for one attempt)"
            ) from error
        except openai.OpenAIError as error:  # the base of all that litellm raises for a provider
            raise error_from(error, provider, self._redact) from None


def _response_of(chunks: Any) -> httpx.Response | None:
    """The HTTP response behind a stream that litellm's own aclose leaves open.

    Anthropic's iterator has no aclose: it keeps nothing but `response.aiter_lines()`, a
    generator, and closing that one closes the response only when it is collected.
    """
    lines = getattr(chunks.completion_stream, "streaming_response", None)
    frame = getattr(lines, "ag_frame", None)
    response = frame.f_locals.get("self") if frame is not None else None
    return response if isinstance(response, httpx.Response) else None

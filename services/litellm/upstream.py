"""Calls of litellm, every failure of which is a BackendError. Imports litellm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import litellm
import openai
import structlog

from services.common.errors import (
    BackendError,
    InvalidRequest,
    UnreadableAnswer,
    Unsupported,
    UpstreamUnavailable,
)
from services.common.hosted.http import http_session
from services.common.hosted.redaction import Redactor
from services.litellm.catalogue import Known
from services.litellm.config import LiteLlmConfig
from services.litellm.errors import error_from, error_reported
from services.litellm.transport import Exchange, Rehearsal, install
from services.litellm.wire import Wire

log = structlog.get_logger()

#: services.common.hosted.attempts is the one layer that retries.
_NO_RETRIES = {"max_retries": 0, "num_retries": 0}

_KEPT = 4096  # models, whose names come from callers


@dataclass(frozen=True)
class Call:
    """One call of acompletion.

    arguments: all but those for retries, time and streaming. plain: those of the
    configuration alone, which show where the call goes without the caller's options; None if
    the caller sets no options. seconds: how long it may take.
    """

    known: Known
    arguments: Mapping[str, Any]
    plain: Mapping[str, Any] | None
    seconds: float


class Upstream:
    """litellm.acompletion, unary and streamed; cancelling closes the provider's request.

    Made and closed on one event loop.
    """

    def __init__(self, config: LiteLlmConfig, redact: Redactor) -> None:
        self._config = config
        self._redact = redact
        self._session = http_session()
        self._origins: dict[str, frozenset[str]] = {}  # by the model's full name
        install(self._session)

    async def aclose(self) -> None:
        """Close all connections."""
        await litellm.close_litellm_async_clients()
        # Else litellm would go on with clients whose session is closed.
        litellm.in_memory_llm_clients_cache.flush_cache()
        vars(litellm).pop("module_level_aclient", None)
        await self._session.close()

    def wire(self, call: Call) -> Wire:
        """What reads the answer of one try of a call."""
        return Wire(call.known.provider, self._redact)

    async def complete(self, call: Call, wire: Wire) -> Any:
        """Ask once; the whole ModelResponse."""
        async with self._exchange(call, wire), asyncio.timeout(call.seconds):
            return await litellm.acompletion(**call.arguments, **_NO_RETRIES, timeout=call.seconds)

    async def stream(self, call: Call, wire: Wire) -> AsyncGenerator[Any, None]:
        """Ask once; yield the chunks. Close the generator to end the request."""
        ends = asyncio.get_running_loop().time() + call.seconds
        async with self._exchange(call, wire, self._config.max_stream_bytes):
            async with asyncio.timeout_at(ends):
                chunks = await litellm.acompletion(
                    **call.arguments,
                    **_NO_RETRIES,
                    timeout=call.seconds,
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
            _check_end(chunks, wire, call.known.provider)

    @asynccontextmanager
    async def _exchange(
        self, call: Call, wire: Wire, most_streamed: int | None = None
    ) -> AsyncIterator[None]:
        """One call: its responses closed at the end, its failures BackendErrors."""
        origins, remembered = await self._origins_of(call)
        exchange = Exchange(
            call.known.provider,
            self._config.max_answer_bytes,
            most_streamed,
            origins=origins,
            name=_chosen(call.known),
            wire=wire,
        )
        try:
            async with self._mapped(exchange, call):
                yield
                if wire.failure is not None:  # litellm took it for the end of a stream
                    raise wire.failure
        except InvalidRequest as error:
            if error is not exchange.failure or not remembered:
                raise
            # Without options, too, the call may go elsewhere by now, such as for a new token.
            self._origins.pop(call.known.full_name, None)
            raise UpstreamUnavailable(f"{error.message}: to be looked up again") from error

    async def _origins_of(self, call: Call) -> tuple[frozenset[str] | None, bool]:
        """The servers of the same call without options, and whether they were looked up
        earlier. (None, False) for a call that has no options."""
        if call.plain is None:
            return None, False
        if (origins := self._origins.get(call.known.full_name)) is not None:
            return origins, True
        rehearsal = Rehearsal(
            call.known.provider, self._config.max_answer_bytes, _chosen(call.known)
        )
        messages = [{"role": "user", "content": rehearsal.prompt}]
        try:
            async with self._mapped(rehearsal, call), asyncio.timeout(call.seconds):
                await litellm.acompletion(
                    **call.plain, **_NO_RETRIES, messages=messages, timeout=call.seconds
                )
        except BackendError:
            if not rehearsal.reached:
                raise
        if len(self._origins) >= _KEPT:
            self._origins.clear()
        origins = self._origins[call.known.full_name] = frozenset(rehearsal.seen)
        return origins, False

    @asynccontextmanager
    async def _mapped(self, exchange: Exchange, call: Call) -> AsyncIterator[None]:
        provider = call.known.provider
        exchange.begin()
        try:
            yield
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"{provider} did not answer in time ({call.seconds:g} s for one attempt)"
            ) from error
        except BackendError as error:
            raise (exchange.wire and exchange.wire.failure) or error from error.__cause__
        except Exception as error:
            failure = exchange.failure or self._failure(error, exchange)
            if exchange.pinned and not exchange.asked and isinstance(failure, UpstreamUnavailable):
                # litellm failed before any request, and does not fail without the options.
                raise InvalidRequest(failure.message, field="provider_options") from None
            if exchange.pinned and isinstance(failure, Unsupported):
                failure.field = failure.field or "provider_options"
            raise failure from None
        finally:
            await exchange.aclose()

    def _failure(self, error: Exception, exchange: Exchange) -> Exception:
        """What an error of litellm's means; the error itself where it is no provider's."""
        wire = exchange.wire
        if wire is not None and wire.failure is not None:
            return wire.failure
        if wire is not None and wire.reported is not None:
            return error_reported(error, wire.reported, wire, exchange.provider, self._redact)
        succeeded = wire is not None and wire.succeeded and not wire.broken
        known = isinstance(error, openai.OpenAIError)  # the base of all that is a provider's
        if succeeded and (not known or (wire is not None and wire.answered)):
            # litellm has no class for an answer that it cannot read.
            log.warning("litellm cannot read an answer", type=type(error).__qualname__)
            kind = UnreadableAnswer if wire is not None and wire.answered else UpstreamUnavailable
            return kind(f"{exchange.provider}'s answer cannot be read ({type(error).__name__})")
        return error_from(error, succeeded, exchange.provider, self._redact) if known else error


def _check_end(chunks: Any, wire: Wire, provider: str) -> None:
    """Raise where a stream is not whole: litellm ends each with a finish_reason, of its own
    if need be, and keeps the provider's."""
    if wire.finish:
        return
    if not hasattr(chunks, "received_finish_reason"):  # text-completion-openai
        raise Unsupported(f"litellm does not say whether a stream of {provider} is whole")
    if not (chunks.received_finish_reason or chunks.intermittent_finish_reason):
        raise UpstreamUnavailable(f"{provider}'s stream broke off before its end")


def _chosen(known: Known) -> str:
    """The model's name, if a caller chose it and not the configuration."""
    return "" if known.listed else known.model

"""Calls litellm.acompletion. Every failure is raised as a BackendError. Imports litellm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import litellm
import openai

from services.common.errors import (
    BackendError,
    InvalidRequest,
    ModelMisconfigured,
    UnreadableAnswer,
    Unsupported,
    UpstreamUnavailable,
)
from services.common.hosted.config import Timeouts
from services.common.hosted.errors import too_slow
from services.common.hosted.http import make_http_session
from services.common.hosted.journal import Entry
from services.common.hosted.keys import Redactor
from services.common.hosted.request import OPTIONS
from services.common.log import log
from services.litellm.catalogue import ProviderModel
from services.litellm.config import LiteLlmConfig
from services.litellm.errors import convert_exception, guess_type
from services.litellm.exchange import Exchange, Rehearsal
from services.litellm.raw_answer import RawAnswer
from services.litellm.transport import install

#: services.common.hosted.retry is the only layer that retries, and callers run their own tools:
#: litellm's gateway for tools needs a library that is not installed.
_PLAIN = {"max_retries": 0, "num_retries": 0, "_skip_mcp_handler": True}

#: Seconds that litellm gets in addition to the timeout of a call, so that ours ends the call.
_SLACK = 60

_MAX_KEPT = 4096  # models, because their names come from callers


@dataclass(frozen=True)
class CompletionArguments:
    """The arguments of one call of acompletion.

    arguments: all except those for retries, time and streaming. plain: only those of the
    configuration, which show where the call goes without the caller's options; None if the caller
    sets no options. timeouts: of one attempt.
    """

    model: ProviderModel
    arguments: Mapping[str, Any]
    plain: Mapping[str, Any] | None
    timeouts: Timeouts


class LiteLlmUpstream:
    """litellm.acompletion, unary and streamed. Cancelling a call ends the provider's request.

    Make and close it on the same event loop.
    """

    def __init__(self, config: LiteLlmConfig, redact: Redactor) -> None:
        self._config = config
        self._redact = redact
        self._session = make_http_session()
        self._origins: dict[str, frozenset[str]] = {}  # by the model's full name
        install(self._session, config.connect_timeout_seconds)

    async def aclose(self) -> None:
        """Close all connections."""
        await litellm.close_litellm_async_clients()
        # Otherwise litellm would reuse clients whose session is closed.
        litellm.in_memory_llm_clients_cache.flush_cache()
        vars(litellm).pop("module_level_aclient", None)
        await self._session.close()

    def new_answer(self, call: CompletionArguments, entry: Entry | None = None) -> RawAnswer:
        """Make the RawAnswer for one attempt at a call."""
        return RawAnswer(call.model.provider, self._redact, entry)

    async def complete(self, call: CompletionArguments, answer: RawAnswer) -> Any:
        """Request a whole completion. Returns a ModelResponse."""
        async with self._exchange(call, answer), asyncio.timeout(call.timeouts.total):
            return await litellm.acompletion(
                **call.arguments, **_PLAIN, timeout=call.timeouts.total + _SLACK
            )

    async def stream(
        self, call: CompletionArguments, answer: RawAnswer
    ) -> AsyncGenerator[Any, None]:
        """Request a stream and yield its chunks. Closing the generator ends the request."""
        ends = asyncio.get_running_loop().time() + call.timeouts.total
        async with self._exchange(call, answer, self._config.max_stream_bytes):
            async with asyncio.timeout_at(ends):
                chunks = await litellm.acompletion(
                    **call.arguments,
                    **_PLAIN,
                    timeout=call.timeouts.total + _SLACK,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            async with aclosing(chunks):
                while True:
                    # Around each wait separately, so that no timeout is raised during a yield.
                    async with asyncio.timeout_at(ends):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                    yield chunk
            _check_end(chunks, answer, call.model.provider)

    @asynccontextmanager
    async def _exchange(
        self, call: CompletionArguments, answer: RawAnswer, max_stream: int | None = None
    ) -> AsyncIterator[None]:
        """Run one call: close its responses at the end, and map its errors to BackendErrors."""
        origins, remembered = await self._find_origins(call)
        exchange = Exchange(
            call.model.provider,
            self._config.max_answer_bytes,
            max_stream,
            origins=origins,
            name=_name_from_caller(call.model),
            answer=answer,
            timeouts=call.timeouts,
        )
        try:
            async with self._mapped(exchange, call):
                yield
                if answer.failure is not None:  # litellm took it for the end of a stream
                    raise answer.failure
        except InvalidRequest as error:
            if error is not exchange.failure or not remembered:
                raise
            # The destination without options may have changed, such as for a new token.
            self._origins.pop(call.model.full_name, None)
            raise UpstreamUnavailable(f"{error.message}: try again") from error

    async def _find_origins(self, call: CompletionArguments) -> tuple[frozenset[str] | None, bool]:
        """Return the servers that the same call without options uses, and whether they were known.

        Returns (None, False) for a call that has no options.
        """
        if call.plain is None:
            return None, False
        if (origins := self._origins.get(call.model.full_name)) is not None:
            return origins, True
        rehearsal = Rehearsal(
            call.model.provider, self._config.max_answer_bytes, _name_from_caller(call.model)
        )
        messages = [{"role": "user", "content": rehearsal.prompt}]
        try:
            async with self._mapped(rehearsal, call), asyncio.timeout(call.timeouts.total):
                await litellm.acompletion(
                    **call.plain, **_PLAIN, messages=messages, timeout=call.timeouts.total + _SLACK
                )
        except BackendError:
            if not rehearsal.reached:
                raise
        if len(self._origins) >= _MAX_KEPT:
            self._origins.clear()
        origins = self._origins[call.model.full_name] = frozenset(rehearsal.seen)
        return origins, False

    @asynccontextmanager
    async def _mapped(self, exchange: Exchange, call: CompletionArguments) -> AsyncIterator[None]:
        """Map all errors in the block to BackendErrors, and close the exchange."""
        provider = call.model.provider
        exchange.begin()
        try:
            yield
        except TimeoutError as error:
            raise too_slow(provider, call.timeouts) from error
        except BackendError as error:
            error = (exchange.answer and exchange.answer.failure) or error
            error.metadata.setdefault("provider", provider)
            raise error from error.__cause__
        except Exception as error:
            failure = exchange.failure or self._convert(error, exchange)
            if exchange.pinned and not exchange.sent and isinstance(failure, UpstreamUnavailable):
                # litellm failed before it sent a request. Without the options it sends one.
                raise InvalidRequest(failure.message, field=OPTIONS) from None
            if not exchange.sent and isinstance(failure, UpstreamUnavailable):
                # Another try would fail as well.
                failure = ModelMisconfigured(failure.message, metadata=failure.metadata)
            if exchange.pinned and isinstance(failure, Unsupported):
                failure.field = failure.field or OPTIONS
            if isinstance(failure, BackendError):
                failure.metadata.setdefault("provider", provider)
            raise failure from None
        finally:
            await exchange.aclose()

    def _convert(self, error: Exception, exchange: Exchange) -> Exception:
        """Make the BackendError for an exception of litellm. A bug is returned unchanged."""
        provider, answer = exchange.provider, exchange.answer
        if answer is not None and answer.failure is not None:
            return answer.failure
        if answer is not None and answer.reported is not None:
            return answer.to_error(answer.reported, guess_type(error))
        if answer is not None and answer.words and not answer.answered:
            return answer.no_answer("text")
        succeeded = answer is not None and answer.succeeded and not answer.broken
        answered = answer is not None and answer.answered
        from_litellm = isinstance(error, openai.OpenAIError)  # the base of its exceptions
        if succeeded and (answered or not from_litellm):
            # litellm has no exception for an answer that it cannot read.
            log.warning("litellm cannot read an answer", type=type(error).__qualname__)
            kind = UnreadableAnswer if answered else UpstreamUnavailable
            return kind(f"{provider}'s answer cannot be read ({type(error).__name__})")
        if not from_litellm:
            return error
        return convert_exception(
            error, answer.status if answer else 0, succeeded, provider, self._redact
        )


def _check_end(chunks: Any, answer: RawAnswer, provider: str) -> None:
    """Raise UpstreamUnavailable if a stream is incomplete.

    litellm gives every stream a finish_reason, so the provider's own one decides.
    """
    if answer.finish_word:
        return
    if not hasattr(chunks, "received_finish_reason"):  # text-completion-openai
        raise Unsupported(f"litellm does not say whether a stream of {provider} is whole")
    if not (chunks.received_finish_reason or chunks.intermittent_finish_reason):
        words = f": {answer.words}" if answer.words else ""
        raise UpstreamUnavailable(f"{provider}'s stream broke off before its end{words}")


def _name_from_caller(model: ProviderModel) -> str:
    """The model's name if a caller chose it; "" for a model of the configuration."""
    return "" if model.listed else model.model

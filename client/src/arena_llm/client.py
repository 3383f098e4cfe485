"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar, Unpack

from arena_llm._attempt import Attempt
from arena_llm._base import BaseClient
from arena_llm._channel import SyncLink
from arena_llm._grpc import grpc
from arena_llm._request import (
    Call,
    generate_call,
    generate_calls,
    is_available_call,
    list_models_call,
    score_call,
    stream_call,
)
from arena_llm._stream import BaseStream
from arena_llm.errors import ArenaError
from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    GenerateOptions,
    Message,
    ModelList,
    Score,
)

T = TypeVar("T")


class Client(BaseClient):
    """Asks models for completions, through the router or from one backend.

    target: host:port; else the environment's ARENA_LLM_TARGET, else localhost:50050.
    timeout: seconds for a whole call that is given no timeout of its own, 600 by
    default; math.inf for no bound.

    Nothing is connected before the first call. One client serves all threads,
    and pickles. After its first call, a child that is forked cannot call: start it
    with spawn. Every failed call raises an ArenaError; see arena_llm.errors.
    A call that cannot connect is tried again for up to 2 seconds, and none is
    ever repeated that may have reached a server.
    """

    _link_type = SyncLink
    _link: SyncLink

    def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Iterable[Message] | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """Return one whole completion of a prompt or of messages.

        prompt: one user message for a chat model, raw text for a base model.
        timeout: seconds for the whole call; None means the client's.
        options: see GenerateOptions.
        """
        return self._send(generate_call(model, prompt, messages, options), timeout)

    def stream(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Iterable[Message] | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """Return a completion as it grows; arguments are those of generate."""
        call = stream_call(model, prompt, messages, options)
        return Stream(self._attempt(call, timeout))

    def generate_many(
        self,
        model: str,
        prompts: Iterable[str | Iterable[Message]],
        *,
        concurrency: int = 32,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion | ArenaError]:
        """Return a completion for each prompt (or list of messages), in order.

        A call that fails leaves its error in its own place; nothing is raised for it.
        concurrency: most calls at once, each on a thread of its own.
        timeout: seconds for each call, counted from its own start.
        """
        calls = generate_calls(model, prompts, options, concurrency)
        each = self.timeout if timeout is None else timeout
        # When this is interrupted, closing the branch ends these calls and no
        # others, so that the pool, which is left last, has nothing to wait for.
        with (
            ThreadPoolExecutor(min(concurrency, len(calls) or 1), "arena-llm") as pool,
            self._link.branch() as link,
        ):

            def outcome(call: Call[Completion] | ArenaError) -> Completion | ArenaError:
                try:
                    if isinstance(call, ArenaError):
                        raise call
                    return _send(Attempt(link, call, each))
                except ArenaError as error:
                    return error

            return list(pool.map(outcome, calls))

    def score(
        self,
        model: str,
        prompt: str | None,
        continuations: Iterable[str],
        *,
        messages: Iterable[Message] | None = None,
        session: str = "",
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> list[Score]:
        """Return each continuation's summed natural log-probability after the prompt.

        In the order given. With messages, prompt is None. Local backends only:
        hosted ones raise UnsupportedError.
        """
        call = score_call(model, prompt, continuations, messages, session, labels)
        return self._send(call, timeout)

    def is_available(self, model: str = "", *, timeout: float | None = None) -> Availability:
        """Tell whether a model is usable now, and if not, how to fix it.

        Without a model: the whole service, naming backends that cannot be reached.
        """
        return self._send(is_available_call(model), timeout)

    def list_models(self, *, timeout: float | None = None) -> ModelList:
        """Return every model, as a sequence; `.unreachable` are backends not asked."""
        return self._send(list_models_call(), timeout)

    def close(self) -> None:
        """Cancel what runs and refuse calls from now on. Harmless twice."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, call: Call[T], timeout: float | None = None) -> T:
        return _send(self._attempt(call, timeout))


def _send(attempt: Attempt[T]) -> T:
    while True:
        try:
            reply = attempt.start()
        # ValueError: the channel was closed under the call.
        except (grpc.RpcError, ValueError) as error:
            pause = attempt.pause_after(error)
        else:
            return attempt.call.convert(reply)
        time.sleep(pause)


class Stream(BaseStream, Iterator[str]):
    """A completion as it grows: iterating gives the text's deltas.

    `events()` gives deltas of text and reasoning instead; `completion` is there
    after the end. The call starts at the first read. It is cancelled when the
    stream is closed, leaves its `with`, or is dropped.
    """

    def __next__(self) -> str:
        while (delta := self._read()) is not None:
            if delta.text:
                return delta.text
        raise StopIteration

    def events(self) -> Iterator[Delta]:
        """Yield what is still to come, text and reasoning, in its order."""
        while (delta := self._read()) is not None:
            yield delta

    def close(self) -> None:
        """Cancel the call if it still runs. Harmless twice."""
        self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cancel()

    def _read(self) -> Delta | None:
        while not self._ended:
            try:
                event = next(self._open())
            except StopIteration:
                self._finish()
            # ValueError: the channel was closed under the call.
            except (grpc.RpcError, ValueError) as error:
                time.sleep(self._pause_after(error))
            else:
                if (delta := self._take(event)) is not None:
                    return delta
        return None

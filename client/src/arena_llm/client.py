"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar, Unpack

from arena_llm._fork import grpc
from arena_llm._request import (
    Call,
    Messages,
    build_availability_call,
    build_generate_call,
    build_generate_calls,
    build_health_call,
    build_models_call,
    build_score_call,
    build_stream_call,
)
from arena_llm._stream import BaseStream
from arena_llm._transport import BaseClient, PendingCall, SyncLink
from arena_llm.errors import ArenaError
from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    GenerateOptions,
    ModelList,
    Score,
)

T = TypeVar("T")


class Client(BaseClient):
    """Calls models, through the router or one backend directly.

    target: HOST:PORT. None means ARENA_LLM_TARGET of the environment, else
        localhost:$ARENA_ROUTER_PORT, else localhost:50050.
    timeout: seconds for each call without a timeout of its own; math.inf for no limit.

    The client connects at the first call. All threads may use one client, and it can be
    pickled. After the first call, a forked child cannot make calls: start it with spawn.
    A failed call raises an ArenaError; see arena_llm.errors. A call that cannot connect is
    tried again for up to 2 seconds. A call that may have reached a server is never repeated.
    """

    _link_type = SyncLink
    _link: SyncLink

    def generate(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """Return one completion of a prompt or of messages.

        prompt: one user message for a chat model, raw text for a base model.
        messages: Message objects, or mappings {"role": ..., "content": ...}.
        timeout: seconds for the whole call; None means the client's timeout.
        options: see GenerateOptions.
        """
        return self._send(build_generate_call(model, prompt, messages, options), timeout)

    def stream(
        self,
        model: str,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """Return a completion as a stream; the arguments are those of generate.

        with client.stream(model, "Your move?") as stream:
            for text in stream:  # strings; stream.events() yields Delta objects
                print(text, end="")
        print(stream.completion.usage)
        """
        return Stream(self._pending(build_stream_call(model, prompt, messages, options), timeout))

    def generate_many(
        self,
        model: str,
        prompts: Iterable[str | Messages],
        *,
        concurrency: int = 32,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion | ArenaError]:
        """Return a completion for each prompt (or list of messages), in the same order.

        A failed call has its error in place of its completion; it does not raise.
        concurrency: the largest number of concurrent calls; each has its own thread.
        timeout: seconds for each call, from its own start.
        """
        calls = build_generate_calls(model, prompts, options, concurrency)
        each = self.timeout if timeout is None else timeout
        # On an interrupt, closing the branch ends these calls and no others. The pool is
        # closed after the branch, when it no longer has a call to wait for.
        with (
            ThreadPoolExecutor(min(concurrency, len(calls) or 1), "arena-llm") as pool,
            self._link.branch() as link,
        ):

            def outcome(call: Call[Completion] | ArenaError) -> Completion | ArenaError:
                try:
                    if isinstance(call, ArenaError):
                        raise call
                    return _send(PendingCall(link, call, each))
                except ArenaError as error:
                    return error

            return list(pool.map(outcome, calls))

    def score(
        self,
        model: str,
        prompt: str | None,
        continuations: Iterable[str],
        *,
        messages: Messages | None = None,
        session: str = "",
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> list[Score]:
        """Return the summed natural log-probability of each continuation, in their order.

        A continuation begins where a completion would begin. For a chat model that is the
        start of the reply, so a continuation has no leading space ("Paris"). For a base model
        it is right after the prompt's last character, so a new word has one (" Paris").
        With messages, prompt is None.
        Only local backends can score; the others raise UnsupportedError.
        """
        call = build_score_call(model, prompt, continuations, messages, session, labels)
        return self._send(call, timeout)

    def is_available(self, model: str = "", *, timeout: float | None = None) -> Availability:
        """Return whether a model is usable now, and if not, how to fix it.

        Without a model, return whether the service is usable, and which backends it cannot
        reach.
        """
        return self._send(build_availability_call(model), timeout)

    def list_models(self, *, timeout: float | None = None) -> ModelList:
        """Return every model. `unreachable` lists the backends whose models are missing."""
        return self._send(build_models_call(), timeout)

    def health(self, *, timeout: float | None = None) -> str:
        """Return the status of the target's health check: "SERVING" or "NOT_SERVING"."""
        return self._send(build_health_call(), timeout)

    def close(self) -> None:
        """Cancel running calls and refuse further ones. A second close does nothing."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[T], timeout: float | None = None) -> T:
        return _send(self._pending(call, timeout))


def _send(pending: PendingCall[T]) -> T:
    while True:
        try:
            reply = pending.start()
        # ValueError: the channel was closed during the call.
        except (grpc.RpcError, ValueError) as error:
            pause = pending.pause_after(error)
        else:
            return pending.call.convert(reply)
        time.sleep(pause)


class Stream(BaseStream, Iterator[str]):
    """A completion in pieces: iteration yields the text as strings.

    `events()` yields Delta objects instead, with text or reasoning. After the end,
    `completion` is the whole completion. The first read starts the call. Closing or
    dropping the stream, or leaving its `with` block, cancels the call.
    """

    def __next__(self) -> str:
        while (delta := self._read()) is not None:
            if delta.text:
                return delta.text
        raise StopIteration

    def events(self) -> Iterator[Delta]:
        """Yield the rest of the stream, text and reasoning, in order."""
        while (delta := self._read()) is not None:
            yield delta

    def close(self) -> None:
        """Cancel the call if it still runs. A second close does nothing."""
        self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cancel()

    def _read(self) -> Delta | None:
        while not self._ended:
            try:
                event = next(self._open())
            except StopIteration:
                self._finish()
            # ValueError: the channel was closed during the call.
            except (grpc.RpcError, ValueError) as error:
                time.sleep(self._pause_after(error))
            else:
                if (delta := self._take(event)) is not None:
                    return delta
        return None

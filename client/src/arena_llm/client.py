"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Self, TypeVar, Unpack

from arena_llm._arguments import Messages, Prompt
from arena_llm._base import BaseClient, PendingCall
from arena_llm._fork import grpc
from arena_llm._request import (
    Call,
    Outcome,
    build_availability_call,
    build_count_call,
    build_generate_call,
    build_generate_calls,
    build_info_call,
    build_models_call,
    build_score_call,
    build_stream_call,
    join_pages,
)
from arena_llm._stream import BaseStream, StreamEvent
from arena_llm._transport import SyncLink, build_health_call
from arena_llm.errors import ArenaError
from arena_llm.types import (
    Availability,
    Completion,
    ContinuationBoundary,
    Delta,
    GenerateOptions,
    ModelList,
    Scoring,
    ServiceInfo,
    TokenCount,
    Tool,
)

T = TypeVar("T")


class Client(BaseClient):
    """Calls models, through the router or one backend directly.

    target: HOST:PORT. None means ARENA_LLM_TARGET of the environment, else
        localhost:$ARENA_ROUTER_PORT, else localhost:50050.
    timeout: the default for each call, in seconds; math.inf for no limit.
    token: for a router that needs one. None means ARENA_LLM_TOKEN of the environment; "": none.
    tls: an arena_llm.tls.Tls; True: the public authorities; False: no encryption. None means the
        variables that arena_llm.tls lists, such as ARENA_LLM_CA, else no encryption.

    The client connects at the first call. All threads may use one client, and it can be
    pickled, with its token. After the first call, a forked child cannot make calls: start it with
    spawn. A failed call raises an ArenaError; see arena_llm.errors. A call that cannot connect is
    retried for up to 2 seconds. A call that may have reached a server is never repeated.
    """

    _link_type = SyncLink
    _link: SyncLink

    def generate(
        self,
        model: str,
        prompt: Prompt | None = None,
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
        prompt: Prompt | None = None,
        *,
        messages: Messages | None = None,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """Return a completion as a stream; the arguments are those of generate.

        with client.stream(model, "Your move?") as stream:
            for text in stream:  # strings; stream.events() yields every event
                print(text, end="")
        print(stream.completion.usage)
        """
        return Stream(self._pending(build_stream_call(model, prompt, messages, options), timeout))

    def generate_many(
        self,
        model: str,
        prompts: Iterable[Prompt | Messages],
        *,
        concurrency: int = 32,
        timeout: float | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Iterator[Outcome]:
        """Yield (index, completion) for each prompt or conversation, as the calls end.

        index: the prompt's position. A failed call has its error in place of its completion; it
        does not raise. `dict(client.generate_many(...))` waits for all.

        prompts: read as places become free, so it may be an endless generator.
        concurrency: the largest number of concurrent calls; each has its own thread.
        timeout: seconds for each call, from its own start.
        Leaving the loop cancels the calls that run.
        """
        calls = build_generate_calls(model, prompts, options, concurrency)
        return self._send_many(calls, concurrency, self.timeout if timeout is None else timeout)

    def _send_many(
        self, calls: Iterable[Call[Completion] | ArenaError], concurrency: int, timeout: float
    ) -> Iterator[Outcome]:
        def send(link: SyncLink, call: Call[Completion] | ArenaError) -> Completion | ArenaError:
            try:
                if isinstance(call, ArenaError):
                    return call
                return _send(PendingCall(link, call, timeout, self._caller))
            except ArenaError as error:
                return error

        numbered = enumerate(calls)
        # On an interrupt, closing the branch ends these calls and no others. The pool is
        # closed after the branch, when it no longer has a call to wait for.
        with (
            ThreadPoolExecutor(concurrency, "arena-llm") as pool,
            self._link.branch() as link,
        ):
            running: dict[Future[Completion | ArenaError], int] = {}
            outcomes: list[Outcome] = []
            while True:
                for index, call in islice(numbered, concurrency - len(running)):
                    running[pool.submit(send, link, call)] = index
                # The next calls run while the caller handles these.
                yield from outcomes
                if not running:
                    return
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                outcomes = [(running.pop(future), future.result()) for future in ended]

    def score(
        self,
        model: str,
        prompt: Prompt | None,
        continuations: Iterable[str | Sequence[int]] = (),
        *,
        messages: Messages | None = None,
        boundary: ContinuationBoundary | str | None = None,
        prompt_logprobs: bool = False,
        top_logprobs: int | None = None,
        session: str = "",
        labels: Mapping[str, str] | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Scoring:
        """Return the log-probability of each continuation, in their order.

        continuations: texts, or lists of token ids. A text begins where a completion would begin.
            For a chat model that is the start of the reply, so it has no leading space ("Paris").
            For a base model it is right after the prompt's last character, so a new word has one
            (" Paris"). With messages, prompt is None.
        boundary: "separate" (the default) or "joined"; see ContinuationBoundary.
        prompt_logprobs: also score the prompt's own tokens.
        top_logprobs: the number of alternatives to return at each position.
        Only local backends can score; the others raise UnsupportedError.
        """
        call = build_score_call(
            model,
            prompt,
            continuations,
            messages,
            boundary=boundary,
            prompt_logprobs=prompt_logprobs,
            top_logprobs=top_logprobs,
            session=session,
            labels=labels,
            template_arguments=template_arguments,
        )
        return self._send(call, timeout)

    def count_tokens(
        self,
        model: str,
        prompt: Prompt | None = None,
        *,
        messages: Messages | None = None,
        tools: Sequence[Tool] | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        return_tokens: bool = False,
        timeout: float | None = None,
    ) -> TokenCount:
        """Return the number of tokens of an input, after the chat template.

        return_tokens: also return the token ids and the rendered prompt.
        """
        call = build_count_call(
            model,
            prompt,
            messages,
            tools=tools,
            template_arguments=template_arguments,
            return_tokens=return_tokens,
        )
        return self._send(call, timeout)

    def is_available(self, model: str, *, timeout: float | None = None) -> Availability:
        """Return whether a model is usable now, and if not, how to fix it."""
        return self._send(build_availability_call(model), timeout)

    def list_models(self, name_prefix: str = "", *, timeout: float | None = None) -> ModelList:
        """Return every model whose name starts with `name_prefix`; without it, every model.

        `unreachable` lists the backends whose models are missing.
        """
        pages: list[ModelList] = []
        token = ""
        while not pages or token:
            page = self._send(build_models_call(name_prefix, token), timeout)
            pages.append(page)
            token = page.next_page_token
        return join_pages(pages)

    def service_info(self, *, timeout: float | None = None) -> ServiceInfo:
        """Return the version, the limits and the backends of the target."""
        return self._send(build_info_call(), timeout)

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

    `events()` yields every event instead: who answers, deltas of any kind, and signs of life.
    After the end, `completion` is the whole completion. The first read starts the call. Closing or
    dropping the stream, or leaving its `with` block, cancels the call.
    """

    def __next__(self) -> str:
        while (event := self._read()) is not None:
            if isinstance(event, Delta) and event.text:
                return event.text
        raise StopIteration

    def events(self) -> Iterator[StreamEvent]:
        """Yield the rest of the stream in order: StreamStart, Delta and Progress objects."""
        while (event := self._read()) is not None:
            yield event

    def close(self) -> None:
        """Cancel the call if it still runs. A second close does nothing."""
        self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cancel()

    def _read(self) -> StreamEvent | None:
        while not self._ended:
            try:
                message = next(self._open())
            except StopIteration:
                self._finish()
            # ValueError: the channel was closed during the call.
            except (grpc.RpcError, ValueError) as error:
                time.sleep(self._pause_after(error))
            else:
                if (event := self._take(message)) is not None:
                    return event
        return None

"""Scores from single steps of the engine, so that the shared prefix stays in its cache.

vLLM's own log-probabilities of prompts would do as well, but a request for them reads no
cache, holds [prompt tokens, vocabulary] of logits at once, and on a CPU ends an engine
with LoRA adapters. Instead the continuations form a tree of tokens: each inner node is
one request for one token, and asks for the log-probabilities of the tokens that follow
there by name. What continuations begin with alike is asked once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

T = TypeVar("T")

#: Tokens from the prompt's end to a place in the tree.
Path = tuple[int, ...]

#: Gives the log-probabilities of these tokens at that place.
Ask = Callable[[Path, list[int]], Awaitable[Mapping[int, float]]]

#: Tokens that vLLM tells of by name in one request (MAX_LOGPROB_TOKEN_IDS).
_MOST_TOKENS = 128


def tree(continuations: Sequence[Sequence[int]]) -> dict[Path, list[int]]:
    """Each place at which tokens are to be scored, with those tokens."""
    followers: dict[Path, dict[int, None]] = {}
    for tokens in continuations:
        for place, token in enumerate(tokens):
            followers.setdefault(tuple(tokens[:place]), {})[token] = None
    return {path: [*tokens] for path, tokens in followers.items()}


async def sums(continuations: Sequence[Sequence[int]], ask: Ask, at_once: int) -> list[float]:
    """Each continuation's log-probability; `ask` is called for `at_once` places at once."""
    places = tree(continuations)
    asked = [
        (path, tokens[start : start + _MOST_TOKENS])
        for path, tokens in places.items()
        for start in range(0, len(tokens), _MOST_TOKENS)
    ]
    known: dict[Path, dict[int, float]] = {path: {} for path in places}
    answers = await all_of([partial(ask, *place) for place in asked], at_once)
    for (path, _), answer in zip(asked, answers, strict=True):
        known[path].update(answer)
    return [
        sum(known[tuple(tokens[:place])][token] for place, token in enumerate(tokens))
        for tokens in continuations
    ]


async def all_of(calls: Sequence[Callable[[], Awaitable[T]]], at_once: int) -> list[T]:
    """What the calls return, in their order; the first error is raised and ends the rest."""
    free = asyncio.Semaphore(at_once)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with free:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in calls]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]

"""Scores of a tree of tokens, each from a single step of the engine.

vLLM can return the log-probabilities of a prompt, but such a request reads no prefix cache,
needs [prompt tokens, vocabulary] of logits in memory, and on a CPU kills an engine with LoRA
adapters. Instead, the continuations form a tree of tokens. Each inner node is a request for
one token that asks for the log-probabilities of the tokens that follow. Common prefixes of
the continuations are computed once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from services.common.local.trace import ScoredText, ScoredToken

T = TypeVar("T")

#: Tokens from the end of the prompt to a node of the tree.
Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScoredPlace:
    """What the model gives after a path.

    logprobs: of the tokens that were requested. best: of the likeliest token. top: the likeliest
    tokens with their log-probabilities.
    """

    logprobs: Mapping[int, float]
    best: float
    top: tuple[tuple[int, float], ...] = ()


#: Returns the place after the path, with the log-probabilities of these tokens.
Ask = Callable[[Path, list[int]], Awaitable[ScoredPlace]]

#: Most tokens whose log-probabilities one request can ask for (vLLM's MAX_LOGPROB_TOKEN_IDS).
_MAX_TOKENS = 128


def build_tree(continuations: Sequence[Sequence[int]]) -> dict[Path, list[int]]:
    """Each path after which tokens are scored, with those tokens."""
    followers: dict[Path, dict[int, None]] = {}
    for tokens in continuations:
        for place, token in enumerate(tokens):
            followers.setdefault(tuple(tokens[:place]), {})[token] = None
    return {path: [*tokens] for path, tokens in followers.items()}


async def score_continuations(
    continuations: Sequence[Sequence[int]], ask: Ask, max_concurrent: int
) -> list[ScoredText]:
    """The scores of the continuations, with `max_concurrent` requests at a time."""
    tree = build_tree(continuations)
    requests = [
        (path, tokens[start : start + _MAX_TOKENS])
        for path, tokens in tree.items()
        for start in range(0, len(tokens), _MAX_TOKENS)
    ]
    places: dict[tuple[Path, int], ScoredPlace] = {}
    answers = await run_bounded([partial(ask, *request) for request in requests], max_concurrent)
    for (path, tokens), answer in zip(requests, answers, strict=True):
        places |= dict.fromkeys(((path, token) for token in tokens), answer)
    return [
        make_scored(
            tokens,
            [places[tuple(tokens[:place]), token] for place, token in enumerate(tokens)],
        )
        for tokens in continuations
    ]


def make_scored(tokens: Sequence[int], places: Sequence[ScoredPlace]) -> ScoredText:
    """The scores of the tokens, each at its place."""
    scored = [
        ScoredToken(place.logprobs[token], place.top)
        for token, place in zip(tokens, places, strict=True)
    ]
    is_greedy = all(
        token.logprob >= place.best for token, place in zip(scored, places, strict=True)
    )
    return ScoredText(scored, is_greedy)


async def run_bounded(calls: Sequence[Callable[[], Awaitable[T]]], max_concurrent: int) -> list[T]:
    """The results of the calls, in order. The first error cancels the rest and is raised."""
    free = asyncio.Semaphore(max_concurrent)

    async def run(call: Callable[[], Awaitable[T]]) -> T:
        async with free:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(call)) for call in calls]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]

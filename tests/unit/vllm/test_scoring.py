"""The tree of continuations: its requests and the resulting sums."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from services.common.errors import UpstreamUnavailable
from services.vllm.scoring import Path, ScoredPlace, build_tree, score_continuations


def logprob(path: Sequence[int], token: int) -> float:
    """A different value for each token after each path."""
    return -random.Random(str((*path, token))).random()  # noqa: S311


class Engine:
    """Answers like a model. Records the requests and how many ran at the same time."""

    def __init__(self) -> None:
        self.asked: list[tuple[Path, list[int]]] = []
        self.concurrent: list[int] = []
        self._now = 0

    async def ask(self, path: Path, tokens: list[int]) -> ScoredPlace:
        self.asked.append((path, tokens))
        self._now += 1
        self.concurrent.append(self._now)
        await asyncio.sleep(0)
        self._now -= 1
        return ScoredPlace({token: logprob(path, token) for token in tokens}, best=logprob(path, 4))


def test_a_common_prefix_is_requested_once() -> None:
    assert build_tree([[1, 2], [1, 3], [4], [1, 2, 5]]) == {(): [1, 4], (1,): [2, 3], (1, 2): [5]}


async def test_the_sum_over_each_continuations_tokens() -> None:
    draw = random.Random(0)  # noqa: S311
    continuations = [[draw.randint(0, 9) for _ in range(draw.randint(1, 6))] for _ in range(200)]
    expected = [
        sum(logprob(tokens[:place], token) for place, token in enumerate(tokens))
        for tokens in continuations
    ]
    scored = await score_continuations(continuations, Engine().ask, 8)
    assert [text.logprob for text in scored] == pytest.approx(expected)
    assert [len(text.tokens) for text in scored] == [len(tokens) for tokens in continuations]


async def test_a_text_is_greedy_if_each_token_is_as_likely_as_the_best() -> None:
    scored = await score_continuations([[4, 4], [4, 5], [4]], Engine().ask, 8)
    best = [logprob((4,), token) <= logprob((4,), 4) for token in (4, 5)]
    assert [text.is_greedy for text in scored] == [True, not best[1], True]


async def test_a_request_has_a_bounded_number_of_tokens() -> None:
    engine = Engine()
    await score_continuations([[token] for token in range(300)], engine.ask, 8)
    assert Counter(len(tokens) for _, tokens in engine.asked) == {128: 2, 44: 1}
    assert {path for path, _ in engine.asked} == {()}


async def test_the_number_of_concurrent_requests_is_bounded() -> None:
    engine = Engine()
    await score_continuations([[token, 1] for token in range(50)], engine.ask, 4)
    assert max(engine.concurrent) == 4


async def test_the_first_error_is_raised_and_cancels_the_rest() -> None:
    ended: list[str] = []

    async def ask(path: Path, tokens: list[int]) -> ScoredPlace:
        if path:
            raise UpstreamUnavailable("dead")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        raise AssertionError("unreachable")

    with pytest.raises(UpstreamUnavailable):
        await score_continuations([[1, 2]], ask, 8)
    assert ended == ["cancelled"]

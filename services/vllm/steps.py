"""Log-probabilities from single steps of the engine, which reuse the cached prompt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from arena_llm.types import ReturnOptions
from services.common.local.trace import ScoredText, ScoredToken
from services.vllm.images import make_input
from services.vllm.request import make_replay_params, make_scoring_params, make_top_params
from services.vllm.response import score_token
from services.vllm.scoring import Path, ScoredPlace, run_bounded, score_continuations

#: Runs one step: inputs of make_input, SamplingParams, and the request's field to blame if vLLM
#: refuses it. Returns vLLM's RequestOutput.
Step = Callable[[Any, Any, str], Awaitable[Any]]


class Scorer:
    """Computes log-probabilities by requests for single tokens.

    max_running: the requests that the engine runs at a time.
    """

    def __init__(self, step: Step, max_running: int) -> None:
        self._step = step
        self._max_running = max_running

    async def score(
        self, prompt: list[int], continuations: Sequence[Sequence[int]], top: int
    ) -> tuple[list[ScoredText], int]:
        """The scores of the continuations, and how many tokens of the prompt were cached.

        top: the number of likeliest tokens to return with each.
        """
        cached = 0

        async def ask(path: Path, tokens: list[int]) -> ScoredPlace:
            nonlocal cached
            inputs = make_input(prompt, path)
            output = await self._step(inputs, make_scoring_params(tokens), "input")
            if not path:
                cached = output.num_cached_tokens or 0
            entries = output.outputs[0].logprobs[0]
            logprobs = {token: entries[token].logprob for token in tokens}
            # The step is greedy, so the likeliest token is among the entries.
            best = max(entry.logprob for entry in entries.values())
            return ScoredPlace(logprobs, best, await self._find_top(inputs, top))

        scored = await score_continuations(continuations, ask, self._max_running)
        return scored, cached

    async def score_prompt(self, prompt: list[int], top: int) -> list[ScoredToken]:
        """The scores of the prompt's tokens but the first, which has none."""

        async def ask(place: int) -> ScoredToken:
            inputs, token = make_input(prompt[:place]), prompt[place]
            output = await self._step(inputs, make_scoring_params([token]), "prompt_logprobs")
            logprob = output.outputs[0].logprobs[0][token].logprob
            return ScoredToken(logprob, await self._find_top(inputs, top))

        places = range(1, len(prompt))
        return await run_bounded([partial(ask, place) for place in places], self._max_running)

    async def replay(
        self, prompt: list[int], tokens: list[int], places: range, returns: ReturnOptions
    ) -> list[Mapping[int, Any]]:
        """vLLM's entries for the tokens at these places, which the completion's outputs lack.

        Each takes an extra step, which reads the prefix cache.
        """

        async def ask(place: int) -> Mapping[int, Any]:
            inputs, token = make_input(prompt, tokens[:place]), tokens[place]
            entries: dict[int, Any] = {}
            for params in make_replay_params(token, returns):
                output = await self._step(inputs, params, "returns")
                entries |= output.outputs[0].logprobs[0]
            return entries

        return await run_bounded([partial(ask, place) for place in places], self._max_running)

    async def _find_top(self, inputs: Any, top: int) -> tuple[tuple[int, float], ...]:
        """The likeliest tokens with their log-probabilities."""
        if not top:
            return ()
        output = await self._step(inputs, make_top_params(top), "top_logprobs")
        new = output.outputs[0]
        return score_token(new.token_ids[0], new.logprobs[0], top).top

"""A language model as a player."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any

from arena.agents.base import Agent, Attempt, Status, Turn
from arena.agents.config import LlmConfig
from arena.agents.prompt import as_text, in_quotes, prompt_of
from arena.agents.reply import Answer, parse_choice, parse_json
from arena.calls import Ask, ModelCall, ModelReply


class LlmAgent(Agent):
    """Asks its model once for each attempt.

    Scores are of actions in quotes, as the prompt asks for them. Bare ones would be
    compared unfairly: a reply that begins with x10 also begins with x1, which so never is
    the less likely one. The closing quote ends an action, so that none begins another.
    """

    def __init__(self, config: LlmConfig) -> None:
        self._config = config
        given = ((name, getattr(config, name)) for name in LlmConfig.SAMPLING)
        self._sampling = {name: value for name, value in given if value is not None}

    async def act(self, turn: Turn, before: Sequence[Attempt], ask: Ask) -> Attempt:
        config = self._config
        messages = prompt_of(turn, config.reply, before, config.system)
        texts = tuple(action.text for action in turn.legal)
        reply = await ask(
            ModelCall(
                config.model,
                messages,
                self._options(turn),
                choices=texts if config.reply == "choices" else None,
                continuations=(
                    tuple(map(in_quotes, turn.legal)) if config.reply == "score" else None
                ),
            )
        )
        answer = self._answer(turn, reply)
        return Attempt(
            status=answer.status,
            action=answer.action,
            problem=answer.problem,
            prompt=as_text(messages),
            reply=reply.text if reply.logprobs is None else _scores(texts, reply.logprobs),
            reasoning="\n\n".join(filter(None, (reply.reasoning, answer.reasoning))),
            model=reply.model,
            latency_ms=reply.latency_ms,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            reasoning_tokens=reply.reasoning_tokens,
            cost_usd=reply.cost_usd,
        )

    def _options(self, turn: Turn) -> dict[str, Any]:
        options = {} if self._config.reply == "score" else dict(self._sampling)
        if self._config.send_seed and self._config.reply != "score":
            options["seed"] = turn.seed
        if self._config.timeout_seconds is not None:
            options["timeout"] = self._config.timeout_seconds
        return options

    def _answer(self, turn: Turn, reply: ModelReply) -> Answer:
        if self._config.reply == "score":
            return Answer(Status.OK, self._picked(turn, reply.logprobs or ()))
        parse = parse_choice if self._config.reply == "choices" else parse_json
        answer = parse(reply.text, turn.legal)
        if answer.status is Status.UNPARSEABLE and reply.finish_reason == "length":
            cut = f"{answer.problem} (it was cut off after {reply.completion_tokens} tokens)"
            return answer._replace(problem=cut)
        return answer

    def _picked(self, turn: Turn, logprobs: Sequence[float]) -> int:
        """By the scores of the legal actions, in their order."""
        best = max(logprobs)
        pairs = list(zip(turn.legal, logprobs, strict=True))
        temperature = self._temperature()
        if temperature == 0 or math.isinf(best):
            return next(action.action for action, logprob in pairs if logprob == best)
        weights = [math.exp((logprob - best) / temperature) for logprob in logprobs]
        rng = random.Random(turn.seed)  # noqa: S311 - repeatable, not secret
        return rng.choices(turn.legal, weights)[0].action

    def _temperature(self) -> float:
        if self._config.score_pick == "argmax":
            return 0.0
        return 1.0 if self._config.temperature is None else self._config.temperature


def _scores(texts: Sequence[str], logprobs: Sequence[float]) -> str:
    """What was read in place of a reply: each action's log-probability, as JSON."""
    return json.dumps(dict(zip(texts, logprobs, strict=True)), ensure_ascii=False)

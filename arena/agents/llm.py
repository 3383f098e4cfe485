"""An agent that asks a language model."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any

from arena.agents.base import Agent, Answer, AnswerStatus, Turn
from arena.agents.calls import Ask, ModelCall, ModelReply
from arena.agents.prompt import as_text, build_prompt, quote
from arena.agents.reply import ParsedReply, parse_choice, parse_json
from arena.agents.settings import LlmSettings
from arena_llm.types import FinishReason

#: The seed of a call has 53 bits, so that every JSON reader keeps it.
_SEEDS = 2**53


class LlmAgent(Agent):
    """Calls its model once for each answer.

    With reply score it compares the probabilities of the quoted actions, as the prompt
    lists them. Bare texts cannot be compared fairly: x1 is a prefix of x10, so x1 would
    never be the less likely one. The closing quote marks where an action ends.
    """

    Settings = LlmSettings
    settings: LlmSettings

    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        settings = self.settings
        messages = build_prompt(turn, settings.reply, before, settings.system)
        texts = tuple(action.text for action in turn.legal)
        reply = await ask(
            ModelCall(
                settings.model,
                messages,
                self._call_options(turn),
                choices=texts if settings.reply == "choices" else None,
                continuations=(
                    tuple(map(quote, turn.legal)) if settings.reply == "score" else None
                ),
                store_tokens=bool(settings.store_tokens),
            )
        )
        parsed = self._parse(turn, reply)
        return Answer(
            status=parsed.status,
            action=parsed.action,
            problem=parsed.problem,
            prompt=as_text(messages),
            reply=(
                reply.text or reply.refusal
                if reply.logprobs is None
                else _scores_json(texts, reply.logprobs)
            ),
            reasoning="\n\n".join(filter(None, (reply.reasoning, parsed.reasoning))),
            call=reply,
        )

    def _call_options(self, turn: Turn) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {}
        if settings.reply != "score":
            options |= settings.sampling
            if settings.send_seed:
                options["seed"] = turn.seed % _SEEDS
        elif settings.template_arguments is not None:
            options["template_arguments"] = settings.template_arguments
        if settings.timeout_seconds is not None:
            options["timeout"] = settings.timeout_seconds
        return options

    def _parse(self, turn: Turn, reply: ModelReply) -> ParsedReply:
        if self.settings.reply == "score":
            return ParsedReply(AnswerStatus.OK, self._pick(turn, reply.logprobs or ()))
        parse = parse_choice if self.settings.reply == "choices" else parse_json
        parsed = parse(reply.text, turn.legal)
        if parsed.status is AnswerStatus.UNPARSEABLE and (why := _explain_end(reply)):
            return parsed._replace(problem=f"{parsed.problem} ({why})")
        return parsed

    def _pick(self, turn: Turn, logprobs: Sequence[float]) -> int:
        """An action by the scores of the legal actions, which are in the same order."""
        best = max(logprobs)
        temperature = self._temperature()
        if temperature == 0 or math.isinf(best):
            return turn.legal[logprobs.index(best)].action
        weights = [math.exp((logprob - best) / temperature) for logprob in logprobs]
        rng = random.Random(turn.seed)  # noqa: S311 - repeatable, not secret
        return rng.choices(turn.legal, weights)[0].action

    def _temperature(self) -> float:
        if self.settings.score_pick == "argmax":
            return 0.0
        return float(self.settings.sampling.get("temperature", 1.0))


def _explain_end(reply: ModelReply) -> str:
    """Why a reply ended before a move was complete; empty if it ended by itself."""
    match reply.finish_reason:
        case FinishReason.LENGTH:
            tokens = reply.completion_tokens
            after = "" if tokens is None else f" after {tokens} tokens"
            return f"it was cut off{after}"
        case FinishReason.CONTEXT:
            return "it was cut off because the model's context is full"
        case FinishReason.REFUSAL:
            return "the model refused to answer"
        case FinishReason.CONTENT_FILTER:
            return "the provider's content filter removed it"
        case FinishReason.TOOL_CALLS:
            return "it is a tool call"
    return ""


def _scores_json(texts: Sequence[str], logprobs: Sequence[float]) -> str:
    """The log-probability of each action as JSON, stored in place of a reply."""
    return json.dumps(dict(zip(texts, logprobs, strict=True)), ensure_ascii=False)

"""An agent that asks a language model."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from arena.agents.base import Agent, Answer, AnswerStatus, Turn
from arena.agents.calls import Ask, ModelCall, ModelReply
from arena.agents.prompt import (
    Messages,
    as_text,
    build_prompt,
    describe_replaced,
    quote,
    repeat_reply,
)
from arena.agents.reply import (
    READER_VERSION,
    Names,
    ParsedReply,
    describe_reading,
    parse_choice,
    parse_json,
    read_leniently,
)
from arena.agents.settings import LlmSettings, PromptSettings
from arena.agents.version import hash_prompts
from arena.games.game import Game, GameError
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

    def __init__(self, settings: LlmSettings) -> None:
        super().__init__(settings)
        self._prompt = settings.prompt or PromptSettings()
        self._conversation: Messages = ()  # before the turn
        self._latest: tuple[int, Messages, ParsedReply] | None = None

    @classmethod
    def check_game(cls, settings: LlmSettings, game: Game) -> None:
        """Raise GameError if the game has no board of the form that the settings name."""
        form = (settings.prompt or PromptSettings()).board
        if form not in (None, "standard") and form not in game.text.forms:
            forms = ", ".join(("standard", *game.text.forms))
            raise GameError(f"prompt.board: {game.name} has the forms {forms}, not {form!r}")

    @classmethod
    def version(cls, settings: LlmSettings, game: Game) -> str:
        """Return the hash of the game's prompts, and the version of the reader of replies."""
        prompts = hash_prompts(game, settings.reply, settings.prompt or PromptSettings())
        return f"{prompts}.{READER_VERSION}"

    def make_call(self, turn: Turn, before: Sequence[Answer] = ()) -> ModelCall:
        """Return what the model is asked at a turn. before: see `act`."""
        settings = self.settings
        messages = build_prompt(
            turn, settings.reply, before, settings.system, self._prompt, self._conversation
        )
        texts = tuple(action.text for action in turn.legal)
        return ModelCall(
            settings.model,
            messages,
            self._call_options(turn),
            choices=texts if settings.reply == "choices" else None,
            continuations=tuple(map(quote, turn.legal)) if settings.reply == "score" else None,
            store_tokens=bool(settings.store_tokens),
            preferred_schema=self._make_schema(texts),
        )

    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        if self._prompt.conversation and not before:
            self._conversation = self._continue(turn)
        call = self.make_call(turn, before)
        reply = await ask(call)
        messages, texts = call.messages, [action.text for action in turn.legal]
        strict, parsed = self._parse(turn, reply)
        shown = (
            reply.text or reply.refusal
            if reply.logprobs is None
            else _scores_json(texts, reply.logprobs)
        )
        if self._prompt.conversation:
            said = shown if reply.logprobs is None else _find_text(turn, parsed.action)
            messages_after = (*messages, ("assistant", repeat_reply(said)))
            self._latest = (len(turn.state.history), messages_after, parsed)
        return Answer(
            status=parsed.status,
            action=parsed.action,
            problem=parsed.problem,
            prompt=as_text(messages),
            reply=shown,
            reasoning="\n\n".join(filter(None, (reply.reasoning, parsed.reasoning))),
            call=reply,
            reading="" if reply.logprobs is not None else describe_reading(strict, parsed),
        )

    def _make_schema(self, texts: Sequence[str]) -> str:
        """The schema that a reply should fit. It must not show actions that the prompt hides."""
        if self.settings.reply != "json":
            return ""
        return make_schema(() if self._prompt.actions == "hidden" else texts)

    def _continue(self, turn: Turn) -> Messages:
        """The conversation before a turn: the messages of the latest turn, and what was played."""
        if self._latest is None:
            return ()
        place, messages, parsed = self._latest
        if parsed.status is AnswerStatus.OK:
            return messages
        played = next(p for p in turn.state.history[place:] if p.seat == turn.seat)
        text = describe_replaced(self._prompt, parsed.problem, played.text)
        return (*messages, ("user", text))

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

    def _parse(self, turn: Turn, reply: ModelReply) -> tuple[ParsedReply, ParsedReply]:
        """The reply as the strict reader reads it, and as the reader of the settings does."""
        if self.settings.reply == "score":
            scored = ParsedReply(AnswerStatus.OK, self._pick(turn, reply.logprobs or ()))
            return scored, scored
        parse = parse_choice if self.settings.reply == "choices" else parse_json
        strict = parsed = parse(reply.text, turn.legal)
        if self.settings.reader != "strict" and strict.status is not AnswerStatus.OK:
            parsed = read_leniently(reply.text, list_names(turn))
        if parsed.status is AnswerStatus.UNPARSEABLE and (why := _explain_end(reply)):
            parsed = parsed._replace(problem=f"{parsed.problem} ({why})")
        return strict, parsed

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


def list_names(turn: Turn) -> Names:
    """How a reply may call the legal actions of a turn."""
    text = turn.game.text
    names = [{*text.aliases_at(turn.state, action)} for action in turn.legal]
    shared = Counter(name for own in names for name in own)
    return Names(
        turn.legal,
        [
            (*text.aliases(action.text), *(name for name in own if shared[name] == 1))
            for action, own in zip(turn.legal, names, strict=True)
        ],
        [text.note(turn.state, turn.seat, action) for action in turn.legal],
        text.case_matters,
        text.ornaments,
    )


def make_schema(texts: Sequence[str]) -> str:
    """The JSON Schema of a reply: the reasoning, then one of these actions; any text if none."""
    action = {"type": "string", **({"enum": list(texts)} if texts else {})}
    return json.dumps(
        {
            "type": "object",
            "properties": {"reasoning": {"type": "string"}, "action": action},
            "required": ["reasoning", "action"],
            "additionalProperties": False,
        },
        ensure_ascii=False,
    )


def _find_text(turn: Turn, action: int | None) -> str:
    return next(quote(legal) for legal in turn.legal if legal.action == action)


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

"""The version of what a language model is asked: part of an episode's key."""

from __future__ import annotations

import json
import random
from functools import lru_cache
from hashlib import blake2b

from arena.agents.base import Answer, AnswerStatus, Turn
from arena.agents.prompt import build_prompt, describe_replaced
from arena.agents.settings import PromptSettings, ReplyFormat
from arena.games.game import CHANCE, Game

#: Plies of the sample of prompts: enough to see the texts of later positions.
_SAMPLE = 8


def hash_prompts(game: Game, reply: ReplyFormat, prompt: PromptSettings) -> str:
    """Return a hash of a game's prompts with these settings: 8 hexadecimal digits.

    It covers a sample: the first plies of one game between random players, each with a first
    question and one after a rejected answer. So a change of a template, of the game's rules or of
    its positions makes another version, and a change of comments or code does not.
    """
    return _hash_prompts(game.spec, reply, prompt.model_dump_json())


@lru_cache(maxsize=1_000)
def _hash_prompts(spec: str, reply: ReplyFormat, settings: str) -> str:
    prompt = PromptSettings.model_validate_json(settings)
    game = Game.load(spec)
    rng = random.Random(0)  # noqa: S311 - repeatable, not secret
    state = game.new()
    rejected = Answer(AnswerStatus.ILLEGAL, None, problem="problem", reply="reply")
    digest = blake2b(describe_replaced(prompt, "problem", "action").encode(), digest_size=4)
    for ply in range(_SAMPLE):
        if state.is_terminal:
            break
        if state.is_chance:
            state.apply({CHANCE: state.draw_chance(rng).action})
            continue
        actions = {}
        for seat in state.players_to_move():
            legal = state.legal_actions(seat)
            turn = Turn(game, state, seat, ply, legal, seed=0)
            for before in ((), (rejected,)):
                messages = build_prompt(turn, reply, before, "", prompt)
                digest.update(json.dumps(messages).encode())
            actions[seat] = rng.choice(legal).action
        state.apply(actions)
    return digest.hexdigest()

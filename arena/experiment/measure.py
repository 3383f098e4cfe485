"""Measures how many moves a game has and how long its prompts are, by random play."""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from arena.agents.base import Turn
from arena.agents.prompt import as_text, build_prompt
from arena.games.game import CHANCE, Game, GameError, find_path
from arena.games.sandbox import Sandbox
from arena.games.text import UNKNOWN_PLAYOUT, Playout, measured_playouts

#: Limits of the measurement of a game with unusual parameters, for an estimate.
_EPISODES, _PROMPTS, _SECONDS = 50, 100, 1.0
#: Limit of all measurements of an estimate together, in seconds.
_SECONDS_IN_TOTAL = 10.0

#: Splits a prompt into about as many parts (84 to 108 %) as the embedded model's tokenizer.
_TOKEN = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]|\n")


def measure_game(
    game: Game,
    count_tokens: Callable[[str], float],
    *,
    episodes: int = 200,
    prompts: int = 500,
    seconds: float = float("inf"),
) -> Playout:
    """Play a game at random, with its name as the seed, and take the means.

    prompts: the number of prompts whose tokens are counted. seconds: time limit. An
    episode that is not over by then counts with its moves so far.
    """
    # Two generators, so that the moves do not depend on which prompts are counted.
    moves_rng, prompts_rng = random.Random(game.spec), random.Random(game.spec)  # noqa: S311
    ends = time.monotonic() + seconds
    moves = played = 0
    tokens: list[float] = []
    while not played or (played < episodes and time.monotonic() < ends):
        played += 1
        for turn in play_randomly(game, moves_rng):
            moves += 1
            # A uniform sample of a stream of unknown length (Vitter 1985, algorithm R).
            place = len(tokens) if moves <= prompts else prompts_rng.randrange(moves)
            if place < prompts:
                text = as_text(build_prompt(turn, "json"))
                tokens[place : place + 1] = [count_tokens(text)]
            if time.monotonic() >= ends:
                break
    return Playout(game.players, moves / played, statistics.mean(tokens))


def play_randomly(game: Game, rng: random.Random) -> Iterator[Turn]:
    """Play one episode at random. Each turn is valid until the next one is requested."""
    state = game.new()
    while not state.is_terminal:
        if state.is_chance:
            state.apply({CHANCE: state.draw_chance(rng).action})
            continue
        actions = {}
        for seat in state.players_to_move():
            turn = Turn(game, state, seat, len(state.history), state.legal_actions(seat), seed=0)
            yield turn
            actions[seat] = rng.choice(turn.legal).action
        state.apply(actions)


def measure_games(specs: Iterable[str]) -> dict[str, Playout | str]:
    """The measured size of each game, or why it could not be measured.

    Games with their default parameters are in `measured_playouts`. The others are played at
    random in the sandbox, for at most a second each.
    """
    table = measured_playouts()
    sizes: dict[str, Playout | str] = {spec: table.get(spec, "") for spec in specs}
    unmeasured = [spec for spec, size in sizes.items() if not size]
    seconds = min(_SECONDS, _SECONDS_IN_TOTAL / max(len(unmeasured), 1))
    with closing(Sandbox(own={find_path(spec) for spec in unmeasured})) as sandbox:
        for spec in unmeasured:
            try:
                sizes[spec] = sandbox.call(_measure_spec, spec, seconds)
            except GameError as error:
                sizes[spec] = str(error)
    return sizes


def guess_size(spec: str, players: int) -> Playout:
    """The size of a game that could not be measured.

    Each player is assumed to make as many moves as in the game with its default parameters,
    or as in an average game.
    """
    size = measured_playouts().get(spec.partition("(")[0], UNKNOWN_PLAYOUT)
    return Playout(players, size.moves * players / size.players, size.prompt_tokens)


def _measure_spec(spec: str, seconds: float) -> Playout | str:
    """Runs in the sandbox's process."""
    try:
        return measure_game(
            Game.load(spec),
            lambda text: len(_TOKEN.findall(text)),
            episodes=_EPISODES,
            prompts=_PROMPTS,
            seconds=seconds,
        )
    except Exception as error:  # OpenSpiel's games raise errors of many types
        return f"{type(error).__name__}: {error}"

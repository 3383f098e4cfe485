"""Agents that need no model, in positions with a known answer."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from arena.agents.base import Agent, AnswerStatus
from arena.agents.calls import ModelCall, ModelReply
from arena.agents.registry import build_agent
from arena.games.game import Game, State
from tests.support.game_turns import reach, read_agent, turn_after, turn_in


async def _no_model(call: ModelCall) -> ModelReply:
    raise AssertionError("this agent calls no model")


def _agent(**settings: Any) -> Agent:
    return build_agent(read_agent(settings))


async def _action(agent: Agent, game: Game, state: State, seed: int) -> int:
    (seat,) = state.players_to_move()
    answer = await agent.act(turn_in(game, state, seat, seed), (), _no_model)
    assert answer.status is AnswerStatus.OK
    assert answer.action is not None
    return answer.action


async def _play(game: Game, agents: tuple[Agent, Agent], seed: int) -> tuple[float, ...]:
    state = game.new()
    while not state.is_terminal:
        (seat,) = state.players_to_move()
        turn_seed = seed * 1000 + len(state.history)
        state.apply({seat: await _action(agents[seat], game, state, turn_seed)})
    return state.returns()


@pytest.mark.parametrize("seat", [0, 1])
async def test_minimax_never_loses_tic_tac_toe(seat: int) -> None:
    game, minimax = Game.load("tic_tac_toe"), _agent(type="minimax", depth=9)
    ends: Counter[float] = Counter()
    open_lines: list[tuple[int, ...]] = [()]
    while open_lines:
        line = open_lines.pop()
        state = reach(game, line)
        if state.is_terminal:
            ends[state.returns()[seat]] += 1
        elif state.players_to_move() == (seat,):
            open_lines.append((*line, await _action(minimax, game, state, 1)))
        else:
            open_lines += [(*line, action.action) for action in state.legal_actions(1 - seat)]
    assert ends[-1.0] == 0
    assert ends[1.0] > 20


async def test_minimax_searches_to_its_depth() -> None:
    # Column 3 wins for x. Depth 1 sees that, and nothing else on this board.
    win = turn_after("connect_four", [3, 0, 3, 0, 3, 1])
    assert (await _agent(type="minimax", depth=1).act(win, (), _no_model)).action == 3
    # o must block column 3: seeing that takes two plies.
    threat = turn_after("connect_four", [3, 0, 3, 0, 3])
    assert (await _agent(type="minimax", depth=1).act(threat, (), _no_model)).action == 0
    assert (await _agent(type="minimax", depth=2).act(threat, (), _no_model)).action == 3


async def test_mcts_beats_random_in_connect_four_from_both_seats() -> None:
    game = Game.load("connect_four")
    mcts, other = _agent(type="mcts", simulations=100), _agent(type="random")
    first = [(await _play(game, (mcts, other), seed))[0] for seed in range(10)]
    second = [(await _play(game, (other, mcts), seed))[1] for seed in range(10)]
    assert first.count(1.0) >= 9
    assert second.count(1.0) >= 9


async def test_mcts_plays_games_of_chance() -> None:
    turn = turn_after("pig", [1])
    answer = await _agent(type="mcts", simulations=20).act(turn, (), _no_model)
    assert answer.action in [action.action for action in turn.legal]


@pytest.mark.parametrize("settings", [{"type": "mcts", "simulations": 5}, {"type": "random"}])
async def test_only_the_turns_seed_decides(settings: dict[str, Any]) -> None:
    def turn(seed: int) -> Any:
        return turn_after("hex(board_size=5)", [12], seed)

    seeds = [*range(20), 2**63 - 1]
    once = [(await _agent(**settings).act(turn(seed), (), _no_model)).action for seed in seeds]
    agent = _agent(**settings)
    again = [(await agent.act(turn(seed), (), _no_model)).action for seed in reversed(seeds)]
    assert again[::-1] == once
    assert len(set(once)) > 5


async def test_random_draws_uniformly() -> None:
    agent = _agent(type="random")
    turn = turn_after("leduc_poker", [0, 5])
    draws = 1000
    counts: Counter[int | None] = Counter()
    for seed in range(draws):
        counts[(await agent.act(replace(turn, seed=seed), (), _no_model)).action] += 1
    assert set(counts) == {1, 2}
    deviation = math.sqrt(draws * 0.25)
    assert counts[1] == pytest.approx(draws / 2, abs=4 * deviation)


async def test_a_search_does_not_change_the_position() -> None:
    game = Game.load("connect_four")
    state = reach(game, [3, 3])
    for agent in (_agent(type="mcts", simulations=50), _agent(type="minimax", depth=3)):
        before = str(state)
        await _action(agent, game, state, 1)
        assert str(state) == before

"""A human player at a pseudo-terminal, a pipe or a file."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from arena.agents.base import Answer, AnswerStatus, PlayerLeft, Turn
from arena.agents.calls import ModelCall, ModelReply
from arena.agents.human import HumanAgent, Terminal
from arena.agents.settings import AgentSettings
from arena.games.game import LegalAction
from tests.support.game_turns import turn_after

SETTINGS = AgentSettings(type="human")


@dataclass
class Screen:
    """A terminal, the end at which a person types, and what the screen shows."""

    keys: int
    terminal: Terminal
    screen: io.StringIO

    def types(self, text: str) -> None:
        os.write(self.keys, text.encode())

    def shows(self) -> str:
        return self.screen.getvalue()

    async def asks(self) -> None:
        """Wait until the player must choose an action."""
        while "Your action:" not in self.shows():  # noqa: ASYNC110 - a StringIO has no event
            await asyncio.sleep(0)


def _desk(keys: int, end: int) -> Screen:
    screen = io.StringIO()
    return Screen(keys, Terminal(end, Console(file=screen, width=60)), screen)


@pytest.fixture
def desk() -> Iterator[Screen]:
    keys, end = os.openpty()
    yield _desk(keys, end)
    os.close(keys)
    os.close(end)


@pytest.fixture
def pipe() -> Iterator[Screen]:
    end, keys = os.pipe()
    yield _desk(keys, end)
    os.close(end)


async def _unasked(call: ModelCall) -> ModelReply:
    raise AssertionError("a human calls no model")


async def _act(desk: Screen, turn: Turn) -> Answer:
    return await HumanAgent(SETTINGS, desk.terminal).act(turn, (), _unasked)


async def test_an_action_is_typed_as_listed(desk: Screen) -> None:
    desk.types("o(0,2)\n")
    assert await _act(desk, turn_after("tic_tac_toe", [4])) == Answer(AnswerStatus.OK, 2)
    shown = desk.shows()
    assert "Game: tic-tac-toe." in shown
    assert "You are player 1. Your marks are o.\n" in shown
    assert "\n1 . x .\n" in shown
    assert "Legal actions: o(0,0), o(0,1), o(0,2), " in shown
    assert "JSON" not in shown


async def test_the_player_is_asked_again_after_a_wrong_line(desk: Screen) -> None:
    desk.types("o(1,1)\n\n[red]nine\no(0,0)\n")
    assert (await _act(desk, turn_after("tic_tac_toe", [4]))).action == 0
    complaints = [line for line in desk.shows().splitlines() if "is not a legal action" in line]
    assert [line.partition(" is not")[0] for line in complaints] == [
        "'o(1,1)'",
        "''",
        "'[red]nine'",
    ]


@pytest.mark.parametrize(("typed", "action"), [("bet", 1), (" PASS ", 0), ("Bet", 1)])
async def test_case_and_spaces_are_ignored_if_the_action_is_clear(
    desk: Screen, typed: str, action: int
) -> None:
    desk.types(f"{typed}\n")
    assert (await _act(desk, turn_after("kuhn_poker", [0, 1]))).action == action


async def test_case_matters_if_two_actions_differ_only_in_case(desk: Screen) -> None:
    # A bishop's move and a pawn's.
    legal = (LegalAction(3, "Bb5"), LegalAction(4, "bb5"))
    turn = dataclasses.replace(turn_after("chess"), legal=legal)
    desk.types("BB5\nbb5\n")
    assert (await _act(desk, turn)).action == 4
    assert "'BB5' is not a legal action" in desk.shows()


async def test_the_rules_are_shown_once_and_the_position_each_time(pipe: Screen) -> None:
    human = HumanAgent(SETTINGS, pipe.terminal)
    pipe.types("x0\nx1\n")
    for played in ([], [0, 0]):
        await human.act(turn_after("connect_four", played), (), _unasked)
    os.close(pipe.keys)
    assert pipe.shows().count("Rules: ") == 1
    assert pipe.shows().count("You are player 0") == 2


async def test_at_the_end_of_the_input_the_player_leaves(desk: Screen) -> None:
    desk.types("nothing\n\x04")  # Ctrl-D
    with pytest.raises(PlayerLeft):
        await _act(desk, turn_after("tic_tac_toe"))


async def test_the_last_line_of_a_closed_pipe_needs_no_line_break(pipe: Screen) -> None:
    pipe.types("x(0,0)")
    os.close(pipe.keys)
    assert (await _act(pipe, turn_after("tic_tac_toe"))).action == 0
    with pytest.raises(PlayerLeft):
        await _act(pipe, turn_after("tic_tac_toe"))


async def test_a_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "moves"
    path.write_bytes(b"\xff\xfe\r\nx(2,2)\r\n")
    with path.open("rb") as file:
        assert (await _act(_desk(-1, file.fileno()), turn_after("tic_tac_toe"))).action == 8


async def test_waiting_for_a_line_does_not_block_other_games(pipe: Screen) -> None:
    waiting = asyncio.create_task(_act(pipe, turn_after("tic_tac_toe")))
    await pipe.asks()
    pipe.types("x(0")  # an incomplete line
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    pipe.types(",1)\n")
    assert (await waiting).action == 1
    os.close(pipe.keys)


async def test_two_games_share_a_terminal_one_turn_at_a_time(desk: Screen) -> None:
    first = asyncio.create_task(_act(desk, turn_after("kuhn_poker", [0, 1])))
    second = asyncio.create_task(_act(desk, turn_after("matrix_pd")))
    await desk.asks()
    assert "Dilemma" not in desk.shows()
    desk.types("Bet\nDefect\n")
    assert [(await first).action, (await second).action] == [1, 1]


async def test_a_cancelled_turn_releases_the_terminal(desk: Screen) -> None:
    waiting = asyncio.create_task(_act(desk, turn_after("tic_tac_toe")))
    await desk.asks()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not asyncio.get_running_loop().remove_reader(desk.terminal.descriptor)
    desk.types("x(0,0)\n")
    assert (await _act(desk, turn_after("tic_tac_toe"))).action == 0

"""Somebody at a terminal: a real pseudo-terminal, pipes and files."""

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

from arena.agents.base import Attempt, PlayerLeft, Status, Turn
from arena.agents.human import HumanAgent, Terminal
from arena.calls import ModelCall, ModelReply
from arena.games.game import LegalAction
from tests.support.turns import turn_after


@dataclass
class Desk:
    """A terminal with the end at which somebody types, and what they were shown."""

    keys: int
    terminal: Terminal
    screen: io.StringIO

    def types(self, text: str) -> None:
        os.write(self.keys, text.encode())

    def shows(self) -> str:
        return self.screen.getvalue()

    async def asks(self) -> None:
        """Come back when somebody is waited for."""
        while "Your action:" not in self.shows():  # noqa: ASYNC110 - a screen rings no bell
            await asyncio.sleep(0)


def _desk(keys: int, end: int) -> Desk:
    screen = io.StringIO()
    return Desk(keys, Terminal(end, Console(file=screen, width=60)), screen)


@pytest.fixture
def desk() -> Iterator[Desk]:
    keys, end = os.openpty()
    yield _desk(keys, end)
    os.close(keys)
    os.close(end)


@pytest.fixture
def pipe() -> Iterator[Desk]:
    end, keys = os.pipe()
    yield _desk(keys, end)
    os.close(end)


async def _unasked(call: ModelCall) -> ModelReply:
    raise AssertionError("a human asks no model")


async def _act(desk: Desk, turn: Turn) -> Attempt:
    return await HumanAgent(desk.terminal).act(turn, (), _unasked)


async def test_an_action_is_typed_as_it_is_listed(desk: Desk) -> None:
    desk.types("o(0,2)\n")
    assert await _act(desk, turn_after("tic_tac_toe", [4])) == Attempt(Status.OK, 2)
    shown = desk.shows()
    assert "Game: tic-tac-toe." in shown
    assert "You are player 1. Your marks are o.\n" in shown
    assert "\n1 . x .\n" in shown
    assert "Legal actions: o(0,0), o(0,1), o(0,2), " in shown
    assert "JSON" not in shown


async def test_a_wrong_line_is_asked_for_again_until_it_is_right(desk: Desk) -> None:
    desk.types("o(1,1)\n\n[red]nine\no(0,0)\n")
    assert (await _act(desk, turn_after("tic_tac_toe", [4]))).action == 0
    complaints = [line for line in desk.shows().splitlines() if "is no legal action" in line]
    assert [line.partition(" is no")[0] for line in complaints] == ["'o(1,1)'", "''", "'[red]nine'"]


@pytest.mark.parametrize(("typed", "action"), [("bet", 1), (" PASS ", 0), ("Bet", 1)])
async def test_case_and_spaces_do_not_matter_where_they_tell_nothing(
    desk: Desk, typed: str, action: int
) -> None:
    desk.types(f"{typed}\n")
    assert (await _act(desk, turn_after("kuhn_poker", [0, 1]))).action == action


async def test_case_matters_where_it_tells_two_actions_apart(desk: Desk) -> None:
    # A bishop's move and a pawn's.
    legal = (LegalAction(3, "Bb5"), LegalAction(4, "bb5"))
    turn = dataclasses.replace(turn_after("chess"), legal=legal)
    desk.types("BB5\nbb5\n")
    assert (await _act(desk, turn)).action == 4
    assert "'BB5' is no legal action" in desk.shows()


async def test_the_rules_are_shown_once_and_the_position_each_time(pipe: Desk) -> None:
    human = HumanAgent(pipe.terminal)
    pipe.types("x0\nx1\n")
    for played in ([], [0, 0]):
        await human.act(turn_after("connect_four", played), (), _unasked)
    os.close(pipe.keys)
    assert pipe.shows().count("Rules: ") == 1
    assert pipe.shows().count("You are player 0") == 2


async def test_the_end_of_the_input_ends_the_turn_and_says_who_left(desk: Desk) -> None:
    desk.types("nothing\n\x04")  # Ctrl-D
    with pytest.raises(PlayerLeft):
        await _act(desk, turn_after("tic_tac_toe"))


async def test_a_closed_pipe_gives_its_last_line_first(pipe: Desk) -> None:
    pipe.types("x(0,0)")
    os.close(pipe.keys)
    assert (await _act(pipe, turn_after("tic_tac_toe"))).action == 0
    with pytest.raises(PlayerLeft):
        await _act(pipe, turn_after("tic_tac_toe"))


async def test_a_plain_file_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "moves"
    path.write_bytes(b"\xff\xfe\r\nx(2,2)\r\n")
    with path.open("rb") as file:
        assert (await _act(_desk(-1, file.fileno()), turn_after("tic_tac_toe"))).action == 8


async def test_others_play_on_while_somebody_thinks(pipe: Desk) -> None:
    waiting = asyncio.create_task(_act(pipe, turn_after("tic_tac_toe")))
    await pipe.asks()
    pipe.types("x(0")  # half a line is no line
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    pipe.types(",1)\n")
    assert (await waiting).action == 1
    os.close(pipe.keys)


async def test_two_games_take_turns_at_one_terminal(desk: Desk) -> None:
    first = asyncio.create_task(_act(desk, turn_after("kuhn_poker", [0, 1])))
    second = asyncio.create_task(_act(desk, turn_after("matrix_pd")))
    await desk.asks()
    assert "Dilemma" not in desk.shows()
    desk.types("Bet\nDefect\n")
    assert [(await first).action, (await second).action] == [1, 1]


async def test_a_cancelled_turn_leaves_the_terminal_to_the_next(desk: Desk) -> None:
    waiting = asyncio.create_task(_act(desk, turn_after("tic_tac_toe")))
    await desk.asks()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not asyncio.get_running_loop().remove_reader(desk.terminal.descriptor)
    desk.types("x(0,0)\n")
    assert (await _act(desk, turn_after("tic_tac_toe"))).action == 0

"""A human player at a pseudo-terminal, a pipe or a file."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from arena.agents import human
from arena.agents.base import Answer, AnswerStatus, Ending, PlayerLeft, Turn
from arena.agents.calls import ModelCall, ModelReply
from arena.agents.human import HumanAgent, Terminal
from arena.agents.settings import AgentSettings
from arena.experiment.load import load_experiment
from arena.games.game import LegalAction
from arena.results.spending import Spent
from arena.runners.job import Job, RunProgress
from arena.runners.worker import run_sequential
from tests.support.game_turns import turn_after
from tests.support.scripted_experiment import Script
from tests.support.waiting import eventually

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


async def _asked(call: ModelCall) -> ModelReply:
    """The person answers, not a model."""
    assert call.answer is not None
    return await call.answer()


def ended(turn: Turn, status: str = "finished", reason: str = "") -> Ending:
    return Ending(turn.game, turn.state, turn.seat, turn.agents, status, reason)


async def _act(desk: Screen, turn: Turn) -> Answer:
    """One turn of a game that is then left."""
    player = HumanAgent(SETTINGS, desk.terminal)
    try:
        return await player.act(turn, (), _asked)
    finally:
        player.finish(ended(turn, status=""))


async def test_an_action_is_typed_as_listed(desk: Screen) -> None:
    desk.types("o(0,2)\n")
    assert await _act(desk, turn_after("tic_tac_toe", [4])) == Answer(AnswerStatus.OK, 2)
    shown = desk.shows()
    assert "Game: tic-tac-toe." in shown
    assert "You are player 1. Your marks are o.\n" in shown
    assert "\n1 . x .\n" in shown
    assert "Legal actions: o(0,0), o(0,1), o(0,2), " in shown
    assert "JSON" not in shown


async def test_a_terminal_shows_whole_words(desk: Screen) -> None:
    """A terminal itself breaks lines anywhere."""
    screen = io.StringIO()
    desk.terminal = Terminal(
        desk.terminal.descriptor, Console(file=screen, width=60, force_terminal=True)
    )
    desk.types("o(0,2)\n")
    turn = turn_after("tic_tac_toe", [4])
    await _act(desk, turn)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(turn.game.text.rules.split()) in " ".join(screen.getvalue().split())


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
    player = HumanAgent(SETTINGS, pipe.terminal)
    pipe.types("x0\nx1\n")
    turn = turn_after("connect_four")
    for _ in range(2):
        await player.act(turn, (), _asked)
        turn.state.apply({0: 0})
        turn.state.apply({1: 0})
    os.close(pipe.keys)
    assert pipe.shows().count("Rules: ") == 1
    assert pipe.shows().count("You are player 0") == 2


async def test_at_the_end_of_the_input_the_player_leaves(desk: Screen) -> None:
    desk.types("nothing\n\x04")  # Ctrl-D
    with pytest.raises(PlayerLeft):
        await _act(desk, turn_after("tic_tac_toe"))


async def test_a_player_who_has_left_one_game_is_not_asked_in_the_next(desk: Screen) -> None:
    desk.types("\x04")  # Ctrl-D
    for _ in range(2):
        with pytest.raises(PlayerLeft):
            await _act(desk, turn_after("tic_tac_toe"))
    assert desk.shows().count("Your action:") == 1


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


async def test_one_game_has_the_terminal_until_its_end(desk: Screen) -> None:
    """The questions of several games have been mixed."""
    turns = [turn_after("tic_tac_toe"), turn_after("kuhn_poker", [0, 1])]
    players = [HumanAgent(SETTINGS, desk.terminal) for _ in turns]
    first, second = (
        asyncio.create_task(player.act(turn, (), _asked))
        for player, turn in zip(players, turns, strict=True)
    )
    await desk.asks()
    desk.types("x(0,0)\n")
    assert (await first).action == 0
    for _ in range(50):
        await asyncio.sleep(0)
    assert "Kuhn" not in desk.shows()
    players[0].finish(ended(turns[0], "failed", "the model is down"))
    desk.types("Bet\n")
    assert (await second).action == 1
    shown = desk.shows()
    assert shown.index("the model is down") < shown.index("=== kuhn_poker, game 1 ===")
    assert "player 0: name 0 (you), player 1: name 1" in " ".join(shown.split())


async def test_a_game_that_was_left_releases_the_terminal(desk: Screen) -> None:
    left, turn = HumanAgent(SETTINGS, desk.terminal), turn_after("tic_tac_toe")
    desk.types("x(0,0)\n")
    await left.act(turn, (), _asked)
    left.finish(ended(turn, status=""))
    assert "Result" not in desk.shows()
    desk.types("Bet\n")
    assert (await _act(desk, turn_after("kuhn_poker", [0, 1]))).action == 1


async def test_the_opponents_moves_and_the_result_are_shown(desk: Screen) -> None:
    player, turn = HumanAgent(SETTINGS, desk.terminal), turn_after("tic_tac_toe")
    for own, other in ((0, 3), (1, 4), (2, None)):
        desk.types(f"x(0,{own})\n")
        turn = dataclasses.replace(turn, legal=turn.state.legal_actions(0))
        action = (await player.act(turn, (), _asked)).action
        assert action is not None
        turn.state.apply({0: action})
        if other is not None:
            turn.state.apply({1: other})
            assert f"name 1 played o(1,{other - 3})" not in desk.shows()
    player.finish(ended(turn))
    shown = desk.shows()
    assert [line for line in shown.splitlines() if " played " in line] == [
        "name 1 played o(1,0)",
        "name 1 played o(1,1)",
    ]
    assert shown.endswith("Result: you won; name 0 +1, name 1 -1\n")


@pytest.mark.parametrize("spec", ["dark_hex(board_size=2)", "phantom_ttt"])
async def test_hidden_moves_stay_hidden(desk: Screen, spec: str) -> None:
    turn = turn_after(spec, [0])
    desk.types(f"{turn.legal[0].text}\n")
    await _act(desk, turn)
    assert " played " not in desk.shows()


async def test_several_people_share_the_terminal_of_one_game(desk: Screen) -> None:
    turn = turn_after("matrix_pd")
    other = dataclasses.replace(turn, seat=1, legal=turn.state.legal_actions(1))
    desk.types("Defect\nCooperate\n")
    answers = await asyncio.gather(_act(desk, turn), _act(desk, other))
    assert [answer.action for answer in answers] == [1, 0]


async def test_a_game_that_was_left_continues_at_its_move(
    desk: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with a person is cancelled, as by Ctrl-C, after two of the person's moves."""
    monkeypatch.setattr(human, "_shared_terminal", lambda: desk.terminal)
    path = tmp_path / "experiment.yaml"
    path.write_text(
        "games: [tic_tac_toe]\nagents: {me: {type: human}, other: {type: minimax, depth: 2}}\n"
    )

    def start() -> asyncio.Task[RunProgress]:
        job = Job(load_experiment(path), Script(), tmp_path / "results.sqlite")
        return asyncio.create_task(run_sequential(job, lambda progress: None))

    async def asks(times: int) -> None:
        await eventually(lambda: desk.shows().count("Your action:") == times)

    run = start()
    await asks(1)
    desk.types("x(0,0)\n")
    await asks(2)
    desk.types("x(2,2)\n")
    await asks(3)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    before = desk.shows()
    run = start()
    await asks(4)
    again = desk.shows()[len(before) :]
    assert "you played x(0,0)" in again
    assert "you played x(2,2)" in again
    (board,) = re.findall(r"\n0 (x \S \S)\n", again)
    assert board.startswith("x")
    while not run.done():
        asked = desk.shows().count("Your action:") + 1
        legal = desk.shows().rpartition("Legal actions: ")[2]
        desk.types(legal.split(", ")[0].split("\n")[0] + "\n")
        ended_or_asks = asyncio.create_task(asks(asked))
        await asyncio.wait([run, ended_or_asks], return_when=asyncio.FIRST_COMPLETED)
        ended_or_asks.cancel()
    assert (await run).episodes == {"finished": 1}
    assert "Result: you " in desk.shows()
    # A person's moves are no answers of a model, and cost nothing.
    assert (run.result().answers, run.result().spent) == (0, Spent())


async def test_a_cancelled_turn_releases_the_terminal(desk: Screen) -> None:
    waiting = asyncio.create_task(_act(desk, turn_after("tic_tac_toe")))
    await desk.asks()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not asyncio.get_running_loop().remove_reader(desk.terminal.descriptor)
    desk.types("x(0,0)\n")
    assert (await _act(desk, turn_after("tic_tac_toe"))).action == 0

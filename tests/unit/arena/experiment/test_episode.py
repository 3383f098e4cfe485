"""One episode: for any answers of the players it ends with a row in the results."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from arena.agents.base import Agent, Answer, AnswerStatus, Turn
from arena.agents.calls import Ask, ModelCall, ModelReply
from arena.agents.settings import AgentSettings
from arena.experiment.budget import BudgetSpent
from arena.experiment.episode import play_episode, seat_players
from arena.experiment.schedule import EpisodeSpec
from arena.games.game import CHANCE, Game
from arena.games.state import State
from arena.plugins import PluginError
from arena.results.rows import CallKey, EpisodeRow, MoveRow
from arena_llm.errors import InternalError, UnavailableError
from arena_llm.types import Attempt, CallReport, ServedBy, Usage
from tests.support.game_turns import read_agent

#: What a model says: a text, or an error.
Says = Callable[[CallKey, ModelCall], str | Exception]


def llm(**settings: Any) -> AgentSettings:
    return read_agent({"type": "llm", "model": "hf_a", "reply": "choices", **settings})


def first(key: CallKey, call: ModelCall) -> str:
    assert call.choices
    return call.choices[0]


async def play(
    game: str,
    *players: AgentSettings,
    says: Says = first,
    seed: int = 1,
    max_plies: int | None = None,
) -> tuple[EpisodeRow, list[MoveRow]]:
    names = tuple(f"p{seat}" for seat in range(len(players)))
    spec = EpisodeSpec("one", game, 0, names, seed, max_plies)

    def ask_for(key: CallKey) -> Ask:
        async def ask(call: ModelCall) -> ModelReply:
            said = says(key, call)
            if isinstance(said, Exception):
                raise said
            return ModelReply(said, "answered", 5.0, "thought", "stop", 7, 3, 1, 5)

        return ask

    seats = seat_players(spec, dict(zip(names, players, strict=True)))
    return await play_episode(spec, Game.load(game), seats, ask_for)


async def test_a_finished_episode() -> None:
    row, moves = await play("tic_tac_toe", llm(), llm())
    assert row == EpisodeRow(
        "one", "tic_tac_toe", 0, ("p0", "p1"), 1, "finished", 7, returns=(1.0, -1.0)
    )
    assert [(move.ply, move.seat, move.action) for move in moves] == [
        (ply, ply % 2, ply) for ply in range(7)
    ]
    move = moves[1]
    assert (move.agent, move.status, move.action_text) == ("p1", "ok", "o(0,1)")
    assert move.legal_actions == tuple((cell, f"o({cell // 3},{cell % 3})") for cell in range(1, 9))
    assert (move.reply, move.reasoning, move.model) == ("o(0,1)", "thought", "answered")
    assert (move.latency_ms, move.cost_picousd) == (5.0, 5)
    assert (move.finish_reason, move.replayed, move.provider) == ("stop", 0, None)
    assert (move.prompt_tokens, move.completion_tokens, move.reasoning_tokens) == (7, 3, 1)
    assert (move.board or "").count("x") == 1  # before the move
    assert "o(0,1)" in (move.prompt or "")
    assert (move.problem, move.policy) == (None, None)


async def test_chance_deals_by_the_seed_alone() -> None:
    async def dealt(seed: int, says: Says) -> list[str | None]:
        _, moves = await play("leduc_poker", llm(), llm(), seed=seed, says=says)
        return [move.action_text for move in moves if move.seat == CHANCE]

    def last(key: CallKey, call: ModelCall) -> str:
        return (call.choices or ())[-1]

    hands = [await dealt(seed, first) for seed in range(20)]
    assert len({str(hand[:2]) for hand in hands}) > 5
    # The hands do not depend on the moves.
    assert [hand[:2] for hand in hands] == [(await dealt(n, last))[:2] for n in range(20)]
    _, moves = await play("leduc_poker", llm(), llm())
    deal = moves[0]
    assert (deal.agent, deal.seat, deal.attempt, deal.status) == (None, CHANCE, 0, "ok")
    assert (deal.prompt, deal.legal_actions) == (None, None)


async def test_players_who_move_simultaneously_are_asked_simultaneously() -> None:
    both = asyncio.Barrier(2)
    spec = EpisodeSpec("one", "matrix_rps", 0, ("p0", "p1"), 1)

    def ask_for(key: CallKey) -> Ask:
        async def ask(call: ModelCall) -> ModelReply:
            await both.wait()  # waits forever unless both are called
            return ModelReply((call.choices or ())[key.seat], "m", 1.0)

        return ask

    seats = seat_players(spec, {"p0": llm(), "p1": llm()})
    async with asyncio.timeout(30):
        row, moves = await play_episode(spec, Game.load("matrix_rps"), seats, ask_for)
    assert (row.plies, row.returns) == (1, (-1.0, 1.0))
    assert [(move.ply, move.seat, move.action_text) for move in moves] == [
        (0, 0, "Rock"),
        (0, 1, "Paper"),
    ]


def wrong(until: int) -> Says:
    """Seat 1 answers illegally at ply 1, up to an attempt."""

    def says(key: CallKey, call: ModelCall) -> str:
        return "nowhere" if key.ply == 1 and key.attempt < until else first(key, call)

    return says


@pytest.mark.parametrize(
    ("policy", "until", "policies", "status"),
    [
        ("forfeit", 1, ["forfeit"], "forfeited"),
        ("random", 1, ["random"], "finished"),
        ("retry 2", 1, ["retry", None], "finished"),
        ("retry 2", 9, ["retry", "retry", "forfeit"], "forfeited"),
        ("retry 2 then random", 2, ["retry", "retry", None], "finished"),
        ("retry 2 then random", 9, ["retry", "retry", "random"], "finished"),
    ],
)
async def test_policies(policy: str, until: int, policies: list[str | None], status: str) -> None:
    row, moves = await play("tic_tac_toe", llm(), llm(on_illegal=policy), says=wrong(until))
    turn = [move for move in moves if move.ply == 1]
    assert [move.attempt for move in turn] == list(range(len(policies)))
    assert [move.policy for move in turn] == policies
    assert all(move.seat == 1 and move.board and move.legal_actions for move in turn)
    for move in turn[:until]:
        assert (move.status, move.reply) == ("illegal", "nowhere")
        assert "nowhere" in (move.problem or "")
        assert (move.action is not None) == (move.policy == "random")
    if policies[-1] == "random":
        assert (turn[-1].action, turn[-1].action_text) in (turn[-1].legal_actions or ())
    assert row.status == status
    if status == "forfeited":
        assert (row.loser, row.plies, row.returns) == (1, 1, None)
        assert row.reason == f"seat 1: illegal: {turn[-1].problem}"
    else:
        assert row.returns is not None


async def test_unparseable_and_illegal_replies() -> None:
    def says(key: CallKey, call: ModelCall) -> str:
        action = {"reasoning": "r", "action": "nowhere"} if key.attempt else "Let me think."
        return json.dumps(action)

    row, moves = await play(
        "tic_tac_toe", *[llm(reply="json", on_illegal="retry 1")] * 2, says=says
    )
    assert [move.status for move in moves] == ["unparseable", "illegal"]
    assert [move.reading for move in moves] == [
        "none, strict: unparseable",
        "none, strict: illegal",
    ]
    assert (row.status, row.loser) == ("forfeited", 0)


async def test_the_random_move_of_a_policy_is_repeatable() -> None:
    async def drawn(seed: int) -> list[int | None]:
        players = [llm(on_illegal="random")] * 2
        _, moves = await play("tic_tac_toe", *players, says=lambda *_: "nowhere", seed=seed)
        return [move.action for move in moves]

    assert await drawn(1) == await drawn(1)
    assert len({str(await drawn(seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("illegal", "loser", "reason"),
    [({0}, 0, "seat 0: "), ({1}, 1, "seat 1: "), ({0, 1}, None, "seat 0: illegal: ")],
)
async def test_who_loses_by_forfeit(illegal: set[int], loser: int | None, reason: str) -> None:
    def says(key: CallKey, call: ModelCall) -> str:
        return "?" if key.seat in illegal else first(key, call)

    row, moves = await play("matrix_pd", llm(), llm(), says=says)
    assert (row.status, row.loser, row.plies) == ("forfeited", loser, 0)
    assert (row.reason or "").startswith(reason)
    assert ("; seat 1: illegal: " in (row.reason or "")) is (len(illegal) == 2)
    assert len(moves) == 2


async def test_a_call_that_fails() -> None:
    def says(key: CallKey, call: ModelCall) -> str | Exception:
        down = UnavailableError("no one there", reason="BACKEND_DOWN", model="hf_a")
        down.report = CallReport(
            "id", (Attempt(reason="RATE_LIMITED", cost_picousd=4),) * 2, Usage(9, cost_picousd=8),
            ServedBy(provider="p"),
        )  # fmt: skip
        return down if key.ply == 3 else first(key, call)

    row, moves = await play("tic_tac_toe", llm(), llm(), says=says)
    why = "UNAVAILABLE BACKEND_DOWN: no one there (model hf_a)"
    assert (row.status, row.plies, row.returns, row.loser) == ("failed", 3, None, None)
    assert row.reason == f"seat 1: {why}"
    assert [move.status for move in moves] == ["ok", "ok", "ok", "error"]
    error = moves[-1]
    assert (error.problem, error.action, error.agent, error.model) == (why, None, "p1", None)
    # What the call took is stored.
    assert (error.prompt_tokens, error.cost_picousd, error.attempts) == (9, 8, 2)
    assert (error.request_id, error.provider, error.failed_attempts_picousd) == ("id", "p", 8)


async def test_a_failed_call_does_not_lose_a_simultaneous_move() -> None:
    def says(key: CallKey, call: ModelCall) -> str | Exception:
        return InternalError("bug", reason="INTERNAL") if key.seat == 0 else first(key, call)

    row, moves = await play("matrix_pd", llm(), llm(), says=says)
    assert row.status == "failed"
    assert [(move.seat, move.status) for move in moves] == [(0, "error"), (1, "ok")]


async def test_an_exception_that_ends_the_run_is_raised() -> None:
    for game in ("tic_tac_toe", "matrix_pd"):
        with pytest.raises(BudgetSpent):
            await play(game, llm(), llm(), says=lambda *_: BudgetSpent("enough"))


async def test_a_run_that_ends_waits_for_simultaneous_replies() -> None:
    """The other player's reply is paid for and must be stored."""
    kept = []

    def ask_for(key: CallKey) -> Ask:
        async def ask(call: ModelCall) -> ModelReply:
            if key.seat == 0:
                raise BudgetSpent("enough")
            for _ in range(5):
                await asyncio.sleep(0)
            kept.append(key.seat)
            return ModelReply((call.choices or ())[0], "m", 1.0)

        return ask

    spec = EpisodeSpec("one", "matrix_pd", 0, ("p0", "p1"), 1)
    with pytest.raises(BudgetSpent):
        await play_episode(
            spec, Game.load("matrix_pd"), seat_players(spec, {"p0": llm(), "p1": llm()}), ask_for
        )
    assert kept == [1]


async def test_max_plies() -> None:
    row, moves = await play("chess", llm(), llm(), max_plies=4)
    assert (row.status, row.plies, len(moves)) == ("truncated", 4, 4)
    assert row.reason == "max_plies: not over after 4 plies"
    assert row.returns == (0.0, 0.0)
    # Rewards before the end of the game count.
    random = read_agent({"type": "random"})
    row, _ = await play("python_iterated_prisoners_dilemma", random, random, max_plies=2)
    assert row.status == "truncated"
    assert row.returns is not None
    assert any(row.returns)
    row, _ = await play("tic_tac_toe", llm(), llm(), max_plies=7)
    assert row.status == "finished"


@pytest.mark.parametrize("max_plies", [None, 3])
@pytest.mark.parametrize("returns", [(math.nan, 0.0), (math.inf, -math.inf), (1.0,)])
async def test_returns_that_are_no_numbers_are_no_result(
    monkeypatch: pytest.MonkeyPatch, returns: tuple[float, ...], max_plies: int | None
) -> None:
    """The game of another person may have an error. The run must not count it as played."""
    monkeypatch.setattr(State, "returns", lambda _: returns)
    random = read_agent({"type": "random"})
    row, _ = await play("tic_tac_toe", random, random, max_plies=max_plies)
    assert (row.status, row.returns) == ("failed", None)
    assert row.reason
    assert row.reason.startswith("returns are unusable: [")


async def test_players_without_a_model() -> None:
    perfect = read_agent({"type": "minimax", "depth": 9})
    row, moves = await play("tic_tac_toe", perfect, read_agent({"type": "random"}))
    assert row.returns in ((1.0, -1.0), (0.0, 0.0))
    assert all(move.status == "ok" and move.model is None for move in moves)
    assert all(move.reply is None and move.latency_ms is None for move in moves)


class _Cheat(Agent):
    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        return Answer(AnswerStatus.OK, 999)


async def test_an_agent_that_returns_an_illegal_action_is_named() -> None:
    cheat = read_agent({"type": f"{__name__}:_Cheat"})
    with pytest.raises(
        PluginError, match=r"_Cheat\.act returned the action 999, which is not legal"
    ):
        await play("tic_tac_toe", cheat, llm())

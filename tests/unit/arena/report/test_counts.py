"""What the report counts against what OpenSpiel says of the stored actions."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import replace
from itertools import groupby, permutations
from pathlib import Path

import pyspiel
import pytest

from arena.report.load import open_results
from arena.report.summary import Summary, summarise
from arena.results.rows import MoveRow
from tests.support.random_play import GAMES, Played, asked, play, write

AGENTS = ("hf_one", "hf_two", "random")


def summary_of(path: Path) -> Summary:
    with open_results(path) as results:
        return summarise(results)


@pytest.fixture(scope="module")
def every_game(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each game of the arena, each pair of players in both orders."""
    played = [
        play(game, pair, number, lambda row: [asked(row)])
        for game in GAMES
        for pair in permutations(AGENTS, 2)
        for number in range(1 if game == "chess" else 2)
    ]
    return write(tmp_path_factory.mktemp("results") / "all.db", played)


def openspiels_returns(path: Path) -> dict[str, tuple[str, list[str], list[float]]]:
    """Game, agents and returns of each stored episode, from nothing but its stored actions."""
    found = {}
    with closing(sqlite3.connect(path)) as connection:
        episodes = connection.execute("SELECT episode, game, agents FROM episodes").fetchall()
        for episode, game, agents in episodes:
            state = pyspiel.load_game(game).new_initial_state()
            actions = connection.execute(
                "SELECT ply, action FROM moves WHERE episode = ? AND action IS NOT NULL"
                " ORDER BY ply, seat",
                (episode,),
            )
            for _, turn in groupby(actions, lambda row: row[0]):
                together = [action for _, action in turn]
                if state.is_simultaneous_node():
                    state.apply_actions(together)
                else:
                    state.apply_action(*together)
            assert state.is_terminal()
            found[episode] = (game, json.loads(agents), state.returns())
    return found


def test_wins_are_what_openspiel_makes_of_the_stored_actions(every_game: Path) -> None:
    summary = summary_of(every_game)
    wins: Counter[tuple[str, str]] = Counter()
    losses: Counter[tuple[str, str]] = Counter()
    draws: Counter[tuple[str, str]] = Counter()
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    stored = openspiels_returns(every_game)
    for game, agents, (first, second) in stored.values():
        one, two = ((agent, game) for agent in agents)
        winner, loser = (one, two) if first > second else (two, one)
        if first == second:
            draws.update((one, two))
        else:
            wins[winner] += 1
            losses[loser] += 1
        sums[one] += first
        sums[two] += second
    assert len(stored) == 10 * 12 + 6
    assert len(summary.tallies) == len(GAMES) * len(AGENTS)
    for key, tally in summary.tallies.items():
        assert (tally.wins, tally.draws, tally.losses) == (wins[key], draws[key], losses[key])
        assert sum(tally.returns) == sums[key]
    assert sum(tally.wins for tally in summary.totals.values()) == wins.total()
    assert len(summary.replays) == len(stored)
    assert not summary.unverified


def test_a_result_that_the_actions_do_not_lead_to_is_told(tmp_path: Path) -> None:
    """A turned result, a lost last move, an impossible one, and returns too soon."""
    good = [play("tic_tac_toe", ("hf_one", "random"), number) for number in range(4)]
    won = next(found for found in good if found.row.returns != (0.0, 0.0))
    others = [found for found in good if found is not won]
    turned = replace(won.row, returns=tuple(-value for value in won.row.returns or ()))
    first = others[0].moves[0]
    cut = play("tic_tac_toe", ("hf_one", "random"), 4)
    truncated = replace(cut.row, status="truncated", returns=(9.0, -9.0))
    broken = [
        Played(turned, won.moves),
        Played(others[1].row, others[1].moves[:-1]),
        Played(others[0].row, (first, replace(others[0].moves[1], action=first.action))),
        Played(truncated, cut.moves[:2]),
    ]
    summary = summary_of(write(tmp_path / "r.db", [*broken, others[2]]))
    assert set(summary.unverified) == {found.row.episode for found in broken}
    assert "OpenSpiel's returns are" in summary.unverified[won.row.episode]
    assert "do not reach the game's end" in summary.unverified[others[1].row.episode]
    assert "may not play" in summary.unverified[others[0].row.episode]


def stubborn(row: MoveRow) -> list[MoveRow]:
    """A model that answers illegally twice, and then not in the format; each of its moves is
    drawn instead."""
    if row.agent != "hf_stubborn":
        return [asked(row)]
    wrong = {"problem": "z9 is no legal action", "reply": "z9"}
    lost = {"action": None, "action_text": None, "policy": "retry"}
    return [
        asked(row, status="illegal", **lost, **wrong),
        asked(row, status="illegal", attempt=1, **lost, **wrong),
        asked(row, status="unparseable", attempt=2, policy="random", **wrong),
    ]


def test_a_model_that_is_always_illegal_is_so_in_all_of_its_answers(tmp_path: Path) -> None:
    played = [
        play(game, ("hf_stubborn", "hf_good"), 0, stubborn)
        for game in ("connect_four", "matrix_rps", "kuhn_poker")
    ]
    summary = summary_of(write(tmp_path / "r.db", played))
    bad, good = (summary.answer_totals[agent] for agent in ("hf_stubborn", "hf_good"))
    turns = sum(
        move.agent == "hf_stubborn" and move.attempt == 0 for one in played for move in one.moves
    )
    assert bad.illegal.value == 1.0
    assert (bad.turns, bad.answers, bad.first_legal) == (turns, 3 * turns, 0)
    assert bad.statuses["unparseable"] == turns
    assert bad.policies == {"retry": 2 * turns, "random": turns}
    assert good.illegal.value == 0.0
    assert good.first_legal == good.turns
    assert not summary.unverified


def test_calls_are_summed_and_unknown_prices_told(tmp_path: Path) -> None:
    latencies = iter(range(100, 1000, 100))
    prices = iter([0.25, None, 0.25, 0.25, 0.25])

    def answer(row: MoveRow) -> list[MoveRow]:
        if row.agent == "random":
            return [row]
        return [
            asked(
                row,
                latency_ms=float(next(latencies)),
                cost_usd=next(prices),
                prompt_tokens=10,
                completion_tokens=3,
            )
        ]

    game = play("tic_tac_toe", ("hf_one", "random"), 1, answer)
    calls = sum(move.agent == "hf_one" for move in game.moves)
    summary = summary_of(write(tmp_path / "r.db", [game]))
    found = summary.answer_totals["hf_one"]
    assert (found.calls, found.unpriced) == (calls, 1)
    assert found.cost_usd == (calls - 1) * 0.25
    assert found.per_turn(found.prompt_tokens) == 10
    assert found.percentile(50) == 50 + 50 * calls  # the middle of 100, 200, ...
    assert summary.answer_totals["random"].calls == 0


def test_failed_and_forfeited_episodes_are_counted_with_their_reasons(tmp_path: Path) -> None:
    game = play("tic_tac_toe", ("hf_one", "hf_two"), 0)
    again = play("tic_tac_toe", ("hf_one", "hf_two"), 1)
    other = play("tic_tac_toe", ("hf_two", "hf_one"), 0)
    reason = "UNAVAILABLE BACKEND_DOWN hf at localhost:50054"
    down = replace(game.moves[2], status="error", problem=reason, action=None, action_text=None)
    over = [
        Played(
            replace(found.row, status="failed", reason=f"{reason} ({found.row.number})"),
            (replace(down, episode=found.row.episode),),
        )
        for found in (game, again)
    ]
    refused = replace(other.moves[1], status="illegal", policy="forfeit", action=None)
    gave_up = replace(other.row, status="forfeited", reason="no legal answer", loser=1)
    summary = summary_of(
        write(tmp_path / "r.db", [*over, Played(gave_up, (other.moves[0], refused))])
    )
    assert summary.statuses == {"failed": 2, "forfeited": 1}
    assert {agent: tally.failed for agent, tally in summary.totals.items()} == {
        "hf_one": 2,
        "hf_two": 2,
    }
    assert summary.totals["hf_one"].forfeits == 1
    assert summary.totals["hf_two"].wins == 1
    failed, forfeited = summary.failures
    assert (failed.kind, failed.agent) == ("UNAVAILABLE BACKEND_DOWN", "hf_one")
    assert len(failed.episodes) == 2
    assert (forfeited.status, forfeited.agent) == ("forfeited", "hf_one")

"""Outcomes, answers and failures, compared with OpenSpiel and with examples."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import astuple, replace
from itertools import groupby, permutations
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyspiel
import pytest

from arena.export.tables import TABLES
from arena.report.answers import Share
from arena.report.count import Summary, summarise
from arena.report.load import open_results
from arena.report.outcomes import WinDrawLoss, find_outcome
from arena.report.tables import make_tables
from arena.results.columns import Kind
from arena.results.rows import CallKey, EpisodeRow, ExperimentRow, FailedCallRow, MoveRow
from arena.results.store import Store
from tests.support.random_play import GAMES, Played, asked, play, write
from tests.support.results import content

AGENTS = ("hf_one", "hf_two", "random")


def ended(
    returns: tuple[float, ...] | None = None,
    *,
    agents: str = "ab",
    status: str = "finished",
    loser: int | None = None,
) -> EpisodeRow:
    return EpisodeRow(
        episode="game/0/x",
        game="game",
        number=0,
        agents=tuple(agents),
        seed=0,
        status=status,
        plies=1,
        loser=loser,
        returns=returns,
    )


@pytest.mark.parametrize(
    ("episode", "outcomes"),
    [
        (ended((1.0, -1.0)), ["win", "loss"]),
        (ended((0.0, 0.0)), ["draw", "draw"]),
        # The returns need not add up to 0.
        (ended((10.0, 5.0)), ["win", "loss"]),
        (ended((5.0, 5.0)), ["draw", "draw"]),
        (ended((-2.0, -1.0)), ["loss", "win"]),
        # A shared first place is a draw.
        (ended((1.0, 1.0, -2.0), agents="abc"), ["draw", "draw", "loss"]),
        (ended((2.0, -1.0, -1.0), agents="abc"), ["win", "loss", "loss"]),
        (ended(status="forfeited", loser=0), ["loss", "win"]),
        (ended(status="forfeited", loser=1, agents="abc"), ["win", "loss", "win"]),
        (ended(status="forfeited"), ["loss", "loss"]),
        (ended(status="failed"), ["failed", "failed"]),
        (ended((0.0, 0.0), status="truncated"), ["draw", "draw"]),
        (ended((1.0, 3.0), status="truncated"), ["loss", "win"]),
        (ended((3.0,), agents="a"), [None]),
        (ended(status="forfeited", loser=0, agents="a"), ["loss"]),
    ],
)
def test_an_episode_has_an_outcome_for_each_seat(
    episode: EpisodeRow, outcomes: list[str | None]
) -> None:
    assert [find_outcome(episode, seat) for seat in range(len(episode.agents))] == outcomes


def test_a_failed_episode_is_counted_but_is_not_a_game() -> None:
    count = WinDrawLoss()
    kinds = (
        Kind("game", ("a", "b"), "finished", returns=(2.0, -2.0)),
        Kind("game", ("a", "b"), "finished", returns=(0.0, 0.0)),
        Kind("game", ("a", "b"), "forfeited", loser=0),
        Kind("game", ("a", "b"), "failed"),
    )
    for unit, kind in enumerate(kinds):
        count.add(kind, 0, np.array([unit]))
    assert (count.wins, count.draws, count.losses) == (1, 1, 1)
    assert (count.games, count.forfeits, count.failed) == (3, 1, 1)
    assert count.score == 0.5
    mean, strict = count.scores.mean(), count.strict.mean()
    assert mean is not None
    assert strict is not None
    assert (mean.value, mean.n) == (0.5, 3)
    assert (strict.value, strict.n) == (0.375, 4)  # the failed episode is a loss


_ACTION = [name for name, _ in TABLES[2].columns].index("action")


def test_a_share_of_a_total_of_0_is_unknown() -> None:
    assert Share(0, 0).value is None


def summarise_file(path: Path) -> Summary:
    with open_results(path) as results:
        return summarise(results)


def replay_with_openspiel(path: Path) -> dict[str, tuple[str, list[str], list[float]]]:
    """Game, agents and returns of each episode, from its stored actions alone."""
    replayed = {}
    rows = content(path)
    for episode, game, _, agents, *_ in rows["episodes"]:
        state = pyspiel.load_game(game).new_initial_state()
        played = [row for row in rows["moves"] if row[0] == episode and row[_ACTION] is not None]
        for _, turn in groupby(sorted(played, key=itemgetter(1, 2)), itemgetter(1)):
            together = [row[_ACTION] for row in turn]
            if state.is_simultaneous_node():
                state.apply_actions(together)
            else:
                state.apply_action(*together)
        assert state.is_terminal()
        replayed[episode] = (game, json.loads(agents), state.returns())
    return replayed


def test_counts_are_those_of_openspiels_replays(tmp_path: Path) -> None:
    """Each game with its own text, and each pair of players in both orders."""
    played = [
        play(game, pair, 0, lambda row: [asked(row)])
        for game in GAMES
        if game != "chess"  # its episodes are long, and count like those of other games
        for pair in permutations(AGENTS, 2)
    ]
    path = write(tmp_path / "all.db", played)
    summary = summarise_file(path)
    wins: Counter[tuple[str, str]] = Counter()
    losses: Counter[tuple[str, str]] = Counter()
    draws: Counter[tuple[str, str]] = Counter()
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    replayed = replay_with_openspiel(path)
    for game, agents, (first, second) in replayed.values():
        one, two = ((agent, game) for agent in agents)
        winner, loser = (one, two) if first > second else (two, one)
        if first == second:
            draws.update((one, two))
        else:
            wins[winner] += 1
            losses[loser] += 1
        sums[one] += first
        sums[two] += second
    assert len(replayed) == len(played) == 10 * 6
    assert len(summary.returns) == 10 * len(AGENTS)
    for key, found in summary.returns.items():
        assert found.mean is not None
        assert found.mean.value * found.episodes == pytest.approx(sums[key], abs=1e-9)
    # Nobody wins the prisoner's dilemma.
    assert {game for _, game in summary.returns} - {game for _, game in summary.outcomes} == {
        "matrix_pd"
    }
    for key, count in summary.outcomes.items():
        assert (count.wins, count.draws, count.losses) == (wins[key], draws[key], losses[key])
    won = sum(count for (_, game), count in wins.items() if game != "matrix_pd")
    assert sum(count.wins for count in summary.totals.values()) == won
    assert len(summary.replays) == len(replayed)
    assert not summary.unverified


def test_results_that_the_actions_do_not_lead_to_are_unverified(tmp_path: Path) -> None:
    """A swapped result, a missing last move, an illegal move, and wrong returns of a truncated
    episode."""
    good = [play("tic_tac_toe", ("hf_one", "random"), number) for number in range(4)]
    won = next(game for game in good if game.row.returns != (0.0, 0.0))
    others = [game for game in good if game is not won]
    swapped = replace(won.row, returns=tuple(-value for value in won.row.returns or ()))
    first = others[0].moves[0]
    cut = play("tic_tac_toe", ("hf_one", "random"), 4)
    truncated = replace(cut.row, status="truncated", returns=(9.0, -9.0))
    broken = [
        Played(swapped, won.moves),
        Played(others[1].row, others[1].moves[:-1]),
        Played(others[0].row, (first, replace(others[0].moves[1], action=first.action))),
        Played(truncated, cut.moves[:2]),
    ]
    summary = summarise_file(write(tmp_path / "r.db", [*broken, others[2]]))
    assert set(summary.unverified) == {game.row.episode for game in broken}
    assert "OpenSpiel's returns are" in summary.unverified[won.row.episode]
    assert "do not reach the game's end" in summary.unverified[others[1].row.episode]
    assert "may not play" in summary.unverified[others[0].row.episode]


def test_counts_that_the_moves_do_not_lead_to_are_unverified(tmp_path: Path) -> None:
    games = [play("tic_tac_toe", ("hf_one", "random"), number) for number in range(2)]
    path = write(tmp_path / "r.db", games)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE seats SET turns = turns + 1 WHERE episode = 1 AND seat = 0")
    assert set(summarise_file(path).unverified.values()) == {
        "the stored counts are not those of the moves"
    }


def test_figures_need_no_moves_and_the_first_episodes_are_verified(tmp_path: Path) -> None:
    """A million episodes have figures in seconds; what was verified is said."""
    games = [
        play("tic_tac_toe", pair, number, lambda row: [asked(row)])
        for number in range(4)
        for pair in permutations(("hf_one", "hf_two"))
    ]
    path = write(tmp_path / "r.db", games)
    with open_results(path) as results:
        whole, part = summarise(results, None), summarise(results, 2)
    assert part.statuses == whole.statuses
    assert part.totals["hf_one"].wins == whole.totals["hf_one"].wins
    assert part.ratings == whole.ratings
    one, two = (found.answer_totals["hf_one"] for found in (whole, part))
    assert (one.turns, one.prompt_tokens, one.cost_picousd) == (
        two.turns, two.prompt_tokens, two.cost_picousd,
    )  # fmt: skip
    assert len(whole.replays) == 8
    assert {row.number for row in part.read} == {0}  # whole deals first
    facts = {fact.label: fact.detail for fact in make_tables(part).facts}
    assert "confirms 2 of 2 results; 6 were not checked" in facts["verified"]
    # Without a transcript nothing but the replay is missing.
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM transcripts")
    with open_results(path) as results:
        assert summarise(results, 0).ratings == whole.ratings


def answer_badly(row: MoveRow) -> list[MoveRow]:
    """hf_bad answers illegally twice and then in a wrong format; a random move follows."""
    if row.agent == "random":
        return [row]
    if row.agent != "hf_bad":
        return [asked(row)]
    wrong = {"problem": "z9 is no legal action", "reply": "z9"}
    lost = {"action": None, "action_text": None, "policy": "retry"}
    return [
        asked(row, status="illegal", **lost, **wrong),
        asked(row, status="illegal", attempt=1, **lost, **wrong),
        asked(row, status="unparseable", attempt=2, policy="random", **wrong),
    ]


def test_illegal_answers_are_a_share_of_models_answers(tmp_path: Path) -> None:
    """A random player's moves are not answers of a model."""
    played = [
        play(game, ("hf_bad", opponent), 0, answer_badly)
        for game in ("hex(board_size=4)", "matrix_rps", "kuhn_poker")
        for opponent in ("hf_good", "random")
    ]
    summary = summarise_file(write(tmp_path / "r.db", played))
    bad, good = (summary.answer_totals[agent] for agent in ("hf_bad", "hf_good"))
    turns = sum(
        move.agent == "hf_bad" and move.attempt == 0 for game in played for move in game.moves
    )
    assert bad.illegal == Share(3 * turns, 3 * turns)
    assert (bad.turns, bad.calls, bad.first_legal) == (turns, 3 * turns, 0)
    assert bad.unparseable == turns
    assert bad.policies == {"retry": 2 * turns, "random": turns}
    assert good.illegal.value == 0.0
    assert good.first_legal == good.turns
    assert summary.answer_totals["random"].calls == 0
    # The run's own figure: illegal answers of all rows that name a model.
    answers = [move.status for game in played for move in game.moves if move.model]
    assert summary.total.illegal == Share(len(answers) - answers.count("ok"), len(answers))
    assert not summary.unverified


def test_calls_are_added_up_and_unknown_prices_are_counted(tmp_path: Path) -> None:
    latencies = iter(range(100, 1000, 100))
    prices = iter([25, None, 25, 25, 25])
    tokens = iter([10, 10, None, 10, 10])

    def answer(row: MoveRow) -> list[MoveRow]:
        if row.agent == "random":
            return [row]
        return [
            asked(
                row,
                latency_ms=float(next(latencies)),
                cost_picousd=next(prices),
                prompt_tokens=next(tokens),
                completion_tokens=3,
                finish_reason="refusal" if row.ply == 0 else "stop",
                reasoning_tokens=None,
                replayed=1,
                cached=int(row.ply > 1),
                failed_models="hf_a: MODEL_NOT_FOUND" if row.ply > 3 else None,
            )
        ]

    hosted = "openrouter_one"  # a local model costs nothing
    game = play("tic_tac_toe", (hosted, "random"), 1, answer)
    calls = sum(move.agent == hosted for move in game.moves)
    stats = summarise_file(write(tmp_path / "r.db", [game])).answer_totals[hosted]
    assert (stats.calls, stats.unpriced, stats.uncounted, stats.reasoned) == (calls, 1, 1, 0)
    assert stats.cost_picousd == (calls - 1) * 25
    assert stats.prompt_tokens == (calls - 1) * 10
    assert (stats.ends, stats.replayed) == ({"refusal": 1}, calls)
    assert (stats.cached, stats.fallbacks) == (calls - 1, calls - 2)
    assert stats.percentile(50) == 50 + 50 * calls  # the middle of 100, 200, ...


def test_what_failed_calls_took_is_part_of_the_cost(tmp_path: Path) -> None:
    game = play("tic_tac_toe", ("random", "hf_one"), 0, lambda row: [asked(row, cost_picousd=100)])
    path = write(tmp_path / "r.db", [game])
    row = game.row
    with Store(path, ExperimentRow("test", "{}"), []) as store:
        for episode, seat in ((row.episode, 1), (row.episode, 7), ("unknown", 1)):
            key = CallKey(episode, 1, seat, 0)
            failed = FailedCallRow(*astuple(key), 0, "INTERNAL", 3, None, 5)
            store.put_failed_calls(key, [failed])
    before, after = (
        summarise_file(file).answers["hf_one", "tic_tac_toe"]
        for file in (write(tmp_path / "other.db", [game]), path)
    )
    assert after.calls == before.calls
    assert after.cost_picousd == before.cost_picousd + 5
    assert after.prompt_tokens == before.prompt_tokens + 3


def test_who_answered_is_counted_for_each_player(tmp_path: Path) -> None:
    def answer(row: MoveRow) -> list[MoveRow]:
        if row.ply == 0:
            lost = asked(row, status="illegal", provider="fast", policy="retry", action=None)
            return [lost, asked(row, attempt=1, provider="slow", precision="fp8")]
        return [asked(row, provider="fast" if row.agent == "hf_one" else "")]

    game = play("tic_tac_toe", ("hf_one", "hf_two"), 1, answer)
    own = sum(move.agent == "hf_one" for move in game.moves)
    origins = summarise_file(write(tmp_path / "r.db", [game])).origins
    assert (origins["hf_one"].several, origins["hf_two"].several) == (True, False)
    assert origins["hf_one"].total == own
    assert [
        (origin.provider, origin.precision, answers, illegal)
        for origin, answers, illegal in origins["hf_one"].listed()
    ] == [("fast", "", own - 1, 1), ("slow", "fp8", 1, 0)]


def test_failed_and_forfeited_episodes_are_grouped_by_their_error(tmp_path: Path) -> None:
    game = play("tic_tac_toe", ("hf_one", "hf_two"), 0)
    again = play("tic_tac_toe", ("hf_one", "hf_two"), 1)
    other = play("tic_tac_toe", ("hf_two", "hf_one"), 0)
    reason = "UNAVAILABLE BACKEND_DOWN hf at localhost:50054"
    down = replace(game.moves[2], status="error", problem=reason, action=None, action_text=None)
    failed_episodes = [
        Played(
            replace(found.row, status="failed", reason=f"{reason} ({found.row.number})"),
            (replace(down, episode=found.row.episode),),
        )
        for found in (game, again)
    ]
    refused = replace(other.moves[1], status="illegal", policy="forfeit", action=None)
    gave_up = replace(other.row, status="forfeited", reason="no legal answer", loser=1)
    forfeited_episode = Played(gave_up, (other.moves[0], refused))
    summary = summarise_file(write(tmp_path / "r.db", [*failed_episodes, forfeited_episode]))
    assert summary.statuses == {"failed": 2, "forfeited": 1}
    assert {agent: count.failed for agent, count in summary.totals.items()} == {
        "hf_one": 2,
        "hf_two": 2,
    }
    assert summary.totals["hf_one"].forfeits == 1
    assert summary.totals["hf_two"].wins == 1
    failed, forfeited = summary.failures
    assert (failed.kind, failed.agent) == ("UNAVAILABLE BACKEND_DOWN", "hf_one")
    assert len(failed.episodes) == 2
    assert (forfeited.status, forfeited.agent) == ("forfeited", "hf_one")

"""Wins, draws and losses."""

from __future__ import annotations

import pytest

from arena.report.outcomes import Share, Tally, comparisons, outcome
from arena.results.rows import EpisodeRow


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
        # A sum of the returns that is not 0 changes nothing.
        (ended((10.0, 5.0)), ["win", "loss"]),
        (ended((5.0, 5.0)), ["draw", "draw"]),
        (ended((-2.0, -1.0)), ["loss", "win"]),
        # Two are first together: nobody is above all others.
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
    assert [outcome(episode, seat) for seat in range(len(episode.agents))] == outcomes


@pytest.mark.parametrize(
    ("episode", "pairs"),
    [
        (ended((1.0, -1.0)), [("a", "b", 1.0)]),
        (ended((0.0, 0.0)), [("a", "b", 0.5)]),
        (
            ended((3.0, 1.0, 1.0), agents="abc"),
            [("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 0.5)],
        ),
        # Of those who did not forfeit, nobody beat anybody.
        (
            ended(status="forfeited", loser=1, agents="abc"),
            [("a", "b", 1.0), ("b", "c", 0.0)],
        ),
        (ended(status="forfeited"), []),
        (ended(status="failed"), []),
        (ended((0.0, 0.0), status="truncated"), [("a", "b", 0.5)]),
        (ended((1.0, -1.0), agents="aa"), []),
    ],
)
def test_each_pair_of_players_is_compared(
    episode: EpisodeRow, pairs: list[tuple[str, str, float]]
) -> None:
    assert list(comparisons(episode)) == pairs


def test_a_failed_episode_is_counted_and_is_no_result() -> None:
    tally = Tally()
    for episode in (
        ended((2.0, -2.0)),
        ended((0.0, 0.0)),
        ended(status="forfeited", loser=0),
        ended(status="failed"),
    ):
        tally.add(episode, 0)
    assert (tally.wins, tally.draws, tally.losses) == (1, 1, 1)
    assert (tally.games, tally.forfeits, tally.failed) == (3, 1, 1)
    assert tally.score == 0.5
    assert tally.mean_return == 1.0  # of the two that were played to their end


@pytest.mark.parametrize(
    ("count", "total", "interval"),
    # By hand, from Wilson's formula with z = 1.959964.
    [(5, 10, (0.2366, 0.7634)), (0, 10, (0.0, 0.2775)), (8, 8, (0.6756, 1.0))],
)
def test_a_share_has_wilsons_interval(
    count: int, total: int, interval: tuple[float, float]
) -> None:
    assert Share(count, total).interval == pytest.approx(interval, abs=1e-4)


def test_a_share_of_nothing_is_unknown() -> None:
    assert Share(0, 0).value is None
    assert Share(0, 0).interval is None

"""Episodes become comparisons, units and clusters; the ratings themselves are tested elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from arena.games.scale import GameScale
from arena.report.ratings import Ratings, compare_players, rate_episodes
from arena.report.units import Units
from arena.results.columns import Ended, Episodes, Kind
from arena.results.rows import EpisodeRow, ModelRow

ENGINE = '{"reply": "score"}'


def games(*results: tuple[str, float]) -> list[EpisodeRow]:
    """Finished games for two, each on its own deal. results: players, return of the first."""
    return [
        EpisodeRow(
            episode=f"game/{number}/{players}",
            game="game",
            number=number,
            agents=tuple(players),
            seed=number,
            status="finished",
            plies=1,
            returns=(value, -value),
        )
        for number, (players, value) in enumerate(results)
    ]


def rated(
    rows: Sequence[EpisodeRow], *, chance: bool = False, fixed: str = "", drawn: bool = False
) -> Ratings:
    """fixed: players that always answer alike. drawn: random moves replaced illegal ones."""
    participants = {
        name: ModelRow(name, "llm", "hf_x" if name in fixed else "openrouter_x", ENGINE)
        for row in rows
        for name in row.agents
    }
    episodes = Episodes.collect(
        Ended(Kind(row.game, row.agents, row.status, row.loser, row.returns), row.seed, 7, drawn)
        for row in rows
    )
    units = Units(episodes, {"game": GameScale(True, -1, 1, chance)}, participants)
    return rate_episodes(episodes, units, ["game"])


def ends(found: Ratings) -> list[tuple[str, float, float, float]]:
    return [
        (found.name(s.player), round(s.rating, 3), round(s.low, 3), round(s.high, 3))
        for s in found.strengths
    ]


def test_five_wins_have_an_open_end() -> None:
    """They have been 1708, 1708-1708."""
    (best, worst) = ends(rated(games(*[("ab", 1.0)] * 5)))
    assert (best[0], round(best[1]), round(best[2]), best[3]) == ("a", 1708, 1492, math.inf)
    assert (worst[0], round(worst[1]), worst[2], round(worst[3])) == ("b", 1292, -math.inf, 1508)


def test_swapped_seats_on_one_deal_are_one_unit() -> None:
    """The deal decides every game: 12 games in both seats are six draws, not luck."""
    both = [
        replace(row, agents=tuple(order), episode=f"{number}{order}")
        for number, row in enumerate(games(*[("ab", 1.0)] * 6))
        for order in ("ab", "ba")
    ]
    paired = ends(rated(both, chance=True))
    alone = [replace(row, seed=number) for number, row in enumerate(both)]
    apart = ends(rated(alone, chance=True))
    assert paired[0][1] == apart[0][1] == 1500
    assert paired[0][3] - paired[0][2] < apart[0][3] - apart[0][2]


@pytest.mark.parametrize("copies", [1, 6])
def test_repeating_games_that_always_go_alike_changes_no_interval(copies: int) -> None:
    results = [("ab", 1.0), ("ba", 1.0), ("bc", 1.0), ("ac", -1.0)]
    once, often = games(*results), games(*results * copies)
    assert ends(rated(often, fixed="abc")) == ends(rated(once, fixed="abc"))


def test_equal_games_stay_separate_where_something_was_drawn() -> None:
    """Random players, hosted models and chance events make equal games separate draws."""
    episodes = games(*[("ab", 1.0)] * 6)
    assert ends(rated(episodes, fixed="a")) == ends(rated(episodes))
    assert ends(rated(episodes, fixed="ab", drawn=True)) == ends(rated(episodes))
    assert ends(rated(episodes, fixed="ab")) != ends(rated(episodes))


def test_one_deal_for_all_is_reported() -> None:
    episodes = [replace(row, seed=0) for row in games(("ab", 1), ("bc", 1), ("ac", 1))]
    assert rated(episodes, chance=True).one_deal
    assert not rated(episodes, chance=False).one_deal


def test_the_first_seat_has_an_effect_of_its_own() -> None:
    found = rated(games(*[("ab", 1.0), ("ba", 1.0)] * 10))
    assert found.seats["game", 0].low > 0
    assert found.strengths[0].rating == pytest.approx(1500)
    alone = rated(games(*[("ab", 1.0)] * 3))
    assert not alone.seats["game", 0].known


def test_a_player_who_met_nobody_is_not_rated() -> None:
    assert not rated([])
    assert not rated(games(("aa", 1)))


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
    ("episode", "pairs"),
    [
        (ended((1.0, -1.0)), [("a", "b", 1.0)]),
        (ended((0.0, 0.0)), [("a", "b", 0.5)]),
        (
            ended((3.0, 1.0, 1.0), agents="abc"),
            [("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 0.5)],
        ),
        # Players who did not forfeit are not compared with each other.
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
    assert [found[:3] for found in compare_players(episode)] == pairs

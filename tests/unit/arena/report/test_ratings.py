"""Ratings, compared with examples that can be calculated by hand."""

from __future__ import annotations

from math import log10

import pytest

from arena.report.ratings import Rating, compare_players, rate
from arena.results.rows import EpisodeRow


def games(*results: tuple[str, float]) -> list[EpisodeRow]:
    """Finished games for two. results: the players' names, and the return of the first."""
    return [
        EpisodeRow(
            episode=f"game/{number}/{players}",
            game="game",
            number=number,
            agents=tuple(players),
            seed=0,
            status="finished",
            plies=1,
            returns=(value, -value),
        )
        for number, (players, value) in enumerate(results)
    ]


def rated(episodes: list[EpisodeRow], resamples: int = 50) -> dict[str, Rating]:
    return {rating.agent: rating for rating in rate(episodes, resamples)}


def test_two_players() -> None:
    """a won 3 of 4. The additional draw makes it 3.5 to 1.5, so the players are
    400 log10(3.5 / 1.5) = 147.2 points apart, at equal distances from 1500."""
    found = rated(games(("ab", 1), ("ab", 1), ("ba", -1), ("ba", 1)))
    assert found["a"].rating == pytest.approx(1500 + 73.595, abs=0.01)
    assert found["b"].rating == pytest.approx(1500 - 73.595, abs=0.01)
    assert found["a"].games == 4


def test_three_players_in_a_row() -> None:
    """a and c never met: their distance is the distance a to b plus the distance b to c."""
    found = rated(games(("ab", 1), ("ab", 1), ("ab", 0), ("bc", 1)))
    first = 400 * log10(3 / 1)  # with the additional draw: 3 to 1
    second = 400 * log10(1.5 / 0.5)
    assert found["a"].rating - found["b"].rating == pytest.approx(first, abs=0.01)
    assert found["b"].rating - found["c"].rating == pytest.approx(second, abs=0.01)
    assert sum(rating.rating for rating in found.values()) == pytest.approx(4500)


def test_a_draw_is_half_a_win() -> None:
    drawn, shared = games(("ab", 0), ("ab", 0)), games(("ab", 1), ("ab", -1))
    assert rated(drawn)["a"].rating == pytest.approx(1500)
    assert rated(shared)["a"].rating == pytest.approx(1500)


def test_a_player_who_lost_every_game_has_a_rating() -> None:
    found = rated(games(*[("ab", 1.0)] * 10))
    assert found["a"].rating - found["b"].rating == pytest.approx(400 * log10(10.5 / 0.5), abs=0.01)


def test_groups_that_never_met_are_rated_separately() -> None:
    found = rate(games(("ab", 1), ("cd", 1), ("cd", 1)), resamples=20)
    assert [(rating.agent, rating.group) for rating in found] == [
        ("a", 0),
        ("b", 0),
        ("c", 1),
        ("d", 1),
    ]
    for group in (0, 1):
        mine = [rating.rating for rating in found if rating.group == group]
        assert sum(mine) / len(mine) == pytest.approx(1500)


def test_intervals_contain_the_rating_and_get_narrower_with_more_games() -> None:
    few = [("ab", 1.0), ("ab", 1.0), ("ba", 1.0), ("ab", 0.0), ("ba", -1.0)]
    one, many = rated(games(*few), 200)["a"], rated(games(*few * 20), 200)["a"]
    assert one.low < one.rating < one.high
    assert many.high - many.low < (one.high - one.low) / 2


def test_the_same_results_give_the_same_intervals() -> None:
    episodes = games(("ab", 1), ("ab", -1), ("bc", 1), ("ca", 0))
    assert rate(episodes, 30) == rate(episodes, 30)


def test_a_player_who_met_nobody_is_not_rated() -> None:
    assert rate([]) == []
    assert rate(games(("aa", 1))) == []


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
    assert list(compare_players(episode)) == pairs

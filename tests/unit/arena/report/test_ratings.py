"""Ratings against examples that can be worked by hand."""

from __future__ import annotations

from math import log10

import pytest

from arena.report.ratings import Rating, rate
from arena.results.rows import EpisodeRow


def games(*results: tuple[str, float]) -> list[EpisodeRow]:
    """Of (players, return of the first) each."""
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
    """a won 3 of 4. With one draw more: 3.5 to 1.5, so 400 log10(3.5 / 1.5) = 147.2 points
    apart, half of them above 1500 and half below."""
    found = rated(games(("ab", 1), ("ab", 1), ("ba", -1), ("ba", 1)))
    assert found["a"].rating == pytest.approx(1500 + 73.595, abs=0.01)
    assert found["b"].rating == pytest.approx(1500 - 73.595, abs=0.01)
    assert found["a"].games == 4


def test_three_players_in_a_row() -> None:
    """a and c never met: the distance from a to c is that from a to b plus that from b to c."""
    found = rated(games(("ab", 1), ("ab", 1), ("ab", 0), ("bc", 1)))
    first = 400 * log10(3 / 1)  # 2.5 + 0.5 to 0.5 + 0.5
    second = 400 * log10(1.5 / 0.5)
    assert found["a"].rating - found["b"].rating == pytest.approx(first, abs=0.01)
    assert found["b"].rating - found["c"].rating == pytest.approx(second, abs=0.01)
    assert sum(rating.rating for rating in found.values()) == pytest.approx(4500)


def test_a_draw_is_half_a_win() -> None:
    drawn, shared = games(("ab", 0), ("ab", 0)), games(("ab", 1), ("ab", -1))
    assert rated(drawn)["a"].rating == pytest.approx(1500)
    assert rated(shared)["a"].rating == pytest.approx(1500)


def test_who_lost_all_has_a_rating() -> None:
    found = rated(games(*[("ab", 1.0)] * 10))
    assert found["a"].rating - found["b"].rating == pytest.approx(400 * log10(10.5 / 0.5), abs=0.01)


def test_groups_that_never_met_are_rated_apart() -> None:
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


def test_intervals_hold_the_rating_and_narrow_with_more_games() -> None:
    few = [("ab", 1.0), ("ab", 1.0), ("ba", 1.0), ("ab", 0.0), ("ba", -1.0)]
    one, many = rated(games(*few), 200)["a"], rated(games(*few * 20), 200)["a"]
    assert one.low < one.rating < one.high
    assert many.high - many.low < (one.high - one.low) / 2


def test_the_same_results_give_the_same_intervals() -> None:
    episodes = games(("ab", 1), ("ab", -1), ("bc", 1), ("ca", 0))
    assert rate(episodes, 30) == rate(episodes, 30)


def test_nobody_is_rated_who_met_nobody() -> None:
    assert rate([]) == []
    assert rate(games(("aa", 1))) == []

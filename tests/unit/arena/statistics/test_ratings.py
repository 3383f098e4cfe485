"""Ratings of simple tables, against numbers by hand, evalica, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import evalica
import numpy as np
import pytest

from arena.statistics.bradley_terry import Design, fit, profile
from arena.statistics.elo import POINTS, to_elo
from arena.statistics.ratings import Matches, Rated, rate

Game = tuple[int, int, float]


def matches(
    games: Sequence[Game],
    *,
    seats: bool = False,
    units: Sequence[int] | None = None,
    clusters: Sequence[int] | None = None,
    weight: float = 1.0,
) -> Matches:
    """One comparison a game. seats: the first player's seat has an effect."""
    first, second, score = (np.array(column) for column in zip(*games, strict=True))
    none = np.full(len(games), -1)
    unit = np.arange(len(games)) if units is None else np.array(units)
    return Matches(
        first,
        second,
        score.astype(float),
        none * 0 if seats else none,
        none,
        unit,
        unit if clusters is None else np.array(clusters),
        np.full(len(games), weight),
    )


def ends(rated: Rated) -> list[tuple[int, int, int, int]]:
    """Every rating, rounded, by player."""
    return sorted(
        (found.player, round(found.rating, 3), round(found.low, 3), round(found.high, 3))
        for found in rated.strengths
    )


def random_games(players: int, count: int, seed: int, draws: float = 0.3) -> list[Game]:
    rng = np.random.default_rng(seed)
    return [
        (*pair, 0.5 if rng.random() < draws else float(rng.random() < 0.4 + 0.05 * pair[1]))
        for pair in combinations(range(players), 2)
        for _ in range(count)
    ]


def test_a_sweep_of_five_games_has_an_open_end() -> None:
    """5-0 has been 1708, 1708-1708."""
    (difference,) = rate(matches([(0, 1, 1.0)] * 5), 2).differences
    assert (difference.first, difference.second) == (0, 1)
    assert round(difference.low) == -15
    assert difference.high == math.inf
    assert difference.p == pytest.approx(2 / 2**5)
    # One virtual draw: 5.5 to 0.5.
    assert difference.points == pytest.approx(400 * math.log10(5.5 / 0.5))
    strong, weak = rate(matches([(0, 1, 1.0)] * 5), 2).strengths
    assert (round(strong.low), strong.high) == (1492, math.inf)
    assert (weak.low, round(weak.high)) == (-math.inf, 1508)


def test_two_deals_of_three_players_have_wide_and_finite_intervals() -> None:
    """Two clusters widen intervals so much that nearly all games are certain at their ends."""
    games = [(0, 1, 1.0), (0, 2, 1.0), (1, 2, 0.5), (0, 1, 0.0), (0, 2, 0.5), (1, 2, 1.0)]
    rated = rate(matches(games, clusters=[0, 0, 0, 1, 1, 1]), 3)
    found = {(one.first, one.second): one for one in rated.differences}
    assert found[0, 1].points == pytest.approx(0, abs=1e-6)
    assert -found[0, 1].low == pytest.approx(found[0, 1].high)
    assert 5_000 < found[0, 1].high < 50_000
    assert all(one.low < one.points < one.high < math.inf for one in rated.differences)


@pytest.mark.parametrize("contrast", [(1.0, -1.0), (1.0, 0.0)], ids=["of two", "of the last"])
def test_a_profile_reaches_any_fall_of_the_likelihood(contrast: tuple[float, float]) -> None:
    """Far out one point costs the whole difference: twice the fall is 2 * points * difference."""
    games, points = np.array([4.0, 4.0, 4.0]), np.array([2.0, 2.0, 2.0])
    fitted = fit(Design(np.array([[1.0, -1.0], [1.0, 0.0], [0.0, 1.0]])), games, points)
    low, high = profile(fitted, np.array([contrast]), np.array([[4_000.0]]))
    # All effects are 0, and half of each cell's points are lost. The third player stays with one
    # of the two: then a difference costs the points of two cells.
    lost = fitted.points[0, 0] + fitted.points[0, 1]
    assert high[0, 0] == pytest.approx(4_000 / (2 * lost), rel=0.02)
    assert low[0, 0] == pytest.approx(-high[0, 0])


def test_two_players_have_the_interval_of_their_score() -> None:
    """7 of 10: Clopper and Pearson's interval is 0.348 to 0.933."""
    games = [(0, 1, 1.0)] * 7 + [(0, 1, 0.0)] * 3
    (difference,) = rate(matches(games), 2).differences
    assert difference.low == pytest.approx(to_elo(0.34755), abs=0.1)
    assert difference.high == pytest.approx(to_elo(0.93326), abs=0.1)
    assert difference.p == pytest.approx(2 * 176 / 1024)


@pytest.mark.parametrize("winner", [0, 2])
def test_ends_are_open_only_where_no_points_lead_back(winner: int) -> None:
    """One player of three won every game; the other two share theirs."""
    others = [player for player in range(3) if player != winner]
    games = [(winner, other, 1.0) for other in others for _ in range(4)]
    games += [(*others, 1.0), (*others, 0.0)]
    rated = rate(matches(games), 3)
    bounds = {found.player: (found.low, found.high) for found in rated.strengths}
    assert math.isfinite(bounds[winner][0])
    assert bounds[winner][1] == math.inf
    assert all(math.isfinite(end) for other in others for end in bounds[other])
    for found in rated.differences:
        assert math.isfinite(found.low)
        assert math.isfinite(found.high) == (winner not in (found.first, found.second))


def test_ratings_are_those_of_evalica_with_the_same_virtual_draws() -> None:
    names = [f"player {number}" for number in range(6)]
    games = random_games(6, 10, seed=1)
    rated = rate(matches(games), 6)
    own = {names[found.player]: found.rating for found in rated.strengths}
    pairs = sorted({game[:2] for game in games})
    played = [[game for game in games if game[:2] == pair] for pair in pairs]
    design = np.zeros((len(pairs), 6))
    for row, (first, second) in enumerate(pairs):
        design[row, first], design[row, second] = 1, -1
    fitted = fit(
        Design(design[:, :-1]),
        np.array([len(found) for found in played]),
        np.array([sum(game[2] for game in found) for found in played]),
    )
    assert fitted.virtual.sum() == pytest.approx(5)  # one for each free strength
    tables = [(*game[:2], game[2], 1.0) for game in games]
    tables += [
        (*pair, 0.5, float(draws)) for pair, draws in zip(pairs, fitted.virtual[0], strict=True)
    ]
    winner = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    result = evalica.bradley_terry(
        [names[row[0]] for row in tables],
        [names[row[1]] for row in tables],
        [winner[row[2]] for row in tables],
        weights=[row[3] for row in tables],
        tolerance=1e-14,
        limit=100_000,
    )
    theirs = POINTS * np.log(result.scores)
    theirs += 1500 - theirs.mean()
    for name in names:
        assert own[name] == pytest.approx(theirs[name], abs=1e-5)


def test_many_games_need_no_virtual_draws_to_agree() -> None:
    games = random_games(3, 1000, seed=2, draws=0.0)
    names = "abc"
    result = evalica.bradley_terry(
        [names[first] for first, _, _ in games],
        [names[second] for _, second, _ in games],
        [evalica.Winner.X if score else evalica.Winner.Y for _, _, score in games],
        tolerance=1e-14,
    )
    theirs = POINTS * np.log(result.scores)
    theirs += 1500 - theirs.mean()
    for found in rate(matches(games), 3).strengths:
        assert found.rating == pytest.approx(theirs[names[found.player]], abs=0.5)


def test_a_seat_has_its_own_effect_if_both_orders_were_played() -> None:
    """The first seat wins four of five games; the players are equal, but sat there unevenly."""
    games = [(0, 1, 1.0)] * 32 + [(0, 1, 0.0)] * 8 + [(1, 0, 1.0)] * 8 + [(1, 0, 0.0)] * 2
    without, with_seat = (rate(matches(games, seats=seats), 2) for seats in (False, True))
    assert without.strengths[0].low > 1500
    assert with_seat.strengths[0].rating == pytest.approx(1500, abs=10)
    (seat,) = with_seat.seats
    assert seat.known
    assert 0 < seat.low < seat.points < seat.high


def test_without_both_orders_seat_and_player_cannot_be_told_apart() -> None:
    (seat,) = rate(matches([(0, 1, 1.0), (0, 1, 0.0)], seats=True), 2).seats
    assert not seat.known


def test_copies_that_count_once_change_no_interval() -> None:
    """Every game six times, each with a sixth of the weight, in the unit of the first."""
    games = random_games(4, 5, seed=3)
    once = rate(matches(games), 4)
    units = [number for number in range(len(games)) for _ in range(6)]
    copied = [game for game in games for _ in range(6)]
    assert ends(rate(matches(copied, units=units, weight=1 / 6), 4)) == ends(once)
    apart = rate(matches(copied), 4)
    assert all(
        more.high - more.low < (few.high - few.low) / 2
        for more, few in zip(
            sorted(apart.strengths, key=lambda found: found.player),
            sorted(once.strengths, key=lambda found: found.player),
            strict=True,
        )
    )


def test_common_deals_that_favour_somebody_make_intervals_wider() -> None:
    """All pairs play ten deals; on half of them player 0 wins every game."""
    games, deals = [], []
    for pair in combinations(range(4), 2):
        for deal in range(10):
            games.append((*pair, float(deal < 5) if 0 in pair else float(deal % 2)))
            deals.append(deal)
    own, shared = (
        rate(matches(games, clusters=clusters), 4).strengths[0] for clusters in (None, deals)
    )
    assert shared.rating == own.rating
    assert shared.high - shared.low > 1.3 * (own.high - own.low)


def test_groups_that_never_met_are_rated_apart() -> None:
    rated = rate(matches([(0, 1, 1.0), (3, 4, 1.0), (3, 4, 0.0)]), 5)
    assert {(found.player, found.group) for found in rated.strengths} == {
        (0, 0), (1, 0), (3, 1), (4, 1),
    }  # fmt: skip
    assert len(rated.differences) == 2


@pytest.mark.parametrize("players", [2, 3])
def test_an_anchor_is_exact(players: int) -> None:
    games = random_games(players, 6, seed=4)
    free, anchored = rate(matches(games), players), rate(matches(games), players, anchor=0)
    for found in anchored.strengths:
        if found.player == 0:
            assert (found.rating, found.low, found.high) == (1500, 1500, 1500)
    free_ends = {found.player: found.rating for found in free.strengths}
    for found in anchored.strengths:
        assert found.rating == pytest.approx(1500 + free_ends[found.player] - free_ends[0])


def test_nobody_met_anybody() -> None:
    none = np.array([], dtype=np.int64)
    empty = Matches(none, none, np.array([], float), none, none, none, none, np.array([], float))
    assert rate(empty, 2) == Rated()


def few_games(seed: int) -> list[Game]:
    """Up to 30 games of four players: draws, sweeps, and players who met nobody."""
    rng = np.random.default_rng(seed)
    return [
        (*map(int, rng.choice(4, 2, replace=False)), float(rng.choice([0.0, 0.5, 1.0, 1.0])))
        for _ in range(rng.integers(1, 30))
    ]


@pytest.mark.parametrize("seed", range(15))
def test_names_and_order_change_nothing(seed: int) -> None:
    games = few_games(seed)
    names = np.random.default_rng(seed).permutation(4).tolist()
    before = rate(matches(games), 4)
    renamed = [(names[first], names[second], score) for first, second, score in games]
    turned = [(second, first, 1 - score) for first, second, score in renamed]
    for after in (rate(matches(renamed[::-1]), 4), rate(matches(turned), 4)):
        back = {names[number]: number for number in range(4)}
        assert sorted((back[found[0]], *found[1:]) for found in ends(after)) == ends(before)


@pytest.mark.parametrize("seed", range(40))
def test_an_interval_excludes_0_if_and_only_if_p_is_below_5_percent(seed: int) -> None:
    for found in rate(matches(few_games(seed)), 4).differences:
        assert found.low <= found.points <= found.high
        assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
        assert found.adjusted >= found.p

"""The tables about who plays how well: ratings, differences, outcomes, returns, independence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from arena.report.answers import Share
from arena.report.cells import (
    count_cell,
    ends_cell,
    link_to_answers,
    list_by_player,
    mean_cell,
    nonzero_cell,
    rate_cell,
    share_cell,
)
from arena.report.count import Summary
from arena.report.formatting import NONE, format_count, format_p, format_percent
from arena.report.layout import Cell, Column, Row, Table
from arena.report.outcomes import WinDrawLoss
from arena.report.ratings import Ratings
from arena.statistics.ratings import MAX_ALL_PAIRS, Strength


def list_result_notes(summary: Summary) -> Iterator[str]:
    """Yield what a reader must know about the results' independence and scale."""
    others = [game for game in summary.games if not summary.is_competitive(game)]
    if others:
        yield (
            f"In {', '.join(others)}, what one player gains others need not lose, so nobody wins: "
            "players are compared by their returns, and have no rating there."
        )
    generic = [game for game in summary.games if summary.scales[game].generic]
    if generic:
        yield (
            f"The rules of {', '.join(generic)} are not written out for the players: the results "
            "there also depend on what a model knows about the game."
        )
    for game, units in summary.units.games.items():
        if units.copies:
            yield (
                f"{game}: {format_count(units.copies, 'episode')} repeat an episode of players "
                "that always answer alike, and count once together with it: more of them say "
                "nothing about other starts."
            )
        elif units.repeats:
            yield (
                f"{game}: {format_count(units.episodes, 'episode')} took only "
                f"{units.distinct:,} different courses."
            )
    if any(found.one_deal for found in (summary.ratings, *summary.game_ratings.values())):
        yield "All games of a rating have the same deal: its intervals hold for this deal alone."


def make_ratings(summary: Summary) -> Table:
    """Make the table of ratings, over all competitive games and by game."""
    ratings = {"": summary.ratings, **summary.game_ratings}
    grouped = any(found.group for rated in ratings.values() for found in rated.strengths)
    zero = f"{summary.ratings.anchor} is 1500" if summary.ratings.anchor else "mean 1500"
    note = f"Bradley-Terry on Elo's scale, {zero}."
    if grouped:
        note += (
            " Groups of players that never met have a mean of 1500 each: compare ratings within "
            "a group only."
        )
    columns = (
        Column("player", numeric=False),
        Column("rating", explain="400 points more mean odds of ten to one; a draw is half a win"),
        Column("95 %", explain=(
            "the interval, by penalised profile likelihood, or of the score of two players; ≥: "
            "nobody took a point from the player, so the games set no upper end"
        )),
        Column("compared", explain="comparisons with another player", extra=1),
        *([Column("group")] if grouped else []),
        Column("failed", explain="episodes without a result", extra=2),
    )  # fmt: skip
    rows = [
        _rating_row(summary, rated, found, game, grouped=grouped)
        for game, rated in ratings.items()
        for found in rated.strengths
    ]
    if any(map(summary.is_competitive, summary.games)):
        rated = {row.agent for row in rows}
        for agent in sorted(set(summary.participants) - rated):
            cells = [Cell(NONE), Cell("met nobody"), Cell("0", value=0), *([Cell("")] * grouped)]
            rows.append(Row([*cells, nonzero_cell(summary.count_failed(agent, ""))], agent))
    return Table("ratings", "Ratings", columns, rows, note, "interval", by_game=True)


def _rating_row(
    summary: Summary, rated: Ratings, found: Strength, game: str, *, grouped: bool
) -> Row:
    agent = rated.name(found.player)
    cells = [
        Cell(f"{found.rating:z.0f}", value=found.rating),
        ends_cell(found.low, found.high),
        count_cell(found.games),
    ]
    if grouped:
        cells.append(count_cell(found.group + 1))
    cells.append(nonzero_cell(summary.count_failed(agent, game)))
    return Row(cells, agent, game, interval=(found.low, found.rating, found.high))


def make_differences(summary: Summary) -> Table:
    """Make the table that says which players differ."""
    columns = (
        Column("player", numeric=False),
        Column("against", numeric=False),
        Column("difference", explain="the first player's rating less the other's"),
        Column("95 %", explain="the interval of the difference"),
        Column("expected", explain="the score that the difference leads to", extra=1),
        Column("p", explain=(
            "the chance of such a difference between equal players, for all rows together (Holm); "
            "below 0.05 the players differ"
        )),
    )  # fmt: skip
    rated = summary.ratings
    rows = [
        Row(
            (
                Cell(other := rated.name(found.second), value=other),
                Cell(f"{found.points:+z.0f}", value=found.points),
                ends_cell(found.low, found.high, "+"),
                Cell(format_percent(found.score), value=found.score),
                Cell(format_p(found.adjusted), value=found.adjusted),
            ),
            rated.name(found.first),
        )
        for found in rated.differences
    ]
    note = ""
    if len(rated.strengths) > MAX_ALL_PAIRS:
        note = "Each player is compared with the next one."
    return Table("differences", "Who is better?", columns, rows, note)


def make_outcomes(summary: Summary) -> Table:
    """Make the table of wins, draws and losses."""
    failed = bool(summary.statuses["failed"])
    columns = (
        Column("player", numeric=False),
        Column("games", explain="episodes with a result"),
        Column("score", explain=(
            "wins and half the draws, as a share of the games, with its 95 % interval; each "
            "independent deal counts once, with the mean of its games"
        )),
        *_WIN_DRAW_LOSS,
        Column("forfeits", explain="losses by forfeit", extra=1),
        *[
            Column("failed", explain="episodes without a result", extra=1),
            Column("score if lost", key="score_if_failed_is_lost", extra=2,
                   explain="the score with failed episodes as losses"),
        ][: 2 * failed],
    )  # fmt: skip
    rows = []
    for agent, game, count in list_by_player(summary, summary.totals, summary.outcomes):
        forfeits = nonzero_cell(count.forfeits, link_to_answers(agent, game, "forfeited"))
        cells = [count_cell(count.games), rate_cell(count.scores.mean())]
        cells += [*_outcome_cells(count), forfeits]
        if failed:
            cells += [nonzero_cell(count.failed), rate_cell(count.strict.mean())]
        rows.append(Row(cells, agent, game, _outcome_bar(count)))
    return Table("outcomes", "Wins, draws, losses", columns, rows, "", "bar", by_game=True)


def make_returns(summary: Summary) -> Table:
    """Make the table of returns, of each game on its own scale."""
    columns = (
        Column("game", numeric=False),
        Column("player", numeric=False),
        Column("episodes", explain="those that were played to a return", extra=2),
        Column(
            "mean return",
            explain="of the played episodes, with its 95 % interval by independent deals",
        ),
        Column(
            "with forfeits",
            explain="the same, if each forfeit counts as the lowest return of the game",
            extra=4,
        ),
        Column("forfeits", explain="of this player", extra=1),
        Column(
            "forfeited to",
            explain="episodes that another player forfeited, in which nobody earned a return",
            extra=5,
        ),
        Column("failed", explain="episodes without a result", extra=3),
    )  # fmt: skip
    rows = [
        Row(
            (
                Cell(game, value=game),
                Cell(agent, value=agent),
                count_cell(found.episodes),
                mean_cell(found.mean),
                mean_cell(found.strict_mean),
                nonzero_cell(found.forfeits),
                nonzero_cell(found.forfeited_to),
                nonzero_cell(found.failed),
            )
        )
        for game in summary.games
        if not summary.scales[game].is_plain
        for (agent, other), found in sorted(summary.returns.items())
        if other == game
    ]
    note = "On each game's own scale, never added over games."
    return Table("returns", "Returns", columns, rows, note)


def make_seats(summary: Summary) -> Table:
    """Make the table of what each seat is worth."""
    columns = (
        Column("game", numeric=False), Column("seat"), Column("games"), Column("score"),
        *_WIN_DRAW_LOSS,
        Column("worth", explain=(
            "points of the rating that the seat adds, against the last seat; not known if the "
            "same players always had it"
        )),
        Column("95 %"),
    )  # fmt: skip
    rows = []
    for (game, seat), count in sorted(summary.seats.items()):
        rated = summary.game_ratings.get(game, summary.ratings)
        effect = rated.seats.get((game, seat))
        known = effect is not None and effect.known
        rows.append(
            Row(
                (
                    Cell(game, value=game),
                    count_cell(seat),
                    count_cell(count.games),
                    rate_cell(count.scores.mean()),
                    *_outcome_cells(count),
                    Cell(f"{effect.points:+z.0f}", value=effect.points)
                    if effect and known
                    else Cell("not known" if effect else ""),
                    ends_cell(effect.low, effect.high, "+") if effect and known else Cell(""),
                ),
                bar=_outcome_bar(count),
            )
        )
    title = "By seat: does it matter who moves first?"
    return Table("seats", title, columns, rows, graphic="bar", page_only=True)


def make_units(summary: Summary) -> Table:
    """Make the table of what is independent in each game."""
    columns = (
        Column("game", numeric=False),
        Column("episodes", explain="those with a result"),
        Column("deals", explain="different starts, by their seeds"),
        Column("units", explain=(
            "line-ups on deals, in all seat orders: what counts as independent"
        )),
        Column("courses", explain="different sequences of moves"),
        Column("estimator", numeric=False, explain=(
            "swapped if each line-up played each deal in every seat order, else sampled"
        )),
    )  # fmt: skip
    rows = [
        Row(
            (
                Cell(game, value=game),
                count_cell(units.episodes),
                count_cell(units.deals),
                count_cell(units.units),
                count_cell(units.distinct),
                Cell(units.estimator, value=units.estimator),
            )
        )
        for game, units in sorted(summary.units.games.items())
    ]
    return Table("units", "What counts", columns, rows)


_WIN_DRAW_LOSS = (
    Column("wins", legend="win"),
    Column("draws", legend="draw"),
    Column("losses", legend="loss", explain="with forfeits"),
)


def _outcome_cells(count: WinDrawLoss) -> Iterator[Cell]:
    for number in (count.wins, count.draws, count.losses):
        yield share_cell(Share(number, count.games))._replace(detail="")


def _outcome_bar(count: WinDrawLoss) -> Sequence[tuple[str, int]]:
    return (("win", count.wins), ("draw", count.draws), ("loss", count.losses))

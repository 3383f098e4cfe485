"""Makes the report's overview and tables. terminal.py and page.py show them.

To add a column, add a Column and a Cell in one function of this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from arena.report.count import AnswerStats, Share, Summary, WinDrawLoss
from arena.report.formatting import (
    NONE,
    format_cost,
    format_count,
    format_dollars,
    format_duration,
    format_number,
    format_percent,
    format_share,
    format_signed,
    join_unknown,
)
from arena.report.layout import Cell, Column, Fact, Row, Table, Tables
from arena.report.ratings import Rating

T = TypeVar("T")

#: At most this many kinds of failures, and of unverified results, are listed.
MAX_FAILURES = 20
#: At most this many episodes of one kind of failure get a link on the page.
MAX_LINKS = 8


def make_tables(summary: Summary) -> Tables:
    """Make the overview and all tables."""
    make = (_ratings, _outcomes, _seats, _answers, _calls, _failures, _unverified)
    tables = [make_table(summary) for make_table in make] if summary.statuses else []
    return Tables(
        summary.name or "experiment without a name",
        tuple(_facts(summary)),
        tuple(_notes(summary)),
        {table.id: table for table in tables if table.rows},
    )


def _facts(summary: Summary) -> Iterator[Fact]:
    statuses, total = summary.statuses, summary.total
    shown = [name for name in _STATUSES if statuses[name] or name != "truncated"]
    yield _fact(statuses.total(), "episode", ", ".join(f"{statuses[s]:,} {s}" for s in shown))
    yield _fact(len(summary.participants), "player", format_count(len(summary.games), "game"))
    yield _fact(total.turns, "turn", f"{format_count(total.calls, 'answer')} of models")
    if total.calls:
        yield from _call_facts(total)
    replays = len(summary.replays)
    verified = replays - len(summary.unverified)
    yield Fact(
        format_percent(Share(verified, replays).value),
        "verified",
        f"OpenSpiel confirms {verified:,} of {format_count(replays, 'result')}",
        "bad" if summary.unverified else "good",
    )


def _call_facts(total: AnswerStats) -> Iterator[Fact]:
    illegal = f"{total.illegal.count:,}, {total.unparseable:,} of them not in the requested format"
    yield Fact(format_percent(total.illegal.value), "of models' answers illegal", illegal)
    tokens = f"{total.prompt_tokens:,} in, {total.completion_tokens:,} out"
    if total.uncounted:
        tokens += f", {format_count(total.uncounted, 'answer')} with unknown tokens"
    yield _fact(total.prompt_tokens + total.completion_tokens, "token", tokens)
    calls = f"{format_count(total.calls, 'call')} of models"
    if total.unpriced:
        calls += f", {total.unpriced:,} with unknown cost"
    cost = format_dollars(total.cost_picousd) if total.priced else "unknown"
    yield Fact(cost, "cost", calls)


_STATUSES = ("finished", "truncated", "forfeited", "failed")


def _fact(count: int, noun: str, detail: str) -> Fact:
    value, label = format_count(count, noun).split(" ", 1)
    return Fact(value, label, detail)


def _notes(summary: Summary) -> Iterator[str]:
    """Yield the sentences that a reader of the tables must know."""
    statuses = summary.statuses
    episodes = format_count(statuses.total(), "episode")
    if not statuses:
        yield "No episode has ended yet."
    if statuses["failed"]:
        yield f"{statuses['failed']:,} of {episodes} failed. Failed episodes are not results."
    if statuses["truncated"]:
        yield (
            f"{statuses['truncated']:,} of {episodes} stopped at max_plies. Their returns until "
            "then are the result: a draw in games whose rewards come at the end."
        )
    if summary.unfinished:
        yield f"{format_count(summary.unfinished, 'more episode')} had started but not ended."
    if summary.total.replayed:
        yield (
            f"{format_count(summary.total.replayed, 'answer')} came from an earlier call with the "
            "same request_id, and cost nothing."
        )
    if summary.unverified:
        yield f"OpenSpiel does not confirm {format_count(len(summary.unverified), 'result')}."


def _by_player(
    summary: Summary, totals: Mapping[str, T], games: Mapping[tuple[str, str], T]
) -> Iterator[tuple[str, str, T]]:
    """Yield player, game and value: each player's total, then each game if there are several."""
    for agent in sorted(totals):
        yield agent, "", totals[agent]
        if len(summary.games) > 1:
            for game in summary.games:
                if (agent, game) in games:
                    yield agent, game, games[agent, game]


def _ratings(summary: Summary) -> Table:
    ratings = {"": summary.ratings, **summary.game_ratings}
    grouped = any(rating.group for listed in ratings.values() for rating in listed)
    note = (
        "Bradley-Terry on Elo's scale, mean 1500. A draw is half a win. Each pair that met gets "
        "one additional draw. 95 % intervals by bootstrap over episodes."
    )
    if grouped:
        note += (
            " Groups of players that never met have a mean of 1500 each: compare ratings within "
            "a group only."
        )
    columns = (
        Column("player", numeric=False), Column("rating"), Column("95 %"), Column("compared"),
        *([Column("group")] if grouped else []), Column("failed"),
    )  # fmt: skip
    rows = [
        _rating_row(summary, rating, game, grouped=grouped)
        for game, listed in ratings.items()
        for rating in listed
    ]
    rated = {rating.agent for rating in summary.ratings}
    for agent in sorted(set(summary.participants) - rated):
        failed = summary.totals[agent].failed if agent in summary.totals else 0
        cells = [Cell(NONE), Cell("met nobody"), Cell("0", value=0), *([Cell("")] * grouped)]
        rows.append(Row([*cells, _nonzero(failed)], agent))
    return Table("ratings", "Ratings", columns, rows, note, "interval", by_game=True)


def _rating_row(summary: Summary, rating: Rating, game: str, *, grouped: bool) -> Row:
    cells = [
        Cell(f"{rating.rating:.0f}", value=rating.rating),
        Cell(f"{rating.low:.0f}-{rating.high:.0f}", value=[rating.low, rating.high]),
        _count(rating.games),
    ]
    if grouped:
        cells.append(_count(rating.group + 1))
    cells.append(_nonzero(_find_outcomes(summary, rating.agent, game).failed))
    interval = (rating.low, rating.rating, rating.high)
    return Row(cells, rating.agent, game, interval=interval)


def _find_outcomes(summary: Summary, agent: str, game: str) -> WinDrawLoss:
    return summary.outcomes[agent, game] if game else summary.totals[agent]


def _outcomes(summary: Summary) -> Table:
    columns = (
        Column("player", numeric=False), Column("games"), *_WIN_DRAW_LOSS, Column("forfeits"),
        Column("mean return"), Column("failed"),
    )  # fmt: skip
    rows = []
    for agent, game, count in _by_player(summary, summary.totals, summary.outcomes):
        forfeits = _nonzero(count.forfeits, _link(agent, game, "forfeited"))
        cells = (*_outcome_cells(count), forfeits, _signed(count), _nonzero(count.failed))
        rows.append(Row(cells, agent, game, _outcome_bar(count)))
    note = (
        "Shares with 95 % intervals (Wilson). Losses include forfeits. Failed episodes are not "
        "results."
    )
    return Table("outcomes", "Wins, draws, losses", columns, rows, note, "bar", by_game=True)


def _seats(summary: Summary) -> Table:
    columns = (
        Column("game", numeric=False), Column("seat"), Column("games"), *_WIN_DRAW_LOSS,
        Column("mean return"), Column("failed"),
    )  # fmt: skip
    rows = [
        Row(
            (
                Cell(game, value=game),
                _count(seat),
                *_outcome_cells(count),
                _signed(count),
                _nonzero(count.failed),
            ),
            bar=_outcome_bar(count),
        )
        for (game, seat), count in sorted(summary.seats.items())
    ]
    title = "By seat: does it matter who moves first?"
    return Table("seats", title, columns, rows, graphic="bar", page_only=True)


_WIN_DRAW_LOSS = (
    Column("wins", legend="win"),
    Column("draws", legend="draw"),
    Column("losses", legend="loss"),
)


def _outcome_cells(count: WinDrawLoss) -> Iterator[Cell]:
    yield _count(count.games)
    for number in (count.wins, count.draws, count.losses):
        yield _share(Share(number, count.games))


def _outcome_bar(count: WinDrawLoss) -> Sequence[tuple[str, int]]:
    return (("win", count.wins), ("draw", count.draws), ("loss", count.losses))


def _answers(summary: Summary) -> Table:
    columns = (
        Column("player", numeric=False), Column("turns"), Column("answers"),
        Column("illegal", legend="illegal"), Column("wrong format", legend="unparseable"),
        Column("first legal"), Column("then", numeric=False),
        *([Column("ended by", numeric=False)] if summary.total.ends else []),
        Column("errors"), Column("failed"),
    )  # fmt: skip
    note = (
        "Models' answers. Illegal: not a legal action, or wrong format. Wrong format: not in the "
        "requested format. First legal: turns whose first answer was legal. Then: what was done "
        "about illegal answers. Errors: calls that failed; they are not answers."
    )
    if summary.total.ends:
        note += " Ended by: what ended replies that did not end by themselves."

    rows = []
    for agent, game, stats in _by_player(summary, summary.answer_totals, summary.answers):
        if not stats.calls and not stats.errors:
            continue
        first_legal = stats.per_turn(stats.first_legal)
        cells = (
            _count(stats.turns),
            _count(stats.calls),
            _share(stats.illegal, _link(agent, game, "illegal")),
            _count(stats.unparseable),
            Cell(format_percent(first_legal), value=first_legal),
            _counts(stats.policies),
            *([_counts(stats.ends)] if summary.total.ends else []),
            _nonzero(stats.errors),
            _nonzero(_find_outcomes(summary, agent, game).failed),
        )
        bar = [(name, stats.statuses[name]) for name in ("ok", "illegal", "unparseable")]
        rows.append(Row(cells, agent, game, bar))
    return Table("answers", "Answers", columns, rows, note, "bar", by_game=True)


def _calls(summary: Summary) -> Table:
    columns = (
        Column("player", numeric=False), Column("calls"), Column("p50"), Column("p95"),
        Column("tokens in"), Column("out"), Column("reasoning"),
        Column("cost", key="cost_picousd"), Column("per move", key="picousd_per_move"),
    )  # fmt: skip
    note = (
        "p50, p95: percentiles of the latency of a call, as the client saw it. Tokens are per "
        "move, with all its answers; reasoning tokens are part of out. Per move: the cost of "
        "one move. Unknown: not reported by the provider."
    )

    rows = []
    for agent, game, stats in _by_player(summary, summary.answer_totals, summary.answers):
        if not stats.calls:
            continue
        cost = None if stats.unpriced else stats.cost_picousd
        per_move = None if cost is None else stats.per_turn(cost)
        latencies = [stats.percentile(percent) for percent in (50, 95)]
        cost_text = format_cost(
            stats.cost_picousd, known=stats.priced > 0, unknown=stats.unpriced > 0
        )
        cells = (
            _count(stats.calls),
            *(Cell(format_duration(latency), value=latency) for latency in latencies),
            _tokens(stats, stats.prompt_tokens, stats.uncounted),
            _tokens(stats, stats.completion_tokens, stats.uncounted),
            _tokens(stats, stats.reasoning_tokens, stats.calls - stats.reasoned),
            Cell(cost_text, value=cost),
            Cell(format_dollars(per_move), value=per_move and round(per_move)),
        )
        rows.append(Row(cells, agent, game))
    return Table("calls", "Calls of models", columns, rows, note, by_game=True)


def _failures(summary: Summary) -> Table:
    columns = (
        Column("status", numeric=False), Column("game", numeric=False),
        Column("player", numeric=False), Column("reason", numeric=False), Column("episodes"),
    )  # fmt: skip
    rows = [
        Row(
            (
                *(Cell(text, value=text) for text in (failure.status, failure.game)),
                *(Cell(text, value=text) for text in (failure.agent, failure.reason)),
                _count(len(failure.episodes))._replace(links=_episode_links(failure.episodes)),
            )
        )
        for failure in summary.failures[:MAX_FAILURES]
    ]
    if others := summary.failures[MAX_FAILURES:]:
        more = Cell(f"{format_count(len(others), 'more kind')} of failures")
        count = _count(sum(len(failure.episodes) for failure in others))
        rows.append(Row((*[Cell("")] * 3, more, count)))
    note = "Episodes with the same status, game, player and error, with the first one's reason."
    return Table("failures", "Failed and forfeited", columns, rows, note)


def _unverified(summary: Summary) -> Table:
    columns = (Column("episode", numeric=False), Column("why", numeric=False))
    rows = [
        Row((Cell(episode, value=episode, link=_address(episode=episode)), Cell(why, value=why)))
        for episode, why in list(summary.unverified.items())[:MAX_FAILURES]
    ]
    if (more := len(summary.unverified) - MAX_FAILURES) > 0:
        rows.append(Row((Cell(f"{more} more"), Cell(""))))
    return Table("unverified", "Results that OpenSpiel does not confirm", columns, rows)


def _tokens(stats: AnswerStats, total: int, unknown: int) -> Cell:
    """Return a cell with the tokens per move, if the tokens of so many calls are unknown."""
    mean = stats.per_turn(total)
    text = join_unknown(format_number(mean), known=unknown < stats.calls, unknown=unknown > 0)
    return Cell(text, value=None if unknown else mean)


def _counts(counts: Mapping[str, int]) -> Cell:
    """Return a cell with the number of each kind."""
    values = dict(sorted(counts.items()))
    return Cell(", ".join(f"{name} {n:,}" for name, n in values.items()), value=values)


def _count(number: int) -> Cell:
    return Cell(f"{number:,}", value=number)


def _nonzero(number: int, link: str = "") -> Cell:
    """Return a cell that is empty if the number is 0."""
    return Cell(f"{number:,}", value=number, link=link) if number else Cell("", value=0)


def _signed(count: WinDrawLoss) -> Cell:
    return Cell(format_signed(count.mean_return), value=count.mean_return)


def _share(share: Share, link: str = "") -> Cell:
    """Return a cell with a count, its share and its interval."""
    if share.value is None or share.interval is None:
        return Cell(NONE)
    value = {"count": share.count, "share": share.value, "interval": list(share.interval)}
    return Cell(f"{share.count:,}", format_share(share), value, link if share.count else "")


def _link(agent: str, game: str, outcome: str) -> str:
    return _address(game=game, player=agent, outcome=outcome)


def _address(**values: str) -> str:
    """Return the address of replays on the page."""
    return f"#{urlencode(values)}"


def _episode_links(episodes: Sequence[str]) -> Sequence[tuple[str, str]]:
    return [
        (str(number), _address(episode=episode))
        for number, episode in enumerate(episodes[:MAX_LINKS], 1)
    ]

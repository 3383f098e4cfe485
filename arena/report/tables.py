"""The report in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arena.report import words
from arena.report.answers import Answers
from arena.report.outcomes import Share, Tally
from arena.report.report import Report
from arena.report.summary import Summary

T = TypeVar("T")

#: How many reasons of failed episodes are shown.
FAILURES = 20
#: Characters of the longest cell.
CELL = 300


def print_tables(report: Report, console: Console) -> None:
    """Print all tables.

    What models and servers wrote is printed with escaped control characters, never as markup.
    """
    summary = report.summary
    console.print(_overview(summary))
    if not summary.statuses:
        console.print("No episode has ended yet.")
        return
    for table in (_outcomes(summary), _ratings(summary), _answers(summary), _costs(summary)):
        console.print(table)
    if summary.failures:
        console.print(_failures(summary))
    if summary.unverified:
        console.print(_unverified(summary))


def _table(title: str, *columns: str, note: str = "", left: int = 1) -> Table:
    """left: how many columns hold names; the others hold numbers."""
    table = Table(
        title=Text(title, style="bold"),
        caption=Text(note, style="dim") if note else None,
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
        caption_justify="left",
    )
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < left else "right", overflow="fold")
    return table


def _add(table: Table, *cells: object, style: str | None = None) -> None:
    table.add_row(*(Text(words.one_line(str(cell), CELL)) for cell in cells), style=style)


def _overview(summary: Summary) -> Text:
    count, total = summary.statuses, summary.total
    played = count.total()
    checked = len(summary.replays) - len(summary.unverified)
    parts = [
        f"{played} episodes: {count['finished']} finished, "
        + (f"{count['truncated']} truncated, " * bool(count["truncated"]))
        + f"{count['forfeited']} forfeited, {count['failed']} failed"
        + (f"; {summary.unfinished} more under way" * bool(summary.unfinished)),
        f"{len(summary.games)} games, {len(summary.participants)} players,"
        f" {total.turns:,} turns, {words.share(total.illegal)} of answers illegal",
        f"{total.prompt_tokens:,} prompt and {total.completion_tokens:,} completion tokens,"
        f" {words.cost(total)}",
        f"{checked} of {len(summary.replays)} results: OpenSpiel's replay has the same returns",
    ]
    text = Text(
        words.one_line(summary.name or "experiment without a name", CELL) + "\n", style="bold"
    )
    return text.append("\n".join(parts) + "\n", style="not bold")


def _outcomes(summary: Summary) -> Table:
    note = "with 95 % intervals (Wilson); losses include forfeits; failed episodes are no results"
    table = _table(
        "Wins, draws, losses",
        "player",
        *("games", "wins", "draws", "losses", "forfeits", "mean return", "failed"),
        note=note,
    )
    for agent, game, tally in _by_agent(summary, summary.tallies, summary.totals):
        shares = (_counted(count, tally) for count in (tally.wins, tally.draws, tally.losses))
        _add(
            table,
            _name(agent, game),
            tally.games,
            *shares,
            tally.forfeits or "",
            words.signed(tally.mean_return),
            tally.failed or "",
            style=_style(summary, game),
        )
    return table


def _name(agent: str, game: str) -> str:
    """A game stands under its player."""
    return f"  {game}" if game else agent


def _style(summary: Summary, game: str) -> str | None:
    return "bold" if not game and len(summary.games) > 1 else None


def _counted(count: int, tally: Tally) -> str:
    return f"{count} {words.share(Share(count, tally.games))}" if tally.games else words.NONE


def _by_agent(
    summary: Summary, cells: dict[tuple[str, str], T], totals: dict[str, T]
) -> Iterator[tuple[str, str, T]]:
    """Each player's sum (its game is empty) and, if there are several games, each of them."""
    for agent in sorted(totals):
        yield agent, "", totals[agent]
        games = [game for game in summary.games if (agent, game) in cells]
        if len(summary.games) > 1:
            yield from ((agent, game, cells[agent, game]) for game in games)


def _ratings(summary: Summary) -> Table:
    note = (
        "Bradley-Terry on Elo's scale, mean 1500; a draw is half a win, and each pair that met is"
        " given one more draw; 95 % intervals by bootstrap over episodes"
    )
    if summary.groups > 1:
        note += f"; {summary.groups} groups never met each other: compare within a group only"
    table = _table("Ratings", "player", "rating", "95 %", "compared", "group", "failed", note=note)
    for rating in summary.ratings:
        _add(
            table,
            rating.agent,
            f"{rating.rating:.0f}",
            f"{rating.low:.0f}-{rating.high:.0f}",
            rating.games,
            rating.group + 1,
            summary.totals[rating.agent].failed or "",
        )
    for agent in sorted(set(summary.participants) - {rating.agent for rating in summary.ratings}):
        failed = summary.totals[agent].failed if agent in summary.totals else 0
        _add(table, agent, words.NONE, "met nobody", 0, "", failed or "")
    return table


def _answers(summary: Summary) -> Table:
    table = _table(
        "Answers",
        "player",
        *("turns", "answers", "illegal", "no format", "first legal", "then", "errors", "failed"),
        note="illegal: no legal move, or not in the format asked for; then: what was done about it",
    )
    for agent, game, found in _by_agent(summary, summary.answers, summary.answer_totals):
        then = ", ".join(f"{policy} {count}" for policy, count in sorted(found.policies.items()))
        _add(
            table,
            _name(agent, game),
            found.turns,
            found.answers,
            words.share(found.illegal),
            found.statuses["unparseable"],
            words.percent(found.per_turn(found.first_legal)),
            then,
            found.errors or "",
            _failed(summary, agent, game),
            style=_style(summary, game),
        )
    return table


def _costs(summary: Summary) -> Table:
    table = _table(
        "Calls of models",
        "player",
        *("calls", "p50", "p95", "tokens in", "out", "cost", "a move", "failed"),
        note="latency of a call; tokens, and cost a move, of a move with all its answers",
    )
    for agent, game, found in _by_agent(summary, summary.answers, summary.answer_totals):
        if found.calls:
            _add(table, _name(agent, game), *_cost_cells(found), _failed(summary, agent, game))
    return table


def _cost_cells(found: Answers) -> Iterable[str]:
    priced = None if found.unpriced else found.per_turn(found.cost_usd)
    tokens = (found.prompt_tokens, found.completion_tokens)
    return (
        f"{found.calls:,}",
        words.duration(found.percentile(50)),
        words.duration(found.percentile(95)),
        *(words.number(found.per_turn(count)) for count in tokens),
        words.cost(found),
        words.dollars(priced),
    )


def _failed(summary: Summary, agent: str, game: str) -> object:
    tally = summary.tallies[agent, game] if game else summary.totals[agent]
    return tally.failed or ""


def _failures(summary: Summary) -> Table:
    table = _table("Failed and forfeited", "status", "game", "player", "reason", "episodes", left=4)
    for failure in summary.failures[:FAILURES]:
        columns = (failure.status, failure.game, failure.agent, failure.reason)
        _add(table, *columns, len(failure.episodes))
    if hidden := summary.failures[FAILURES:]:
        count = sum(len(failure.episodes) for failure in hidden)
        _add(table, "", "", "", f"{len(hidden)} more kinds", count)
    return table


def _unverified(summary: Summary) -> Table:
    table = _table("Results that OpenSpiel does not confirm", "episode", "why", left=2)
    for episode, problem in list(summary.unverified.items())[:FAILURES]:
        _add(table, episode, problem)
    if (hidden := len(summary.unverified) - FAILURES) > 0:
        _add(table, f"{hidden} more", "")
    return table

"""Makes the report's overview and tables. terminal.py and page.py show them.

To add a column, add a Column and a Cell in one function of this file or of model_tables.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from arena.report.answers import AnswerStats, Share
from arena.report.cells import (
    count_cell,
    make_address,
)
from arena.report.count import Summary
from arena.report.formatting import format_count, format_percent
from arena.report.layout import Cell, Column, Fact, Row, Table, Tables
from arena.report.measure_tables import (
    make_conditions,
    make_disguises,
    make_exact,
    make_exploitability,
    make_places,
    make_quality,
)
from arena.report.model_tables import make_answers, make_calls, make_ends, make_origins
from arena.report.result_tables import (
    list_result_notes,
    make_differences,
    make_outcomes,
    make_ratings,
    make_returns,
    make_seats,
    make_units,
)
from arena.results.rows import PLAYED
from arena_llm.prices import format_dollars

#: At most this many kinds of failures, and of unverified results, are listed.
MAX_FAILURES = 20
#: At most this many episodes of one kind of failure get a link on the page.
MAX_LINKS = 8


def make_tables(summary: Summary) -> Tables:
    """Make the overview and all tables."""
    make = (
        make_ratings,
        make_differences,
        make_outcomes,
        make_returns,
        make_exact,
        make_exploitability,
        make_quality,
        make_places,
        make_conditions,
        make_disguises,
        make_seats,
        make_units,
        make_answers,
        make_ends,
        make_origins,
        make_calls,
        _failures,
        _unverified,
    )
    tables = [make_table(summary) for make_table in make]
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
    detail = f"OpenSpiel confirms {verified:,} of {format_count(replays, 'result')}"
    if unchecked := sum(statuses[name] for name in PLAYED) - replays:
        detail += f"; {unchecked:,} were not checked, `arena verify` checks all"
    yield Fact(
        format_percent(Share(verified, replays).value),
        "verified",
        detail,
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
    if total.unknown_requests:
        requests = format_count(total.unknown_requests, "request")
        calls += f"; {requests} without a reply, which may have been billed"
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
    yield from list_result_notes(summary)
    if statuses["truncated"]:
        yield (
            f"{statuses['truncated']:,} of {episodes} stopped at max_plies. Their returns until "
            "then are the result: a draw in games whose rewards come at the end."
        )
    if summary.unfinished:
        yield f"{format_count(summary.unfinished, 'more episode')} had started but not ended."
    total = summary.total
    if total.replayed:
        yield (
            f"{format_count(total.replayed, 'answer')} came from an earlier call with the same "
            "request_id, whose reply was lost, and cost nothing more."
        )
    if total.cached:
        yield (
            f"{format_count(total.cached, 'answer')} came from the router's cache and cost nothing."
        )
    if total.fallbacks:
        yield (
            f"{format_count(total.fallbacks, 'answer')} came from a model of fallback_models, "
            "because the player's own could not answer; failed_models of the moves says why."
        )
    if total.retried:
        cost = format_dollars(total.failed_attempts_picousd)
        yield (
            f"{format_count(total.retried, 'call')} took several requests to the provider. The "
            f"failed requests cost {cost} as far as known."
        )
    yield from summary.unjudged.values()
    for game, number in sorted(summary.unreached.items()):
        if number:
            yield (
                f"{game}: {format_count(number, 'move')} in positions that equilibrium play does "
                "not reach are not judged: no move is right or wrong there."
            )
    if summary.unverified:
        yield f"OpenSpiel does not confirm {format_count(len(summary.unverified), 'result')}."


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
                count_cell(len(failure.episodes))._replace(links=_episode_links(failure.episodes)),
            )
        )
        for failure in summary.failures[:MAX_FAILURES]
    ]
    if others := summary.failures[MAX_FAILURES:]:
        more = Cell(f"{format_count(len(others), 'more kind')} of failures")
        count = count_cell(sum(len(failure.episodes) for failure in others))
        rows.append(Row((*[Cell("")] * 3, more, count)))
    note = "Episodes with the same status, game, player and error, with the first one's reason."
    return Table("failures", "Failed and forfeited", columns, rows, note)


def _unverified(summary: Summary) -> Table:
    columns = (Column("episode", numeric=False), Column("why", numeric=False))
    rows = [
        Row(
            (Cell(episode, value=episode, link=make_address(episode=episode)), Cell(why, value=why))
        )
        for episode, why in list(summary.unverified.items())[:MAX_FAILURES]
    ]
    if (more := len(summary.unverified) - MAX_FAILURES) > 0:
        rows.append(Row((Cell(f"{more} more"), Cell(""))))
    return Table("unverified", "Results that OpenSpiel does not confirm", columns, rows)


def _episode_links(episodes: Sequence[str]) -> Sequence[tuple[str, str]]:
    return [
        (str(number), make_address(episode=episode))
        for number, episode in enumerate(episodes[:MAX_LINKS], 1)
    ]

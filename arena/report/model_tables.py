"""The tables about the models' answers: what they were, who gave them, and what they took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from arena.report.answers import Share
from arena.report.cells import (
    count_cell,
    counts_cell,
    link_to_answers,
    list_by_player,
    nonzero_cell,
    share_cell,
    tokens_cell,
)
from arena.report.count import Summary
from arena.report.formatting import (
    NONE,
    format_cost,
    format_duration,
    format_percent,
)
from arena.report.layout import Cell, Column, Row, Table
from arena.report.origins import Origins
from arena.results.rows import Origin
from arena_llm.prices import format_dollars


def make_answers(summary: Summary) -> Table:
    """Make the table of legal, illegal and missing answers."""
    columns = (
        Column("player", numeric=False),
        Column("turns", explain="moves that the player had to make", extra=2),
        Column("answers", explain="of the model; a turn may take several"),
        Column("illegal", legend="illegal", explain=(
            "answers that are no legal action or in a wrong format: their number, and the mean of "
            "the episodes' shares with its 95 % interval"
        )),
        Column("wrong format", legend="unparseable", extra=3, explain=(
            "illegal answers that are not in the requested format"
        )),
        Column("first legal", explain="turns whose first answer was legal", extra=1),
        Column("then", numeric=False, explain="what was done about illegal answers", extra=4),
        Column("errors", explain="calls that failed, which are not answers", extra=1),
        Column("failed", explain="episodes without a result", extra=5),
    )  # fmt: skip
    rows = []
    for agent, game, stats in list_by_player(summary, summary.answer_totals, summary.answers):
        if not stats.calls and not stats.errors:
            continue
        first_legal = stats.per_turn(stats.first_legal)
        cells = (
            count_cell(stats.turns),
            count_cell(stats.calls),
            share_cell(stats.illegal, stats.illegal_rate, link_to_answers(agent, game, "illegal")),
            count_cell(stats.unparseable),
            Cell(format_percent(first_legal), value=first_legal),
            counts_cell(stats.policies),
            nonzero_cell(stats.errors),
            nonzero_cell(summary.count_failed(agent, game)),
        )
        bar = [(name, stats.statuses[name]) for name in ("ok", "illegal", "unparseable")]
        rows.append(Row(cells, agent, game, bar))
    return Table("answers", "Answers", columns, rows, "", "bar", by_game=True)


def make_ends(summary: Summary) -> Table:
    """Make the table of replies that something else than the model's end ended."""
    reasons = sorted(summary.total.ends)
    columns = (
        Column("player", numeric=False),
        Column("answers"),
        *(Column(reason.replace("_", " "), key=reason) for reason in reasons),
    )
    rows = [
        Row(
            [count_cell(stats.calls), *(nonzero_cell(stats.ends[reason]) for reason in reasons)],
            agent,
            game,
        )
        for agent, game, stats in list_by_player(summary, summary.answer_totals, summary.answers)
        if stats.ends
    ]
    note = (
        "Length: at max_tokens. Context: it was full. Refusal: the model refused. Such a reply is "
        "an answer; it is illegal if it has no move."
    )
    return Table("ends", "Cut off or refused", columns, rows, note, by_game=True)


def make_origins(summary: Summary) -> Table:
    """Make the table of the players whose answers come from several providers, or in several ways.

    It has only the columns in which something is known.
    """
    several = {name: found for name, found in sorted(summary.origins.items()) if found.several}
    names = [name for name in Origin._fields if any(map(partial(_tells, name), several.values()))]
    columns = (
        Column("player", numeric=False), *(Column(name, numeric=False) for name in names),
        Column("answers"), Column("illegal"),
    )  # fmt: skip
    rows = [
        Row(
            (
                *(Cell(text or NONE, value=text or None) for text in _pick(origin, names)),
                share_cell(Share(answers, found.total)),
                share_cell(Share(illegal, answers)),
            ),
            agent,
        )
        for agent, found in several.items()
        for origin, answers, illegal in found.listed()
    ]
    note = (
        "Players whose answers come from several providers, or from one in several ways. These can "
        "play differently: pin one with routing: {providers: [NAME], allow_fallbacks: false}. "
        "Enforcement: how the choices were enforced."
    )
    return Table("origins", "Who answered", columns, rows, note)


def _tells(name: str, found: Origins) -> bool:
    """Whether a column says something about a player's answers."""
    values = {getattr(origin, name) for origin, _, _ in found.listed()}
    # The player's name usually says which model it is.
    return len(values) > 1 or (name != "model" and values != {""})


def _pick(origin: Origin, names: Sequence[str]) -> Iterator[str]:
    return (getattr(origin, name) for name in names)


def make_calls(summary: Summary) -> Table:
    """Make the table of latencies, tokens and cost."""
    read, episodes = len(summary.read), summary.statuses.total()
    sample = f", in {read:,} of {episodes:,} episodes" if read < episodes else ""
    columns = (
        Column("player", numeric=False),
        Column("calls"),
        Column("p50", explain=f"median latency of a call, as the client saw it{sample}"),
        Column("p95", explain="latency that one call in twenty exceeded", extra=2),
        Column("tokens in", explain="prompt tokens of one move, with all its answers", extra=1),
        Column("out", explain="completion tokens of one move", extra=1),
        Column("reasoning", explain="the part of out that is reasoning", extra=3),
        Column("cost", key="cost_picousd", explain=(
            "of all calls; unknown: the provider did not report it"
        )),
        Column("per move", key="picousd_per_move", explain="the cost of one move", extra=2),
    )  # fmt: skip
    rows = []
    for agent, game, stats in list_by_player(summary, summary.answer_totals, summary.answers):
        if not stats.calls:
            continue
        cost = None if stats.unpriced or stats.unknown_requests else stats.cost_picousd
        per_move = None if cost is None else stats.per_turn(cost)
        latencies = [stats.percentile(percent) for percent in (50, 95)]
        cost_text = format_cost(
            stats.cost_picousd,
            known=stats.priced > 0,
            unknown=stats.unpriced + stats.unknown_requests > 0,
        )
        cells = (
            count_cell(stats.calls),
            *(Cell(format_duration(latency), value=latency) for latency in latencies),
            tokens_cell(stats, stats.prompt_tokens, stats.uncounted),
            tokens_cell(stats, stats.completion_tokens, stats.uncounted),
            tokens_cell(stats, stats.reasoning_tokens, stats.calls - stats.reasoned),
            Cell(cost_text, value=cost),
            _cost_cell(per_move),
        )
        rows.append(Row(cells, agent, game))
    return Table("calls", "Calls of models", columns, rows, by_game=True)


def _cost_cell(picousd: float | None) -> Cell:
    return Cell(NONE) if picousd is None else Cell(format_dollars(picousd), value=round(picousd))

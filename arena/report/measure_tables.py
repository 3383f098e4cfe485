"""The tables of measures beyond results: exact values, move quality, disguises, conditions."""

from __future__ import annotations

from arena.games.disguise import ORIGINALS
from arena.report.answers import Share
from arena.report.cells import (
    count_cell,
    mean_cell,
    nonzero_cell,
    percent_cell,
    rate_cell,
    share_cell,
)
from arena.report.conditions import compare_conditions
from arena.report.count import Summary
from arena.report.formatting import NONE, format_percent
from arena.report.layout import Cell, Column, Row, Table
from arena.report.places import PlaceStats
from arena.solvers.episodes import find_range
from arena.statistics.intervals import RETURNS, subtract


def make_exact(summary: Summary) -> Table:
    """Make the table of expected returns that need no sample."""
    columns = (
        Column("game", numeric=False),
        Column("player", numeric=False),
        Column("against", numeric=False),
        Column("expected return", explain="the mean over the player's seats"),
        Column(
            "estimator",
            numeric=False,
            explain="exact: over all deals and moves; exact given deals: over all moves, with a "
            "95 % interval for the luck of the deals; corrected: the mean of the episodes, without "
            "the luck of the deals and of moves whose probabilities are known",
        ),
        Column("deals", explain="how many deals were drawn", extra=1),
    )
    rows = [
        Row(
            (
                Cell(found.game, value=found.game),
                Cell(found.player, value=found.player),
                Cell(", ".join(found.against), value=list(found.against)),
                mean_cell(found.value),
                Cell(found.estimator, value=found.estimator),
                nonzero_cell(found.deals),
            )
        )
        for found in summary.exact.returns
    ]
    note = (
        "Exact values need players whose move probabilities are stored (score, random, local "
        "players that always answer alike), in games whose positions are all known."
    )
    return Table("exact", "Expected returns", columns, rows, note)


def make_exploitability(summary: Summary) -> Table:
    """Make the table of what the best opponent would win."""
    columns = (
        Column("game", numeric=False),
        Column("player", numeric=False),
        Column(
            "exploitability",
            explain="what the best opponent wins on average over both seats; 0 is perfect play",
        ),
        Column("uniform", explain="exploitability of uniformly random play"),
        Column(
            "states",
            explain="information states that `arena exploitability` has scored; empty: known from "
            "the episodes",
            extra=1,
        ),
    )
    rows = [
        Row(
            (
                Cell(game, value=game),
                Cell(agent, value=agent),
                _plain_cell(value),
                _plain_cell(summary.exact.uniform.get(game)),
                nonzero_cell(summary.exact.states.get((game, agent), 0)),
            )
        )
        for (game, agent), value in sorted(summary.exact.exploitability.items())
    ]
    return Table("exploitability", "Exploitability", columns, rows)


def _plain_cell(value: float | None) -> Cell:
    return Cell(NONE if value is None else f"{value:z.3f}", value=value)


def make_quality(summary: Summary) -> Table:
    """Make the table of how good the moves were, where a solver knows it."""
    columns = (
        Column("game", numeric=False),
        Column("player", numeric=False),
        Column("moves", explain="legal moves of the player's own choice"),
        Column("best", explain=(
            "how many of them were best, and the mean share of the episodes with its 95 % interval"
        )),
        Column("regret", explain=(
            "how much more the best move was worth, on average over the episodes, in the game's "
            "returns (chess: in pawns), with its 95 % interval"
        )),
    )  # fmt: skip
    rows = [
        Row(
            (
                Cell(game, value=game),
                Cell(agent, value=agent),
                count_cell(found.moves),
                share_cell(Share(found.best, found.moves), found.shares.mean()),
                mean_cell(found.regrets.mean(0.0, find_range(game, summary.scales[game]), RETURNS)),
            )
        )
        for (agent, game), found in sorted(
            summary.quality.items(), key=lambda item: (item[0][1], item[0][0])
        )
    ]
    return Table("quality", "Move quality", columns, rows)


#: Places of a list that the terminal shows; JSON has all.
_SHOWN = 5


def make_places(summary: Summary) -> Table:
    """Make the table of where in the prompt's list the chosen actions stood."""
    columns = (
        Column("game", numeric=False),
        Column("player", numeric=False),
        Column("order", numeric=False, explain=(
            "of the list: as the game numbers its actions (listed), reversed, or shuffled, in a "
            "new order at every turn"
        )),
        Column("turns", explain="with a choice among several listed actions", extra=3),
        Column("first", explain="how often the first one was chosen"),
        Column("by chance", key="by_chance", extra=2, explain=(
            "how often the first would be, and the last, if all places were equally likely"
        )),
        Column("first, bias", key="first_bias", explain=(
            "the share of turns with the first one, less that by chance, on average over the "
            "episodes, with its 95 % interval"
        )),
        Column("last", explain="how often the last one was chosen", extra=1),
        Column("last, bias", key="last_bias", explain="as for the first", extra=1),
        Column("depth", extra=2, explain=(
            "the mean place, from 0 % for the first to 100 % for the last, with its 95 % interval; "
            "50 % without a bias"
        )),
        Column("by place", key="by_place", numeric=False, extra=4, explain=(
            "how often each place was chosen / would be by chance, from the first one"
        )),
    )  # fmt: skip
    rows = [
        Row(
            (
                *(Cell(text, value=text) for text in (game, agent, found.order)),
                count_cell(found.turns),
                share_cell(Share(found.first_chosen, found.turns)),
                Cell(format_percent(found.by_chance / found.turns), value=found.by_chance),
                percent_cell(found.first.mean(*_BIAS)),
                share_cell(Share(found.last_chosen, found.turns)),
                percent_cell(found.last.mean(*_BIAS)),
                rate_cell(found.depths.mean()),
                _places_cell(found),
            )
        )
        for (agent, game), found in sorted(
            summary.places.items(), key=lambda item: (item[0][1], item[0][0])
        )
    ]
    note = (
        "Position bias: does a model prefer a place of the list? In a shuffled list, every place "
        "is equally likely to hold a good action, so without a bias the figures are those by "
        "chance. In a listed or reversed one, a difference may also say where the good actions "
        "stand: compare with `prompt: {actions: shuffled}`."
    )
    return Table("places", "Place in the list", columns, rows, note)


#: Bounds of a difference from the share by chance, which is at most one half.
_BIAS = (-0.5, 1.0)


def _places_cell(found: PlaceStats) -> Cell:
    values = [
        {"place": place + 1, "chosen": found.chosen[place], "expected": found.expected[place]}
        for place in sorted(found.expected)
    ]
    shown = [f"{found.chosen[place]}/{found.expected[place]:.1f}" for place in range(_SHOWN)]
    text = ", ".join(shown[: len(values)]) + (", ..." if len(values) > _SHOWN else "")
    return Cell(text, value=values)


def make_disguises(summary: Summary) -> Table:
    """Make the table that compares games with their disguises."""
    columns = (
        Column("player", numeric=False),
        Column("game", numeric=False),
        Column("disguise", numeric=False),
        Column("original", explain="the player's score; in games without winners its mean return"),
        Column("disguised", explain="the same under other words"),
        Column("difference", explain=(
            "original minus disguised, with its 95 % interval: above 0, the player plays better "
            "where it may recall what it has read than where it must reason"
        )),
    )  # fmt: skip
    rows = []
    for disguise in summary.games:
        original = ORIGINALS.get(disguise, "")
        for agent in sorted(summary.participants):
            first, second = (
                summary.result(agent, game) if game in summary.games else None
                for game in (original, disguise)
            )
            if first is not None and second is not None:
                rows.append(
                    Row(
                        (
                            *(Cell(text, value=text) for text in (agent, original, disguise)),
                            mean_cell(first),
                            mean_cell(second),
                            mean_cell(subtract(first, second)),
                        )
                    )
                )
    return Table("disguises", "Under other words", columns, rows)


def make_conditions(summary: Summary) -> Table:
    """Make the table that compares the conditions of one model."""
    columns = (
        Column("model", numeric=False),
        Column("game", numeric=False),
        Column("setting", numeric=False),
        Column("values", numeric=False),
        Column("results", explain=(
            "score with each value; in games without winners the mean return; over all players of "
            "the model that differ in this setting alone"
        )),
        Column("difference", explain="the second minus the first, with its 95 % interval"),
        Column("first legal", explain="turns whose first answer was legal", extra=1),
    )  # fmt: skip
    rows = [
        Row(
            (
                *(Cell(text, value=text) for text in (found.model, found.game, found.setting)),
                Cell(" / ".join(clip_value(value) for value in found.values), value=found.values),
                Cell(
                    " / ".join(f"{mean.value:z.2f}" for mean in found.results),
                    value=[mean.value for mean in found.results],
                ),
                mean_cell(found.difference),
                Cell(" / ".join(map(format_percent, found.legal)), value=found.legal),
            )
        )
        for found in compare_conditions(summary)
    ]
    return Table("conditions", "Conditions", columns, rows)


def clip_value(value: str) -> str:
    """Return a setting's value, shortened: a system message may be long."""
    return value if len(value) <= 30 else f"{value[:29]}…"

"""Sampled returns, corrected for known luck, if exact returns are unknown; see correction.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from arena.games.correction import correct_returns
from arena.games.game import GameError
from arena.games.sandbox import Sandbox
from arena.games.scale import GameScale
from arena.report.exact import FEW_DEALS, ExactReturn, choose_episodes, observe
from arena.report.load import Results
from arena.results.columns import Kind
from arena.results.rows import PLAYED
from arena.statistics.intervals import student_interval

#: The players of a line-up, in any seat order.
_Players = tuple[str, ...]


def find_corrected(
    results: Results,
    scales: Mapping[str, GameScale],
    exact: Collection[ExactReturn],
    sandbox: Sandbox,
) -> Iterator[ExactReturn]:
    """Yield the corrected mean return of each player in line-ups that have no exact one.

    Something must have been drawn with known probabilities, and every episode must have been
    played to its end: the correction does not hold with forfeits.
    """
    known = {(found.game, tuple(sorted((found.player, *found.against)))) for found in exact}
    uniform = frozenset(name for name, row in results.participants.items() if row.type == "random")
    drawn = uniform | {
        name for name, row in results.participants.items() if '"score_pick":"sample"' in row.config
    }
    unfinished = {
        (kind.game, tuple(sorted(kind.agents)))
        for kind in results.columns.kinds
        if kind.status not in PLAYED
    }

    def fits(kind: Kind) -> bool:
        group = kind.game, tuple(sorted(kind.agents))
        is_drawn = scales[kind.game].chance or not drawn.isdisjoint(kind.agents)
        return is_drawn and group not in known and group not in unfinished

    for game in scales:
        episodes = choose_episodes(results, game, fits)
        observed = [observe(row, results.moves(row), results.participants) for row in episodes]
        try:
            added = sandbox.call(correct_returns, game, observed, uniform) if episodes else []
        except GameError:
            continue  # too slow: the report has the sampled values
        values: defaultdict[tuple[_Players, str], defaultdict[int, list[float]]]
        values = defaultdict(lambda: defaultdict(list))
        for row, extra in zip(episodes, added, strict=bool(added)):
            for agent, value, more in zip(row.agents, row.returns or (), extra, strict=True):
                values[tuple(sorted(row.agents)), agent][row.seed].append(value + more)
        for (players, agent), by_deal in sorted(values.items()):
            if len(by_deal) < FEW_DEALS:
                continue
            against = list(players)
            against.remove(agent)
            means = [sum(found) / len(found) for found in by_deal.values()]
            mean = student_interval(means)
            yield ExactReturn(game, agent, tuple(against), mean, "corrected", len(means))

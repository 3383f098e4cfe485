"""Who plays whom: the line-ups of one game of an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations
from math import comb

#: Line-ups of one game, in any experiment that will end.
MOST = 1_000_000


def lineups(
    players: int,
    *,
    agents: Sequence[str] = (),
    models: Sequence[str] = (),
    opponents: Sequence[str] = (),
    swap_seats: bool,
) -> tuple[tuple[str, ...], ...]:
    """All line-ups: names in seat order, each line-up once, in a fixed order.

    agents: sit as they are listed. models, with opponents: each model plays each
    opponent, which takes all other seats. models alone: each combination of them plays,
    in the order of the list; a single one plays itself. swap_seats: every cyclic
    rotation plays as well, so that each takes each seat equally often.

    Raises ValueError: more or fewer agents than players, too few models, too many line-ups.
    """
    tables = _tables(players, agents, models, opponents)
    if swap_seats:
        tables = chain.from_iterable(map(_rotations, tables))
    return tuple(dict.fromkeys(tables))


def _tables(
    players: int, agents: Sequence[str], models: Sequence[str], opponents: Sequence[str]
) -> Iterable[tuple[str, ...]]:
    if agents:
        if len(agents) != players:
            raise ValueError(f"has {players} players, but agents: lists {len(agents)}")
        return [tuple(agents)]
    if opponents:
        return [(model, *[rival] * (players - 1)) for model in models for rival in opponents]
    if len(models) == 1:
        return [(models[0],) * players]
    if len(models) < players:
        raise ValueError(
            f"has {players} players, but models: lists {len(models)}; "
            "list more, or say whom they play under opponents:"
        )
    if (count := comb(len(models), players) * players) > MOST:
        raise ValueError(f"{len(models)} models make up to {count:,} line-ups; {MOST:,} at most")
    return combinations(models, players)


def _rotations(table: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for first in range(len(table)):
        yield table[first:] + table[:first]

"""Who plays whom: the line-ups of one game of an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations
from math import comb

#: An experiment with more line-ups in one game would not end.
MAX_LINEUPS = 1_000_000


def lineups(
    players: int,
    *,
    agents: Sequence[str] = (),
    models: Sequence[str] = (),
    opponents: Sequence[str] = (),
    swap_seats: bool,
) -> tuple[tuple[str, ...], ...]:
    """All line-ups of names in seat order, without duplicates, in a fixed order.

    agents: sit in the order of the list. models with opponents: each model plays each
    opponent, which takes all other seats. models alone: each combination of them plays,
    in the order of the list; a single model plays itself. swap_seats: every cyclic
    rotation plays as well, so that each player takes each seat equally often.

    Raises ValueError: the number of agents is not the number of players, there are too
    few models, or too many line-ups.
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
            "list more models, or name their opponents under opponents:"
        )
    if (count := comb(len(models), players) * players) > MAX_LINEUPS:
        raise ValueError(
            f"{len(models)} models make up to {count:,} line-ups; the limit is {MAX_LINEUPS:,}"
        )
    return combinations(models, players)


def _rotations(table: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for first in range(len(table)):
        yield table[first:] + table[:first]

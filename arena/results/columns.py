"""The episodes of a file as columns, and what their seats did, added up.

A report on a million episodes takes seconds, because its figures need no moves, and most episodes
are of the same few kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from arena.results.reader import Reader, explain_unusable, parse_details, parse_returns
from arena.results.rows import Origin, UnreadableRow

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_Origins = TypeAdapter(list[tuple[int, int, int]])

#: Counts of SeatRow that are added up.
COUNTS = (
    "turns", "first_legal", "calls", "ok", "illegal", "unparseable", "errors", "prompt_tokens",
    "completion_tokens", "reasoning_tokens", "reasoned", "uncounted", "cost_picousd", "unpriced",
)  # fmt: skip


#: Episodes whose seats are added up together.
_SORTED = 5_000


class Kind(NamedTuple):
    """What many episodes have in common; see EpisodeRow."""

    game: str
    agents: tuple[str, ...]
    status: str
    loser: int | None = None
    returns: tuple[float, ...] | None = None


class Ended(NamedTuple):
    """An episode that has ended. replaced: a random move replaced an illegal answer."""

    kind: Kind
    deal: int
    trajectory: int
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Episodes:
    """Episodes as columns: the arrays have one value for each episode.

    kinds: the different ones. kind: its number in kinds. deal: its seed. trajectory: equal for
    equal actions. replaced: whether a random move replaced an illegal answer. id: of its row in
    the file. The order is that of the content, so it is the same in every copy of a file.
    """

    kinds: Sequence[Kind]
    kind: Numbers
    deal: Numbers
    trajectory: Numbers
    replaced: Flags
    id: Numbers

    @classmethod
    def collect(cls, ended: Iterable[Ended]) -> Self:
        """Return episodes that are not in a file; their ids count from 0."""
        kinds: dict[Kind, int] = {}
        rows = [
            (kinds.setdefault(one.kind, len(kinds)), one.deal, one.trajectory, one.replaced)
            for one in ended
        ]
        kind, deal, trajectory, replaced = np.array(rows, np.int64).reshape(-1, 4).T
        return cls.sort(kinds, kind, deal, trajectory, replaced > 0, np.arange(len(rows)))

    @classmethod
    def sort(
        cls,
        kinds: Iterable[Kind],
        kind: Numbers,
        deal: Numbers,
        trajectory: Numbers,
        replaced: Flags,
        ids: Numbers,
    ) -> Self:
        """Return episodes in the order of their content. kinds: may contain equal ones."""
        listed = list(kinds)
        ordered = sorted(set(listed), key=repr)
        places = {one: place for place, one in enumerate(ordered)}
        kind = np.array([places[one] for one in listed], np.int64)[kind]
        order = np.lexsort((trajectory, kind, deal))
        return cls(
            ordered, kind[order], deal[order], trajectory[order], replaced[order], ids[order]
        )

    def __len__(self) -> int:
        return len(self.kind)

    def __iter__(self) -> Iterator[Ended]:
        columns = (self.kind, self.deal, self.trajectory, self.replaced)
        for kind, *values in zip(*(column.tolist() for column in columns), strict=True):
            yield Ended(self.kinds[kind], *values)

    def of_kind(self, values: Iterable[int]) -> Numbers:
        """Return a column of whole numbers. values: one for each kind."""
        return np.array(list(values), np.int64)[self.kind]

    def where(self, values: Iterable[bool]) -> Flags:
        """Return a column of truth values. values: one for each kind."""
        return self.of_kind(values) > 0

    def find(self, ids: Numbers) -> Numbers:
        """Return the place of the episode with each id; -1 if there is none."""
        if not len(self):
            return np.full(len(ids), -1)
        order = np.argsort(self.id)
        found = np.searchsorted(self.id, ids, sorter=order)
        places = order[np.minimum(found, len(order) - 1)]
        return np.where(self.id[places] == ids, places, -1)

    def by_kind(self) -> Iterator[tuple[Kind, Numbers]]:
        """Yield each kind with the places of its episodes in the columns."""
        order = np.argsort(self.kind, kind="stable")
        ends = np.cumsum(np.bincount(self.kind, minlength=len(self.kinds)))
        yield from zip(self.kinds, np.split(order, ends)[:-1], strict=True)


def read_answers(reader: Reader) -> NDArray[Any]:
    """Return a row for each seat that answered: id of the episode, player, calls, illegal answers,
    and whether a random move replaced one. The columns have these names."""
    names = ("episode", "player", "calls", "illegal", "replaced")
    return np.fromiter(
        reader.select(
            "SELECT episode, player, calls, illegal + unparseable,"
            " ifnull(instr(details, '\"random\"'), 0) FROM seats WHERE calls"
        ),
        dtype=[(name, np.int64) for name in names],
    )


def read_episodes(reader: Reader, answers: NDArray[Any]) -> Episodes:
    """Return all episodes of a reader. Without a query, only an index of the table is read.

    answers: see read_answers.
    """
    numbers = _Numbers()
    # Texts as bytes, which need no decoding: most of them come often.
    rows = reader.select(
        "SELECT id, deal, trajectory, game, CAST(lineup AS BLOB), CAST(status AS BLOB), loser,"
        " CAST(returns AS BLOB) FROM episodes WHERE {wanted}"
    )
    columns = np.fromiter(
        ((*row[:3], numbers[row[3:]]) for row in rows),
        dtype=[(name, np.int64) for name in ("id", "deal", "trajectory", "kind")],
    )
    kinds = [_make_kind(reader, *values) for values in numbers]
    replaced = np.isin(columns["id"], answers["episode"][answers["replaced"] > 0])
    return Episodes.sort(
        kinds, columns["kind"], columns["deal"], columns["trajectory"], replaced, columns["id"]
    )


class _Numbers(dict[tuple[Any, ...], int]):
    """Numbers keys in the order of their first use."""

    def __missing__(self, key: tuple[Any, ...]) -> int:
        self[key] = number = len(self)
        return number


def _make_kind(
    reader: Reader, game: int, lineup: bytes, status: bytes, loser: int | None, text: bytes | None
) -> Kind:
    name, agents = reader.game(game), reader.agents(lineup.decode("utf-8", "replace"))
    values = None if text is None else text.decode("utf-8", "replace")
    returns = parse_returns(values, f"episodes of {name}: returns")
    if explain_unusable(status.decode(), len(agents), loser, returns):
        return Kind(name, agents, "failed")
    return Kind(name, agents, status.decode(), loser, returns)


class SeatCounts(NamedTuple):
    """What a player did in a game, in seats with the same origins and details.

    seats: how many. counts: their sums, by the names in COUNTS. origins: each with the number of
    answers and of illegal ones in one seat. details: of one seat, see SeatRow.
    """

    agent: str
    game: str
    seats: int
    counts: Mapping[str, int]
    origins: Sequence[tuple[Origin, int, int]]
    details: Mapping[str, Any]


def read_counts(reader: Reader) -> Iterator[SeatCounts]:
    """Yield what all seats did, added up; a player comes several times."""
    origins = {
        number: Origin(*values)
        for number, *values in reader.select(
            "SELECT id, model, provider, region, precision, model_revision, engine, enforcement"
            " FROM origins"
        )
    }
    sums = ", ".join(f"sum(seats.{name})" for name in COUNTS)
    totals: dict[tuple[int, int, str, str], Sequence[int]] = {}
    for first, last in _split(reader):
        for player, game, listed, details, *values in reader.select(
            "SELECT player, game, ifnull(origins, ''), ifnull(details, ''), count(*),"  # noqa: S608 - our own names
            f" {sums} FROM seats JOIN episodes ON episodes.id = seats.episode"
            " WHERE seats.episode BETWEEN ? AND ? AND {wanted} GROUP BY 1, 2, 3, 4",
            first,
            last,
        ):
            group = player, game, listed, details
            before = totals.get(group)
            totals[group] = values if before is None else [*map(add, before, values)]
    for (player, game, listed, details), (seats, *counts) in sorted(totals.items()):
        yield SeatCounts(
            reader.player(player),
            reader.game(game),
            seats,
            dict(zip(COUNTS, counts, strict=True)),
            _parse_origins(listed, origins),
            parse_details(details or None),
        )


def _split(reader: Reader) -> Iterator[tuple[int, int]]:
    """Yield ranges that cover the ids of all episodes. SQLite can sort the seats of one range in
    the processor's cache, which halves the time."""
    ids = [number for (number,) in reader.select("SELECT id FROM episodes ORDER BY id")]
    for place in range(0, len(ids), _SORTED):
        yield ids[place], ids[min(place + _SORTED, len(ids)) - 1]


def _parse_origins(text: str, origins: Mapping[int, Origin]) -> list[tuple[Origin, int, int]]:
    try:
        counts = _Origins.validate_json(text or "[]")
        return [(origins[number], answers, illegal) for number, answers, illegal in counts]
    except ValidationError as error:
        raise UnreadableRow(f"seats.origins: {error.errors()[0]['msg']}") from error
    except KeyError as error:
        raise UnreadableRow(f"seats.origins: {error} is no stored origin") from error


def count_illegal(
    reader: Reader, episodes: Episodes, answers: NDArray[Any]
) -> Iterator[tuple[str, Numbers, Floats]]:
    """Yield each player with the places of the episodes in which it answered, and the share of
    its answers that was illegal in each of them. answers: see read_answers."""
    place = episodes.find(answers["episode"])
    for player in np.unique(answers["player"]):
        own = (answers["player"] == player) & (place >= 0)
        # A player can have several seats of an episode.
        places, at = np.unique(place[own], return_inverse=True)
        calls, illegal = (np.bincount(at, answers[name][own]) for name in ("calls", "illegal"))
        if len(places):
            yield reader.player(int(player)), places, illegal / calls


def read_culprits(reader: Reader) -> dict[int, set[str]]:
    """Return by the id of their row the episodes in which a call failed or a player gave up, and
    the players who did."""
    culprits: dict[int, set[str]] = {}
    for episode, player in reader.select(
        "SELECT episode, player FROM seats JOIN episodes ON episodes.id = seats.episode"
        " WHERE {wanted} AND (errors OR instr(details, '\"forfeit\"'))"
    ):
        culprits.setdefault(episode, set()).add(reader.player(player))
    return culprits

"""What an experiment's replies cost, over all its runs and processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields

from arena.agents.calls import ModelReply
from arena.results.rows import FailedCallRow


@dataclass(frozen=True, slots=True)
class Spent:
    """Prompt and completion tokens together, and 10^-12 US dollars, as far as known.

    uncounted: replies whose tokens are not known. unpriced: replies, and requests without a reply
    that may have been billed, whose cost is not known. bounded: how many of `unpriced` have a known
    upper bound; unpriced_picousd: the sum of these bounds.
    """

    tokens: int = 0
    cost_picousd: int = 0
    uncounted: int = 0
    unpriced: int = 0
    bounded: int = 0
    unpriced_picousd: int = 0

    def __neg__(self) -> Spent:
        return Spent(*(-value for value in self.values()))

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    @property
    def unbounded(self) -> int:
        """The number of requests whose cost has no known bound."""
        return self.unpriced - self.bounded

    def values(self) -> tuple[int, ...]:
        """The columns of the table runs, in the order of SUMS."""
        return tuple(getattr(self, name) for name in SUMS)


#: The columns of the table runs with these sums.
SUMS = tuple(field.name for field in fields(Spent))


#: Reasons of rows of failed_calls: a call that was sent and has no outcome yet, and one whose
#: outcome will not come. LOST stays until a later answer to the same request_id reports its cost.
SENT, LOST = "SENT", "LOST"

#: The sums over all runs of an experiment, including running ones of other processes.
_SPENT = (
    f"SELECT {', '.join(f'ifnull(sum({name}), 0)' for name in SUMS)}"  # noqa: S608 - our own names
    " FROM runs WHERE experiment = ?"
)

#: The last three values of a Spent, from rows of failed_calls of unknown cost.
_UNKNOWN = "count(*), count(max_cost_picousd), ifnull(sum(max_cost_picousd), 0)"

#: By the player's model, because the model that answered may have another name.
_BY_MODEL = """
SELECT name, sum(replies), sum(tokens), sum(cost), sum(uncounted), sum(unpriced) FROM (
    SELECT model AS name, calls AS replies, prompt_tokens + completion_tokens AS tokens,
        seats.cost_picousd AS cost, uncounted, unpriced
        FROM seats JOIN players ON players.id = seats.player
        JOIN episodes ON episodes.id = seats.episode
        WHERE model IS NOT NULL AND calls > 0 AND status <> 'failed'
    UNION ALL
    SELECT request ->> 'model', 1,
        ifnull(reply ->> 'prompt_tokens', 0) + ifnull(reply ->> 'completion_tokens', 0),
        ifnull(reply ->> 'cost_picousd', 0),
        (reply ->> 'prompt_tokens') + (reply ->> 'completion_tokens') IS NULL,
        reply ->> 'cost_picousd' IS NULL FROM calls
) GROUP BY name
"""


_ADD_SPENT = f"UPDATE runs SET {', '.join(f'{name} = {name} + ?' for name in SUMS)} WHERE id = ?"  # noqa: S608 - our own names


def read_spent(connection: sqlite3.Connection, experiment: str) -> Spent:
    """Return what all runs of an experiment have spent."""
    return Spent(*connection.execute(_SPENT, (experiment,)).fetchone())


def sum_notes(connection: sqlite3.Connection, condition: str, values: Sequence[object]) -> Spent:
    """Return the number and the bounds of the rows of failed_calls for which a condition holds."""
    (sums,) = connection.execute(
        f"SELECT {_UNKNOWN} FROM failed_calls WHERE {condition}",  # noqa: S608 - our own names
        values,
    )
    return Spent(0, 0, 0, *sums)


def give_up_sent_calls(connection: sqlite3.Connection) -> None:
    """Count the calls that were sent and have no outcome as lost: no process plays now."""
    runs = connection.execute("SELECT DISTINCT run FROM failed_calls WHERE reason = ?", (SENT,))
    for (run,) in runs.fetchall():
        add_spent(connection, run, sum_notes(connection, "run = ? AND reason = ?", (run, SENT)))
    connection.execute("UPDATE failed_calls SET reason = ? WHERE reason = ?", (LOST, SENT))


def read_by_model(connection: sqlite3.Connection) -> dict[str, tuple[int, Spent]]:
    """Return the number of each model's replies in all episodes, and what they cost."""
    rows = connection.execute(_BY_MODEL)
    return {model: (count, Spent(*sums)) for model, count, *sums in rows}


def add_spent(connection: sqlite3.Connection, run: int, usage: Spent) -> None:
    """Add a usage to a run, in the transaction that stores its reply."""
    connection.execute(_ADD_SPENT, (*usage.values(), run))


def usage_of_reply(reply: ModelReply) -> Spent:
    """Return what one reply cost."""
    return Spent(
        (reply.prompt_tokens or 0) + (reply.completion_tokens or 0),
        reply.cost_picousd or 0,
        uncounted=int(reply.prompt_tokens is None or reply.completion_tokens is None),
        **_count_unknown(reply),
    )


def usage_of_failure(row: FailedCallRow) -> Spent:
    """Return what a failed call cost, as far as its error reported it."""
    return Spent(
        (row.prompt_tokens or 0) + (row.completion_tokens or 0),
        row.cost_picousd or 0,
        **_count_unknown(row),
    )


def _count_unknown(paid: ModelReply | FailedCallRow) -> dict[str, int]:
    """The fields of a Spent for a request whose cost may not be known."""
    if paid.cost_picousd is not None:
        return {}
    most = paid.max_cost_picousd
    return {"unpriced": 1, "bounded": int(most is not None), "unpriced_picousd": most or 0}

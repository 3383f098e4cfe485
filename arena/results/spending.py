"""What an experiment's replies cost, over all its runs and processes."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from decimal import Decimal

from arena.agents.calls import ModelReply
from arena.results.rows import FailedCallRow, reply_from_json


@dataclass(frozen=True, slots=True)
class Spent:
    """Prompt and completion tokens together, and 10^-12 US dollars, as far as known.

    uncounted, unpriced: the number of replies, and of requests without a reply that may have been
    billed, whose tokens, or whose cost, are not known.
    """

    tokens: int = 0
    cost_picousd: int = 0
    uncounted: int = 0
    unpriced: int = 0

    @property
    def cost_usd(self) -> Decimal:
        """The known cost in US dollars, exactly."""
        return Decimal(self.cost_picousd).scaleb(-12)

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[int, int, int, int]:
        """The columns of the meter."""
        return self.tokens, self.cost_picousd, self.uncounted, self.unpriced


#: Reasons of rows of failed_calls: a call that was sent and has no outcome yet, and one whose
#: outcome will not come. They stay until a later answer to the same request_id tells what it cost.
SENT, LOST = "SENT", "LOST"

#: A table with one row, the total so far, which exists while a process has the file open. The
#: transaction that stores a reply also adds it here, so that every process knows the total.
#: `rewrite` leaves the table out of the finished file.
METER = (
    "CREATE TABLE meter (tokens INTEGER NOT NULL, cost_picousd INTEGER NOT NULL, "
    "uncounted INTEGER NOT NULL, unpriced INTEGER NOT NULL)"
)

#: The usage of replies, as columns of Spent.
_SUMS = """
    ifnull(sum(ifnull(prompt_tokens, 0) + ifnull(completion_tokens, 0)), 0),
    ifnull(sum(cost_picousd), 0),
    count(*) - count(prompt_tokens + completion_tokens),
    count(*) - count(cost_picousd)
"""

#: Of episodes that have not failed: the journal has the replies of failed ones.
_ENDED = f"""
SELECT {_SUMS} FROM moves WHERE model IS NOT NULL
    AND episode IN (SELECT episode FROM episodes WHERE status <> 'failed')
"""  # noqa: S608 - our own names

#: Of calls without a reply. Tokens that they do not report do not count as unknown.
_FAILED = """
SELECT ifnull(sum(ifnull(prompt_tokens, 0) + ifnull(completion_tokens, 0)), 0),
    ifnull(sum(cost_picousd), 0), 0, count(*) - count(cost_picousd) FROM failed_calls
"""

#: By the participant's model, because the model that answered may have another name.
_BY_MODEL = f"""
SELECT name, count(*), {_SUMS} FROM (
    SELECT models.model AS name, prompt_tokens, completion_tokens, cost_picousd
        FROM moves JOIN models USING (agent) WHERE moves.model IS NOT NULL
    UNION ALL
    SELECT request ->> 'model', reply ->> 'prompt_tokens',
        reply ->> 'completion_tokens', reply ->> 'cost_picousd' FROM calls
) GROUP BY name
"""  # noqa: S608 - our own names


def create_meter(connection: sqlite3.Connection) -> None:
    """Add up the stored replies, unless another process has created the meter already."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meter'").fetchone():
        return
    # No process plays, so what has been sent will have no outcome.
    connection.execute(f"UPDATE failed_calls SET reason = '{LOST}' WHERE reason = '{SENT}'")  # noqa: S608 - our own names
    spent = Spent(*connection.execute(_ENDED).fetchone())
    spent += Spent(*connection.execute(_FAILED).fetchone())
    for (text,) in connection.execute("SELECT reply FROM calls"):
        spent += usage_of_reply(reply_from_json(text))
    connection.execute(METER)
    connection.execute("INSERT INTO meter VALUES (?, ?, ?, ?)", spent.values())


def read_meter(connection: sqlite3.Connection) -> Spent:
    """Return what all processes have spent."""
    return Spent(*connection.execute("SELECT * FROM meter").fetchone())


def read_by_model(connection: sqlite3.Connection) -> dict[str, tuple[int, Spent]]:
    """Return the number of each model's replies, and what they cost."""
    rows = connection.execute(_BY_MODEL)
    return {model: (count, Spent(*sums)) for model, count, *sums in rows}


def add_to_meter(connection: sqlite3.Connection, usage: Spent) -> Spent:
    """Add a usage, in the transaction that stores its reply. Returns the new total."""
    (spent,) = connection.execute(
        "UPDATE meter SET tokens = tokens + ?, cost_picousd = cost_picousd + ?,"
        " uncounted = uncounted + ?, unpriced = unpriced + ? RETURNING *",
        usage.values(),
    )
    return Spent(*spent)


def usage_of_reply(reply: ModelReply) -> Spent:
    """Return what one reply cost."""
    return Spent(
        (reply.prompt_tokens or 0) + (reply.completion_tokens or 0),
        reply.cost_picousd or 0,
        uncounted=int(reply.prompt_tokens is None or reply.completion_tokens is None),
        unpriced=int(reply.cost_picousd is None),
    )


def usage_of_failure(row: FailedCallRow) -> Spent:
    """Return what a failed call cost, as far as its error reported it."""
    return Spent(
        (row.prompt_tokens or 0) + (row.completion_tokens or 0),
        row.cost_picousd or 0,
        unpriced=int(row.cost_picousd is None),
    )

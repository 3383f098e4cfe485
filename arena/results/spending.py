"""What an experiment's replies cost, over all its runs and processes."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from arena.agents.calls import ModelReply
from arena.results.rows import reply_from_json


class Spent(NamedTuple):
    """Prompt and completion tokens together, and US dollars."""

    tokens: int
    cost_usd: float


#: A table with one row, the total so far, which exists while a process has the file open. The
#: transaction that stores a reply also adds it here, so that every process knows the total.
#: `rewrite` leaves the table out of the finished file.
METER = "CREATE TABLE meter (tokens INTEGER NOT NULL, cost_usd REAL NOT NULL)"

#: Sums over episodes that have not failed: the journal has the replies of failed ones.
_ENDED = """
SELECT ifnull(sum(prompt_tokens + completion_tokens), 0), ifnull(sum(cost_usd), 0.0) FROM moves
WHERE model IS NOT NULL
    AND episode IN (SELECT episode FROM episodes WHERE status <> 'failed')
"""

#: By the participant's model, because the model that answered may have another name.
_BY_MODEL = """
SELECT model, count(*), sum(tokens), sum(cost_usd) FROM (
    SELECT models.model, prompt_tokens + completion_tokens AS tokens, ifnull(cost_usd, 0.0)
        AS cost_usd FROM moves JOIN models USING (agent) WHERE moves.model IS NOT NULL
    UNION ALL
    SELECT request ->> 'model', (reply ->> 'prompt_tokens') + (reply ->> 'completion_tokens'),
        ifnull(reply ->> 'cost_usd', 0.0) FROM calls
) GROUP BY model
"""


def create_meter(connection: sqlite3.Connection) -> None:
    """Add up the stored replies, unless another process has created the meter already."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meter'").fetchone():
        return
    tokens, cost = connection.execute(_ENDED).fetchone()
    for (text,) in connection.execute("SELECT reply FROM calls"):
        spent = usage_of_reply(reply_from_json(text))
        tokens += spent.tokens
        cost += spent.cost_usd
    connection.execute(METER)
    connection.execute("INSERT INTO meter VALUES (?, ?)", (tokens, cost))


def read_meter(connection: sqlite3.Connection) -> Spent:
    """Return what all processes have spent."""
    return Spent(*connection.execute("SELECT tokens, cost_usd FROM meter").fetchone())


def read_by_model(connection: sqlite3.Connection) -> dict[str, tuple[int, Spent]]:
    """Return the number of each model's replies, and what they cost."""
    rows = connection.execute(_BY_MODEL)
    return {model: (count, Spent(tokens, cost)) for model, count, tokens, cost in rows}


def add_to_meter(connection: sqlite3.Connection, reply: ModelReply) -> Spent:
    """Add a reply, in the transaction that stores it. Returns the new total."""
    (spent,) = connection.execute(
        "UPDATE meter SET tokens = tokens + ?, cost_usd = cost_usd + ? RETURNING tokens, cost_usd",
        usage_of_reply(reply),
    )
    return Spent(*spent)


def usage_of_reply(reply: ModelReply) -> Spent:
    """Return what one reply cost; an unknown cost counts as 0."""
    return Spent(reply.prompt_tokens + reply.completion_tokens, reply.cost_usd or 0.0)

"""What an experiment's replies took, over all its runs and processes."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from arena.agents.calls import ModelReply
from arena.results.codec import reply_from_json


class Spent(NamedTuple):
    """Prompt and completion tokens together, and US dollars."""

    tokens: int
    cost_usd: float


#: One row, there while some process is at it: each reply's own transaction keeps it, so
#: that each process knows of all. It is not a part of the finished file.
_METER = "CREATE TABLE meter (tokens INTEGER NOT NULL, cost_usd REAL NOT NULL)"

#: Failed episodes' replies are in the journal as well.
_PLAYED = """
SELECT ifnull(sum(prompt_tokens + completion_tokens), 0), ifnull(sum(cost_usd), 0.0) FROM moves
WHERE model IS NOT NULL
    AND episode IN (SELECT episode FROM episodes WHERE status <> 'failed')
"""


#: By the participant's model: the one that really answered may have another name.
_BY_MODEL = """
SELECT model, count(*), sum(tokens), sum(cost_usd) FROM (
    SELECT models.model, prompt_tokens + completion_tokens AS tokens, ifnull(cost_usd, 0.0)
        AS cost_usd FROM moves JOIN models USING (agent) WHERE moves.model IS NOT NULL
    UNION ALL
    SELECT request ->> 'model', (reply ->> 'prompt_tokens') + (reply ->> 'completion_tokens'),
        ifnull(reply ->> 'cost_usd', 0.0) FROM calls
) GROUP BY model
"""


def open_meter(connection: sqlite3.Connection) -> None:
    """Count what is there, unless another process keeps the meter already."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meter'").fetchone():
        connection.execute(_METER)
        connection.execute("INSERT INTO meter VALUES (?, ?)", _counted(connection))


def _counted(connection: sqlite3.Connection) -> Spent:
    tokens, cost = connection.execute(_PLAYED).fetchone()
    for (text,) in connection.execute("SELECT reply FROM calls"):
        of_reply = took(reply_from_json(text))
        tokens += of_reply.tokens
        cost += of_reply.cost_usd
    return Spent(tokens, cost)


def read_meter(connection: sqlite3.Connection) -> Spent:
    return Spent(*connection.execute("SELECT tokens, cost_usd FROM meter").fetchone())


def by_model(connection: sqlite3.Connection) -> dict[str, tuple[int, Spent]]:
    """How many replies of each model there are, and what they took."""
    rows = connection.execute(_BY_MODEL)
    return {model: (count, Spent(tokens, cost)) for model, count, tokens, cost in rows}


def add(connection: sqlite3.Connection, reply: ModelReply) -> Spent:
    """Count a reply; returns what was spent with it. For the reply's own transaction."""
    (spent,) = connection.execute(
        "UPDATE meter SET tokens = tokens + ?, cost_usd = cost_usd + ? RETURNING tokens, cost_usd",
        took(reply),
    )
    return Spent(*spent)


def took(reply: ModelReply) -> Spent:
    """What one reply took; nothing where nobody knows it."""
    return Spent(reply.prompt_tokens + reply.completion_tokens, reply.cost_usd or 0.0)

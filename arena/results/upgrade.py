"""Results files of earlier releases: they are read by copying them into a new file.

Version 4 of the schema had no upper bounds of unknown costs. Versions 2 and 3 had one experiment in
a file, and a row for each move. Their episodes count in reports, but not for new runs, because
their prompts and deals were different.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter

from arena.results.database import (
    connect,
    create_tables,
    mark_open,
    raise_results_errors,
    read_version,
    transaction,
)
from arena.results.integrity import VERSION
from arena.results.keys import hash_text, identify_players, identify_seat, make_episode_key
from arena.results.rows import (
    EpisodeRow,
    FailedCallRow,
    ModelRow,
    MoveRow,
    canonical_json,
    convert_old_reply,
    parse_json,
    reply_from_json,
)
from arena.results.spending import (
    LOST,
    SENT,
    SUMS,
    Spent,
    add_spent,
    usage_of_failure,
    usage_of_reply,
)
from arena.results.writer import Writer

#: The version of prompts and reader in files that do not say it.
LEGACY = "legacy"

#: A floating point number of dollars, rounded to a whole number of 10^-12 dollars. Costs under
#: a thousand dollars become exactly the decimal number that was stored.
_COST = "iif(abs(cost_usd) < 1e6, CAST(round(cost_usd * 1e12) AS INTEGER), NULL)"

_AGENTS = TypeAdapter(tuple[str, ...])
_RETURNS = TypeAdapter(tuple[float, ...])
_LEGAL = TypeAdapter(tuple[tuple[int, str], ...])


@contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a results file of any release, with the present tables. Raises ResultsError.

    The connection shows one snapshot, without what a run adds meanwhile.
    """
    with ExitStack() as files:
        connection = files.enter_context(closing(connect(path)))
        if read_version(connection) != VERSION:
            folder = files.enter_context(TemporaryDirectory(prefix="arena-old-"))
            copy = files.enter_context(closing(sqlite3.connect(Path(folder) / "results")))
            copy.isolation_level = None
            with raise_results_errors(path):
                create_tables(copy)
                mark_open(copy)
                with transaction(copy):
                    if read_version(connection) == 4:
                        _copy_tables(connection, copy)
                    else:
                        _Old(connection).copy(copy)
            connection = copy
        connection.execute("BEGIN")
        files.callback(connection.rollback)
        yield connection


def _copy_tables(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Copy all rows of version 4. Its unknown costs have no bounds."""
    # Text that is not UTF-8 must not make the rest unreadable.
    old.text_factory = lambda raw: raw.decode("utf-8", "replace")
    tables = old.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'meta'")
    for (table,) in tables.fetchall():
        names = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
        added = ["bounded", "unpriced_picousd"] if table == "runs" else []
        places = ["?"] * len(names) + ["0"] * len(added)
        new.executemany(
            f"INSERT INTO {table} ({', '.join(names + added)}) VALUES ({', '.join(places)})",  # noqa: S608 - our own names
            old.execute(f"SELECT {', '.join(names)} FROM {table}"),  # noqa: S608 - our own names
        )


class _Old:
    """A file of version 2 or 3."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        # Text that is not UTF-8 must not make the rest unreadable.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self._connection = connection
        self._execute = connection.execute
        self._is_first = read_version(connection) == 2
        row = self._execute("SELECT name, config FROM experiments").fetchone()
        self._name: str = row[0] if row else ""
        self._config: str = row[1] if row else "{}"
        rows = self._execute("SELECT agent, type, model, config FROM models")
        self._models = {
            agent: ModelRow(agent, kind, model, _drop_timeout(config))
            for agent, kind, model, config in rows
        }

    def copy(self, new: sqlite3.Connection) -> None:
        """Copy everything into the present tables."""
        episodes = list(self._episodes())
        for episode in episodes:
            for agent in episode.agents:
                self._models.setdefault(agent, ModelRow(agent, "unknown", None, "{}"))
        models = list(self._models.values())
        writer = Writer(new)
        new.execute("INSERT INTO experiments VALUES (?, ?)", (self._name, self._config))
        ids = writer.put_players(self._name, models)
        identities = {name: player for name, (player, _) in identify_players(models).items()}
        run = self._put_run(new)
        spent = Spent()
        keys: dict[str, str] = {}
        for old in episodes:
            moves = self._moves(old.episode)
            episode = self._rename(old, identities)
            keys[old.episode] = episode.episode
            writer.put_episode(episode, moves, ids, run)
            if episode.status != "failed":
                spent += _sum_up(moves)
        spent += self._copy_calls(new, keys)
        spent += self._copy_failed_calls(writer, keys, run)
        add_spent(new, run, spent)

    def _episodes(self) -> Iterator[EpisodeRow]:
        names = [field.name for field in fields(EpisodeRow)][:10]  # the columns of those files
        for row in self._execute(f"SELECT {', '.join(names)} FROM episodes ORDER BY episode"):  # noqa: S608 - our own names
            values = dict(zip(names, row, strict=True))
            where = f"episode {values['episode']!r}"
            values["agents"] = parse_json(_AGENTS, f"{where}: agents", values["agents"])
            values["returns"] = parse_json(_RETURNS, f"{where}: returns", values["returns"])
            yield EpisodeRow(**values)

    def _rename(self, old: EpisodeRow, identities: Mapping[str, str]) -> EpisodeRow:
        """Return the episode with a key of the present form, which no new run asks for."""
        versions = tuple(LEGACY if self._models[agent].model else "" for agent in old.agents)
        seats = [
            identify_seat(identities[agent], version)
            for agent, version in zip(old.agents, versions, strict=True)
        ]
        key = make_episode_key(LEGACY, json.dumps(old.game), None, seats, old.seed)
        values = {field.name: getattr(old, field.name) for field in fields(old)}
        return EpisodeRow(**values | {"episode": key, "versions": versions})

    def _moves(self, episode: str) -> list[MoveRow]:
        own = {row[1] for row in self._execute("PRAGMA table_info(moves)")}
        names = [field.name for field in fields(MoveRow)]
        columns = (
            name if name in own else f"{_COST if name == 'cost_picousd' else 'NULL'} AS {name}"
            for name in names
        )
        rows = self._execute(
            f"SELECT {', '.join(columns)} FROM moves WHERE episode = ?"  # noqa: S608 - our own names
            " ORDER BY ply, seat, attempt",
            (episode,),
        )
        moves = []
        for row in rows:
            values = dict(zip(names, row, strict=True))
            where = f"a move of {episode!r}: legal_actions"
            values["legal_actions"] = parse_json(_LEGAL, where, values["legal_actions"])
            moves.append(MoveRow(**values))
        return moves

    def _put_run(self, new: sqlite3.Connection) -> int:
        """Store one run for all of the file. Its key is the same whenever the file is copied."""
        key = hash_text(canonical_json([self._name, self._config]))
        new.execute(
            "INSERT INTO runs (key, experiment, started, arena, client, open_spiel, python, host,"  # noqa: S608 - our own names
            f" {', '.join(SUMS)}) VALUES (?, ?, 0, '', '', '', '', ''{', 0' * len(SUMS)})",
            (key, self._name),
        )
        return 1

    def _copy_calls(self, new: sqlite3.Connection, keys: Mapping[str, str]) -> Spent:
        """Copy the journal. Returns what its replies cost."""
        spent = Spent()
        for episode, *key, request, text in self._execute(
            "SELECT episode, ply, seat, attempt, request, reply FROM calls"
        ):
            reply = _convert_reply(text) if self._is_first else text
            spent += usage_of_reply(reply_from_json(reply))
            values = (keys.get(episode) or hash_text(episode), *key, request, reply)
            new.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", values)
        return spent

    def _copy_failed_calls(self, writer: Writer, keys: Mapping[str, str], run: int) -> Spent:
        spent = Spent()
        if not self._is_first:
            for row in self._execute("SELECT * FROM failed_calls ORDER BY 1, 2, 3, 4, 5"):
                call = FailedCallRow(keys.get(row[0]) or hash_text(row[0]), *row[1:])
                if call.reason == SENT:  # its run is over
                    call = replace(call, reason=LOST)
                writer.put_failed_call(call, run)
                spent += usage_of_failure(call)
        return spent


def _sum_up(moves: Sequence[MoveRow]) -> Spent:
    """Return what the replies of an episode cost."""
    spent = Spent()
    for move in moves:
        if move.model is not None:
            tokens = move.prompt_tokens, move.completion_tokens
            spent += Spent(
                sum(count or 0 for count in tokens),
                move.cost_picousd or 0,
                int(None in tokens),
                int(move.cost_picousd is None),
            )
    return spent


def _drop_timeout(config: str) -> str:
    """Return a player's settings without its time limit, which does not identify it."""
    try:
        values = json.loads(config)
        return canonical_json({k: v for k, v in values.items() if k != "timeout_seconds"})
    except (ValueError, AttributeError, RecursionError):
        return canonical_json({"unreadable": config})


def _convert_reply(text: str) -> str:
    try:
        return canonical_json(convert_old_reply(json.loads(text)))
    except (ValueError, ArithmeticError, TypeError, RecursionError):
        return text  # not a reply of the arena: reading it will say so
